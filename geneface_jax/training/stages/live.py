"""Live stage: a causal network from live speech features to landmarks, by regression on the motion of its corpora."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.corpus import EXTRA_VAL, MOTION_DIM, training_corpus
from geneface_jax.data.speech_batches import AnyNormalizedClip, corpus_clips, sample_windows
from geneface_jax.data.subject import feature_types_of, record_feature_types
from geneface_jax.models.audio2motion import BUCKET
from geneface_jax.models.live_motion import LiveMotion
from geneface_jax.training import devices
from geneface_jax.training.optimizers import adam, learning_rate, warm_up
from geneface_jax.training.speech_augment import augment_windows
from geneface_jax.training.speech_losses import continuity, masked_mse, upper_face_weights
from geneface_jax.training.speech_validation import landmark_video_summary, motion_metrics
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.typing import Metrics, State


class LiveStage(Stage):
    """Losses: squared error of motion and of its frame-to-frame differences.

    The corpora hold the motion to learn: a mean of the truth and of what the offline networks say, which for squared errors is the same as
    learning from both.
    """

    unit = "clips"
    best = ("val/lmd_ratio", "min")
    charts = {"error": ("tr/mse", "tr/continuity", "val/mse"), "optimizer": ("tr/lr", "tr/grad_norm")}

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.items_per_step = config.data.batch
        if config.data.window <= config.model.delay:
            raise InputError(f"config.data.window is {config.data.window}: give more than config.model.delay ({config.model.delay}).")
        corpus = training_corpus(config.data)
        record_feature_types(config, feature_types_of(corpus.meta))
        std = np.full(MOTION_DIM, config.data.scale, np.float32) if config.data.scale else None
        self.pairs, self.constants = corpus_clips(corpus, "speaker", std)
        self.network = LiveMotion(**config.model.to_dict(), axis_name=devices.AXIS)
        self.optimizer = adam(config.optimizer, config.train.steps)

    def phases(self) -> list[Phase]:
        """The full learning rate."""
        return warm_up("optimizer.", self.config.optimizer, self.config.train.steps)

    def init(self, rng: jax.Array) -> State:
        audio = jnp.zeros((1, 2 * self.config.data.window, self.pairs["train"][0].audio.shape[-1]))
        variables = self.network.init(rng, audio)
        return {
            "params": variables["params"],
            "batch_stats": variables["batch_stats"],
            "opt_state": self.optimizer.init(variables["params"]),
            "constants": {name: jnp.asarray(value) for name, value in self.constants.items()},
        }

    def data(self) -> Any:
        return ()

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.config.seed, step])
        batch = sample_windows(rng, self.pairs["train"], self.config.data.batch, self.config.data.window, self.config.data.draw)
        return {name: batch[name] for name in ("audio", "motion", "mask")}

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        loss = self.config.loss
        if self.config.data.augment.enabled:
            indices = devices.global_indices(batch["mask"].shape[0])
            strength = {name: value for name, value in self.config.data.augment.items() if name != "f0"}
            batch = augment_windows(rng, indices, batch, strength)
        # Frames whose sound, or the sound that the network hears after it, is beyond the clip's end don't count.
        delay = self.config.model.delay
        truth, mask = batch["motion"][:, : -delay or None], batch["mask"][:, delay:]
        points = jnp.asarray(upper_face_weights(loss.mse_upper))

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            prediction, updates = self.network.apply(variables, batch["audio"], train=True, mutable=["batch_stats"])
            prediction = prediction[:, delay:]
            losses = {"mse": masked_mse(prediction, truth, mask, points), "continuity": continuity(prediction, truth, mask)}
            return loss.mse * losses["mse"] + loss.continuity * losses["continuity"], (losses, updates["batch_stats"])

        grads, (losses, batch_stats) = jax.grad(loss_fn, has_aux=True)(state["params"])
        grads, losses, batch_stats = devices.mean((grads, losses, batch_stats))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        state = {**state, "params": optax.apply_updates(state["params"], updates), "batch_stats": batch_stats, "opt_state": opt_state}
        rate = learning_rate(self.config.optimizer, self.config.train.steps)(step)
        return state, {**losses, "grad_norm": optax.tree.norm(grads), "lr": rate}

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        scalars, predictions = self._scores(variables, self.pairs["val"], "val/")
        if self.pairs[EXTRA_VAL]:
            scalars |= self._scores(variables, self.pairs[EXTRA_VAL], "val_extra/")[0]
        std, mean = self.constants["motion_std"], self.constants["motion_mean"]
        truth = self.pairs["val"][0].motion[: len(predictions[0])]
        return Evaluation(scalars, videos=landmark_video_summary(truth, predictions[0], std, mean, self.config.eval_video))

    def _scores(
        self, variables: dict[str, Any], pairs: Sequence[AnyNormalizedClip], prefix: str
    ) -> tuple[dict[str, float], list[np.ndarray]]:
        """Scores of clips, with names that begin with `prefix`, and the predicted motion, which ends `delay` frames before the clip."""
        network, delay = LiveMotion(**self.config.model.to_dict()), self.config.model.delay
        apply = jax.jit(network.apply)
        pairs = [pair for pair in pairs if pair.n_frames > delay]
        predictions = []
        for pair in pairs:
            padded = np.pad(pair.audio, ((0, -len(pair.audio) % (2 * BUCKET)), (0, 0)))
            predictions.append(np.asarray(apply(variables, padded[None]))[0, delay : pair.n_frames])
        return motion_metrics(predictions, [pair.motion[: pair.n_frames - delay] for pair in pairs], prefix), predictions
