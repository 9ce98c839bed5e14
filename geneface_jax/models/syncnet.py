"""SyncNet: does this mouth belong to this sound? Two encoders into one space (GeneFace's LandmarkHubertSyncNet)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers import ConvBlocks

MOUTH_FRAMES = 5
"""Video frames of a clip, 0.2 s."""

AUDIO_FRAMES = 10
"""Audio frames of a clip: two for every video frame."""


def _audio_specs(base: int) -> tuple[tuple[int, int, int, int, bool], ...]:
    """(features, kernel, stride, padding, residual) of the 13 audio blocks; time 10 -> 5 -> 3 -> 1."""
    return _trunk(base, base, second_stride=2)


def _mouth_specs(base: int) -> tuple[tuple[int, int, int, int, bool], ...]:
    """The 13 mouth blocks; time 5 -> 3 -> 1."""
    return _trunk(3 * base // 4, base, second_stride=1)


def _trunk(first: int, base: int, second_stride: int) -> tuple[tuple[int, int, int, int, bool], ...]:
    def pair(features: int) -> list[tuple[int, int, int, int, bool]]:
        return [(features, 3, 1, 1, True)] * 2

    return (
        (first, 3, 1, 1, False),
        (base, 3, 1, 1, False),
        *pair(base),
        (2 * base, 3, 2, 1, False),
        *pair(2 * base),
        (4 * base, 3, second_stride, 1, False),
        *pair(4 * base),
        (4 * base, 3, 1, 1, False),
        (4 * base, 3, 1, 0, False),
        (4 * base, 1, 1, 0, False),
    )


class SyncNet(nn.Module):
    """Embeds audio and mouth clips as unit vectors with entries >= 0 (both encoders end in a ReLU), so their cosine is in [0, 1].

    Attributes:
      base: width; 128 is the original.
      axis_name: mapped axis over which batch statistics are shared, or None.
    """

    base: int = 128
    axis_name: str | None = None

    def setup(self) -> None:
        self.audio_encoder = ConvBlocks(_audio_specs(self.base), axis_name=self.axis_name)
        self.mouth_encoder = ConvBlocks(_mouth_specs(self.base), axis_name=self.axis_name)

    def __call__(self, audio: jax.Array, mouth: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Args: audio [B, 10, C]; mouth [B, 5, 60] (points 48-67, xyz). Returns two [B, 4 * base] unit vectors (audio, mouth)."""
        return _unit(self.audio_encoder(audio, train)), _unit(self.mouth_encoder(mouth, train))


def _unit(features: jax.Array) -> jax.Array:
    features = features.reshape(features.shape[0], -1)
    # The tiny number under the root keeps the gradient finite where every feature is zero (torch.nn.functional.normalize has eps 1e-12).
    return features / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(features), -1, keepdims=True) + 1e-30), 1e-12)


def cosine(audio_embedding: jax.Array, mouth_embedding: jax.Array) -> jax.Array:
    """Cosine of unit vectors [..., D] -> [...]."""
    return jnp.sum(audio_embedding * mouth_embedding, axis=-1)
