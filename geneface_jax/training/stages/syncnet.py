"""SyncNet stage: the expert that scores whether mouth motion and speech are in sync."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from geneface_jax.data.corpus import EXTRA_VAL, training_corpus
from geneface_jax.data.speech_batches import AnyNormalizedClip, corpus_clips, draw_sync_pairs
from geneface_jax.data.subject import feature_types_of, record_feature_types
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES, SyncNet, cosine
from geneface_jax.training import devices
from geneface_jax.training.optimizers import adam, learning_rate, warm_up
from geneface_jax.training.speech_augment import augment_batch
from geneface_jax.training.speech_losses import SyncExpert, auc, sync_bce, windows_auc
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.typing import Metrics, State

HELD_OUT_SEED = 1


class SyncNetStage(Stage):
    """Binary cross-entropy on the cosine of clip pairs, half of them in sync."""

    unit = "clips"
    best = ("val/auc_clip", "max")
    charts = {
        "loss": ("tr/sync_loss", "val/sync_loss"),
        "accuracy": ("tr/accuracy", "val/auc_clip", "val/auc"),
        "optimizer": ("tr/lr", "tr/grad_norm"),
    }

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.items_per_step = config.data.batch
        corpus = training_corpus(config.data)
        record_feature_types(config, feature_types_of(corpus.meta))
        self.pairs, self.constants = corpus_clips(corpus, config.data.center, lead=config.data.get("lead", 0))
        self.network = SyncNet(config.model.base, axis_name=devices.AXIS)
        self.optimizer = adam(config.optimizer, config.train.steps)

    def phases(self) -> list[Phase]:
        """The full learning rate."""
        return warm_up("optimizer.", self.config.optimizer, self.config.train.steps)

    def init(self, rng: jax.Array) -> State:
        channels = self.pairs["train"][0].audio.shape[-1]
        variables = self.network.init(rng, jnp.zeros((1, AUDIO_FRAMES, channels)), jnp.zeros((1, MOUTH_FRAMES, 60)))
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
        return draw_sync_pairs(rng, self.pairs["train"], self.config.data.batch)

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        indices = devices.global_indices(batch["label"].shape[0])
        audio = batch["audio"]
        if self.config.data.augment.enabled:
            audio = augment_batch(rng, indices, audio, self.config.data.augment)

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state["batch_stats"]}
            embeddings, updates = self.network.apply(variables, audio, batch["mouth"], train=True, mutable=["batch_stats"])
            similarity = cosine(*embeddings)
            return sync_bce(similarity, batch["label"]), (updates["batch_stats"], similarity)

        (loss, (batch_stats, similarity)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state["params"])
        grads, loss = devices.mean((grads, loss))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        accuracy = devices.mean(jnp.mean(((similarity > 0.5) == (batch["label"] > 0.5)).astype(jnp.float32)))
        rate = learning_rate(self.config.optimizer, self.config.train.steps)(step)
        metrics = {"sync_loss": loss, "accuracy": accuracy, "grad_norm": optax.tree.norm(grads), "lr": rate}
        return {**state, "params": params, "batch_stats": batch_stats, "opt_state": opt_state}, metrics

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        expert = SyncExpert(SyncNet(self.config.model.base), variables, self.constants["motion_std"], self.config.data.center)
        scalars = self._scores(expert, self.pairs["val"], "val/")
        if self.pairs[EXTRA_VAL]:
            scalars |= self._scores(expert, self.pairs[EXTRA_VAL], "val_extra/")
        return Evaluation(scalars)

    def _scores(self, expert: SyncExpert, pairs: Sequence[AnyNormalizedClip], prefix: str) -> dict[str, float]:
        """Scores of held-out clips, with names that begin with `prefix`."""
        clips = draw_sync_pairs(np.random.default_rng([self.config.seed, HELD_OUT_SEED]), pairs, self.config.data.eval_clips)
        similarity = cosine(*jax.jit(expert.network.apply)(expert.variables, clips["audio"], clips["mouth"]))
        positive, cosines = clips["label"] > 0.5, np.asarray(similarity)
        return {
            f"{prefix}sync_loss": float(sync_bce(similarity, jnp.asarray(clips["label"]))),
            f"{prefix}auc_clip": auc(cosines[positive], cosines[~positive]),
            f"{prefix}auc": windows_auc(expert, pairs),
        }
