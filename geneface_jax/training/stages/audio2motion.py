"""Audio2motion stage: the VAE from speech to landmarks; its gradients are shared with PostNet's fine-tuning on one person."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.corpus import EXTRA_VAL, MOTION_DIM, training_corpus
from geneface_jax.data.speech_batches import STARTS, AnyNormalizedClip, corpus_clips, sample_windows, silence, typical_amplitudes
from geneface_jax.data.subject import FeatureTypes, feature_types_of, record_feature_types, require_same_features
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion, Voice, generate, typical_voice
from geneface_jax.training import devices
from geneface_jax.training.optimizers import adam, learning_rate, warm_up
from geneface_jax.training.speech_augment import augment_windows
from geneface_jax.training.speech_losses import SyncExpert, continuity, kl_single_sample, masked_mse, sync_bce, upper_face_weights
from geneface_jax.training.speech_validation import landmark_video_summary, motion_metrics
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.typing import Metrics, State


def build_network(model: ConfigDict, axis_name: str | None = None) -> Audio2Motion:
    """The VAE of a model config, whose keys are the module's attributes."""
    return Audio2Motion(**model.to_dict(), axis_name=axis_name)


def voice_of(batch: Mapping[str, jax.Array]) -> Voice:
    """Pitch, blinks and amplitudes of a batch of windows (`data.speech_batches`)."""
    return Voice(batch["f0"], batch["blink"], batch["mouth_amp"], batch["eye_amp"])


