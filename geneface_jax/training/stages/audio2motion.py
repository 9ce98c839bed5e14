"""Stage: the audio2motion VAE, pitch-aware or not, speech of any speaker -> landmarks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import DataKind, kind_of, record_kind, require_same
from geneface_jax.data.corpus import MOTION_DIM, Corpus
from geneface_jax.data.speech_batches import corpus_pairs, sample_windows, silence, typical_amplitudes
from geneface_jax.models.audio2motion import STRIDE, Voice
from geneface_jax.models.speech_to_motion import generate, typical_voice
from geneface_jax.training import devices
from geneface_jax.training.optimizers import adam, learning_rate
from geneface_jax.training.speech.augment import augment_windows
from geneface_jax.training.speech.losses import sync_bce
from geneface_jax.training.speech.sync import SyncExpert
from geneface_jax.training.speech.vae_step import build_network, vae_gradients
from geneface_jax.training.speech.validation import landmark_clip, summarise
from geneface_jax.training.stage import Evaluation, Metrics, State

SYNC_AVERAGE = 0.99
"""Decay of the running sync loss that opens the gate."""

EVAL_SEED = 0


class Audio2MotionStage:
    """Reconstruction, continuity, KL to a flow prior, and a frozen SyncNet's opinion.

    The sync loss joins when motion and speech agree enough: the first time its running mean reaches `loss.sync_gate`, and for good. The
    gate is part of the state, so a resumed run keeps it (the original looked only at validation and forgot it on restart).

    With `model.pitch` it is the pitch-aware VAE of GeneFace++, told the pitch, blinks and amplitudes of every clip. In evaluation it is
    told the pitch and what is typical of the training clips: the truth's own amplitude would be a hint.
    """

    unit = "clips"
    best = ("val/lmd_ratio", "min")
    charts = {
        "reconstruction": ("tr/mse", "tr/continuity", "val/mse"),
        "sync": ("tr/sync", "val/sync", "tr/sync_gate"),
        "prior": ("tr/kl",),
        "optimiser": ("tr/lr", "tr/grad_norm"),
    }

    def __init__(self, config: ConfigDict):
        self.config = config
        self.items_per_step = config.data.batch
        if config.data.window % STRIDE:
            raise InputError(f"config.data.window is {config.data.window}; write a multiple of {STRIDE}.")
        corpus = Corpus.load(config.data.corpus)
        record_kind(config, kind_of(corpus.meta))
        self.pairs, self.constants = corpus_pairs(corpus, config.data.center)
        self.expert = load_expert(config.data.syncnet, config.loss.sync, config.data.center, kind_of(corpus.meta))
        self.network = build_network(config.model, devices.AXIS)
        if self.network.pitch:
            self.constants |= typical_amplitudes(self.pairs["train"])
        self.optimizer = adam(config.optimizer, config.train.steps)

    def init(self, rng: jax.Array) -> State:
        frames, channels = self.config.data.window, self.pairs["train"][0].audio.shape[-1]
        variables = build_network(self.config.model).init(
            rng,
            jnp.zeros((1, frames, MOTION_DIM)),
            jnp.ones((1, frames)),
            jnp.zeros((1, 2 * frames, channels)),
            jnp.zeros((1, frames // STRIDE, self.network.latent)),
            voice=Voice.of(jnp.zeros((1, 2 * frames))),
        )
        return {
            "params": variables["params"],
            "batch_stats": variables["batch_stats"],
            "opt_state": self.optimizer.init(variables["params"]),
            "constants": {name: jnp.asarray(value) for name, value in self.constants.items()},
            "sync_gate": {"open": jnp.zeros(()), "average": jnp.ones(())},
        }

    def data(self) -> Any:
        """The frozen expert's variables."""
        return self.expert.variables if self.expert else {}

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.config.seed, step])
        return sample_windows(rng, self.pairs["train"], self.config.data.batch, self.config.data.window)

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        rng_audio, rng_loss = jax.random.split(rng)
        indices = devices.global_indices(batch["mask"].shape[0])
        if self.config.data.augment.enabled:
            batch = augment_windows(rng_audio, indices, batch, self.config.data.augment)
        expert = dataclasses.replace(self.expert, variables=data) if self.expert else None
        loss, gate = self.config.loss, state["sync_gate"]
        weights = {"mse": loss.mse, "continuity": loss.continuity, "kl": loss.kl, "sync": loss.sync * gate["open"]}
        clips = -(-loss.sync_clips // self.config.data.batch)
        grads, losses, batch_stats = vae_gradients(
            self.network, state, batch, indices, weights, rng_loss, expert, state["constants"]["motion_std"], clips
        )
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        # The average starts from the first step's own loss.
        keep = jnp.where(step == 0, 0.0, SYNC_AVERAGE)
        average = keep * gate["average"] + (1.0 - keep) * losses["sync"]
        gate = {"open": jnp.maximum(gate["open"], (average <= loss.sync_gate).astype(jnp.float32)), "average": average}
        state = {
            **state,
            "params": optax.apply_updates(state["params"], updates),
            "batch_stats": batch_stats,
            "opt_state": opt_state,
            "sync_gate": gate,
        }
        rate = learning_rate(self.config.optimizer, self.config.train.steps)(step)
        return state, {**losses, "sync_gate": gate["open"], "grad_norm": optax.tree.norm(grads), "lr": rate}

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        network = build_network(self.config.model)
        pairs = self.pairs["val"]
        quiet = silence(1, pairs[0].audio.shape[-1])[0]
        rng = jax.random.key(EVAL_SEED)
        predictions = [
            generate(network, variables, pair.audio, quiet, rng, 0.0, voice=typical_voice(pair.f0[None], self.constants)) for pair in pairs
        ]
        scalars = summarise(predictions, [pair.motion for pair in pairs])
        if self.expert:
            cosines = [
                expert_cosines(self.expert, pair.audio, motion, self.constants["motion_std"])
                for pair, motion in zip(pairs, predictions, strict=True)
            ]
            scalars["val/sync"] = float(sync_bce(jnp.concatenate(cosines), 1.0))
        std, mean = self.constants["motion_std"], self.constants["motion_mean"]
        return Evaluation(scalars, videos=landmark_clip(pairs[0].motion, predictions[0], std, mean, self.config.eval_video))


def expert_cosines(expert: SyncExpert, audio: np.ndarray, motion: np.ndarray, std: np.ndarray) -> jax.Array:
    """[T - 4] cosine of every clip of a sequence; motion [T, 204] in a network space of scale std."""
    audio_embedding, mouth_embedding = expert.embed(audio, motion * (std / expert.std))
    return jnp.sum(audio_embedding * mouth_embedding, axis=-1)


def load_expert(workdir: str, weight: float, center: str, kind: DataKind) -> SyncExpert | None:
    """The frozen SyncNet; None when its weight is 0.

    Raises:
      InputError: it is wanted but not given, absent, or was trained in another network space or on another kind of data.
    """
    if not weight:
        return None
    if not workdir:
        raise InputError(
            "config.data.syncnet is empty: give a trained SyncNet's work folder, or switch it off with --config.loss.sync=0.0."
        )
    expert = SyncExpert.load(workdir)
    require_same(f"the SyncNet in {workdir}", expert.kind, "this stage's data", kind)
    if expert.center != center:
        raise InputError(
            f'the SyncNet in {workdir} was trained with data.center "{expert.center}", this stage uses "{center}"; use the same.'
        )
    return expert


def make(config: ConfigDict) -> Audio2MotionStage:
    """The stage of `configs/audio2motion.py` and `configs/audio2motion_pitch.py`."""
    return Audio2MotionStage(config)
