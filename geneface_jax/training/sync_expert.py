"""A trained SyncNet as a judge: a loss for the motion networks, and scores for evaluation. Its batch norm stays frozen.

(GeneFace leaves the expert's batch norm in training mode inside other stages, so its statistics drift there; see docs/deviations.md.)
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.data.compatibility import DataKind, kind_of
from geneface_jax.data.speech_batches import MOUTH, clips_at, positive_clips
from geneface_jax.models.syncnet import MOUTH_FRAMES, SyncNet, cosine
from geneface_jax.training.losses_motion import sync_bce

WINDOW = 25
"""Video frames of a scored window: one second."""

LENGTH_BUCKET = 64


@dataclasses.dataclass(frozen=True)
class SyncExpert:
    """A frozen SyncNet.

    Attributes:
      network: the module.
      variables: {"params", "batch_stats"}.
      std: [204] the scale of its network space.
      center: "speaker" or "none": what is subtracted from a motion before scaling.
      kind: of the landmarks and audio features it was trained on.
    """

    network: SyncNet
    variables: dict[str, Any]
    std: np.ndarray
    center: str
    kind: DataKind = DataKind()

    @classmethod
    def load(cls, workdir: str | os.PathLike[str], step: int | None = None) -> SyncExpert:
        """Reads a SyncNet's work folder. Raises InputError when there is no checkpoint."""
        from geneface_jax.io import checkpoints

        checkpoint = checkpoints.load(workdir, step)
        state, data = checkpoint.state, checkpoint.config.data
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        return cls(SyncNet(checkpoint.config.model.base), variables, state["constants"]["motion_std"], data.center, kind_of(data))

    def loss(
        self, rng: jax.Array, indices: jax.Array, audio: jax.Array, motion: jax.Array, std: jax.Array, mask: jax.Array, per_item: int
    ) -> jax.Array:
        """Cross-entropy of "in sync" over clips drawn from a batch; its gradient flows to the motion.

        Args: as `positive_clips`, with motion [B, T, 204] in a network space of scale std [204] (centred as this expert's).
        """
        audio_clips, mouth = positive_clips(rng, indices, audio, motion, mask, per_item)
        ratio = (std / self.std)[MOUTH]
        audio_embedding, mouth_embedding = self.network.apply(self.variables, audio_clips, mouth * ratio)
        return sync_bce(cosine(audio_embedding, mouth_embedding), 1.0)

    def embed(self, audio: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of all T - 4 clips of a sequence: audio [2T, C], motion [T, 204] in this expert's space; two [T - 4, D] arrays."""
        # Rounded up to a common length, so that clips of many lengths share a few compilations.
        frames = len(motion)
        padding = -frames % LENGTH_BUCKET
        audio = np.pad(audio, ((0, 2 * padding), (0, 0)))
        motion = np.pad(motion, ((0, padding), (0, 0)))
        audio_embedding, mouth_embedding = _embed(self.network, self.variables, audio, motion)
        clips = max(frames - MOUTH_FRAMES + 1, 0)
        return np.asarray(audio_embedding)[:clips], np.asarray(mouth_embedding)[:clips]


@functools.partial(jax.jit, static_argnums=0)
def _embed(network: SyncNet, variables: dict[str, Any], audio: jax.Array, motion: jax.Array) -> tuple[jax.Array, jax.Array]:
    return network.apply(variables, *clips_at(audio, motion, jnp.arange(motion.shape[0] - MOUTH_FRAMES + 1)))


def window_scores(audio_embedding: np.ndarray, mouth_embedding: np.ndarray, shift: int = 0) -> np.ndarray:
    """Mean cosine of every one-second window whose audio is `shift` frames late; [n] (empty when the clip is too short)."""
    n = min(len(audio_embedding), len(mouth_embedding)) - abs(shift)
    per_window = WINDOW - MOUTH_FRAMES + 1
    if n < per_window:
        return np.zeros(0, np.float32)
    a, m = max(shift, 0), max(-shift, 0)
    similarity = np.sum(np.asarray(audio_embedding[a : a + n]) * np.asarray(mouth_embedding[m : m + n]), axis=-1)
    return np.convolve(similarity, np.full(per_window, 1.0 / per_window), mode="valid").astype(np.float32)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive scores above a negative (ties count half); NaN when either is empty."""
    positive, negative = np.asarray(positive, np.float64), np.sort(np.asarray(negative, np.float64))
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2.0 * len(negative)))