def item_noise(rng: jax.Array, indices: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[B, *shape] standard normal; an item's draw depends only on its index in the global batch."""
    return jax.vmap(lambda index: jax.random.normal(jax.random.fold_in(rng, index), shape))(indices)


def vae_gradients(
    network: Audio2Motion,
    variables: Mapping[str, Any],
    batch: Mapping[str, jax.Array],
    indices: jax.Array,
    weights: Mapping[str, Any],
    rng: jax.Array,
    expert: SyncExpert | None,
    std: jax.Array,
    clips_per_item: int,
    train_statistics: bool = True,
) -> tuple[Any, dict[str, jax.Array], Any]:
    """Gradient, losses and new batch statistics, averaged over devices.

    Args:
      network: the VAE with `axis_name=devices.AXIS`.
      variables: {"params", "batch_stats"}.
      batch: audio [B, 2T, C], motion [B, T, 204], mask [B, T], and the parts of the voice (`voice_of`).
      indices: [B] indices of the items in the global batch, for random draws.
      weights: of `mse`, `continuity`, `kl`, `sync` (numbers or traced scalars); `mse_upper`, a number, is the factor on the squared error
        of brows, nose and eyes, 1 if absent.
      rng: key, the same on all devices.
      expert: the frozen SyncNet, or None (then `sync` is 0).
      std: [204] scale of the batch's network space.
      clips_per_item: number of clips per item that the expert scores.
      train_statistics: False keeps batch norm at its running statistics.
    """
    rng_noise, rng_clips = jax.random.split(rng)
    points = jnp.asarray(upper_face_weights(weights.get("mse_upper", 1.0)))
    noise = item_noise(rng_noise, indices, (batch["mask"].shape[1] // STRIDE, network.latent))

    def loss_fn(params):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        (prediction, posterior), updates = network.apply(
            collections,
            batch["motion"],
            batch["mask"],
            batch["audio"],
            noise,
            train=train_statistics,
            voice=voice_of(batch),
            mutable=["batch_stats"],
        )
        losses = {
            "mse": masked_mse(prediction, batch["motion"], batch["mask"], points),
            "continuity": continuity(prediction, batch["motion"], batch["mask"]),
            "kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
            "sync": jnp.zeros(()),
        }
        if expert is not None:
            losses["sync"] = expert.loss(rng_clips, indices, batch["audio"], prediction, std, batch["mask"], clips_per_item)
        total = sum(weights[name] * value for name, value in losses.items())
        return total, (losses, updates["batch_stats"])

    grads, (losses, batch_stats) = jax.grad(loss_fn, has_aux=True)(variables["params"])
    return devices.mean(grads), devices.mean(losses), devices.mean(batch_stats)


SYNC_AVERAGE = 0.99
"""Decay of the running mean of the sync loss that opens the gate."""

EVAL_SEED = 0


class Audio2MotionStage(Stage):
    """Losses: reconstruction, continuity, KL to a flow prior, and the sync loss of a frozen SyncNet.

    The sync loss is switched on permanently (the gate opens) once its running mean is at most `loss.sync_gate`. The gate is part of the
    state, so a resumed run keeps it (the original decided at validation and forgot it on restart).

    With `model.pitch` it is the pitch-aware VAE of GeneFace++, whose inputs include pitch, blinks and amplitudes of every clip. In
    evaluation its inputs are the pitch and the typical amplitudes of the training clips, as the true amplitudes would leak information.
    """

    unit = "clips"
    best = ("val/lmd_ratio", "min")
    charts = {
        "reconstruction": ("tr/mse", "tr/continuity", "val/mse"),
        "sync": ("tr/sync", "val/sync", "tr/sync_gate"),
        "prior": ("tr/kl",),
        "optimizer": ("tr/lr", "tr/grad_norm"),
    }

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.items_per_step = config.data.batch
        if config.data.window % STRIDE:
            raise InputError(f"config.data.window is {config.data.window}: give a multiple of {STRIDE}.")
        corpus = training_corpus(config.data)
        record_feature_types(config, feature_types_of(corpus.meta))
        self.pairs, self.constants = corpus_clips(corpus, config.data.center, lead=config.data.get("lead", 0))
        self.expert = load_expert(config.data.syncnet, config.loss.sync, config.data, feature_types_of(corpus.meta))
        self.network = build_network(config.model, devices.AXIS)
        if self.network.needs_voice:
            self.constants |= typical_amplitudes(self.pairs["train"])
        self.optimizer = adam(config.optimizer, config.train.steps)

    def phases(self) -> list[Phase]:
        """The full learning rate."""
        return warm_up("optimizer.", self.config.optimizer, self.config.train.steps)

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
        data = self.config.data
        return sample_windows(rng, self.pairs["train"], data.batch, data.window, data.get("draw", STARTS))

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        rng_audio, rng_loss = jax.random.split(rng)
        indices = devices.global_indices(batch["mask"].shape[0])
        if self.config.data.augment.enabled:
            batch = augment_windows(rng_audio, indices, batch, self.config.data.augment)
        expert = dataclasses.replace(self.expert, variables=data) if self.expert else None
        loss, gate = self.config.loss, state["sync_gate"]
        weights = {**loss.to_dict(), "sync": loss.sync * gate["open"]}
        clips = -(-loss.sync_clips // self.config.data.batch)
        grads, losses, batch_stats = vae_gradients(
            self.network, state, batch, indices, weights, rng_loss, expert, state["constants"]["motion_std"], clips
        )
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        # The running mean starts at the loss of the first step.
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
        scalars, predictions = self._scores(network, variables, self.pairs["val"], "val/")
        if self.pairs[EXTRA_VAL]:
            scalars |= self._scores(network, variables, self.pairs[EXTRA_VAL], "val_extra/")[0]
        std, mean = self.constants["motion_std"], self.constants["motion_mean"]
        video = landmark_video_summary(self.pairs["val"][0].motion, predictions[0], std, mean, self.config.eval_video)
        return Evaluation(scalars, videos=video)

    def _scores(
        self, network: Audio2Motion, variables: dict[str, Any], pairs: Sequence[AnyNormalizedClip], prefix: str
    ) -> tuple[dict[str, float], list[np.ndarray]]:
        """Scores of clips, with names that begin with `prefix`, and the predicted motion."""
        quiet = silence(1, pairs[0].audio.shape[-1])[0]
        rng = jax.random.key(EVAL_SEED)
        predictions = [
            generate(network, variables, pair.audio, quiet, rng, 0.0, voice=typical_voice(pair.f0[None], self.constants)) for pair in pairs
        ]
        scalars = motion_metrics(predictions, [pair.motion for pair in pairs], prefix)
        if self.expert:
            cosines = [
                expert_cosines(self.expert, pair.audio, motion, self.constants["motion_std"])
                for pair, motion in zip(pairs, predictions, strict=True)
            ]
            scalars[f"{prefix}sync"] = float(sync_bce(jnp.concatenate(cosines), 1.0))
        return scalars, predictions


def expert_cosines(expert: SyncExpert, audio: np.ndarray, motion: np.ndarray, std: np.ndarray) -> jax.Array:
    """[T - 4] cosine of every clip of a sequence; motion [T, 204] in a network space of scale `std`."""
    audio_embedding, mouth_embedding = expert.embed(audio, motion * (std / expert.std))
    return jnp.sum(audio_embedding * mouth_embedding, axis=-1)


def load_expert(workdir: str, weight: float, data: ConfigDict, kind: FeatureTypes) -> SyncExpert | None:
    """The frozen SyncNet; None if the weight of its loss is 0.

    Raises InputError if it is not given, absent, or was trained on other feature types, or with another `data.center` or `data.lead`.
    """
    if not weight:
        return None
    if not workdir:
        raise InputError(
            "config.data.syncnet is empty: give a trained SyncNet's work folder, or switch it off with --config.loss.sync=0.0."
        )
    expert = SyncExpert.load(workdir)
    require_same_features(f"the SyncNet in {workdir}", expert.kind, "this stage's data", kind)
    for name, theirs, ours in (("center", expert.center, data.center), ("lead", expert.lead, data.get("lead", 0))):
        if theirs != ours:
            raise InputError(
                f"The SyncNet in {workdir} was trained with data.{name} {theirs!r}, but this stage uses {ours!r}: use the same."
            )
    return expert
