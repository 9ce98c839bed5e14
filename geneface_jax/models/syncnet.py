"""SyncNet: audio and mouth encoders into one embedding space, for lip synchronization (GeneFace's LandmarkHubertSyncNet)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.typing import Array, Float

from geneface_jax.models.layers import ConvBlocks

MOUTH_FRAMES = 5
"""Video frames of a clip, 0.2 s."""

AUDIO_FRAMES = 10
"""Audio frames of a clip: two for every video frame."""


def _encoder_specs(first: int, base: int, second_stride: int) -> tuple[tuple[int, int, int, int, bool], ...]:
    """(features, kernel, stride, padding, residual) of an encoder's 13 blocks."""

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
    """

    base: int = 128
    axis_name: str | None = None

    def setup(self) -> None:
        # Time steps: 10 -> 5 -> 3 -> 1 (audio), 5 -> 3 -> 1 (mouth).
        self.audio_encoder = ConvBlocks(_encoder_specs(self.base, self.base, second_stride=2), axis_name=self.axis_name)
        self.mouth_encoder = ConvBlocks(_encoder_specs(3 * self.base // 4, self.base, second_stride=1), axis_name=self.axis_name)

    def __call__(
        self, audio: Float[Array, "B 10 C"], mouth: Float[Array, "B 5 D"], train: bool = False
    ) -> tuple[Float[jax.Array, "B E"], Float[jax.Array, "B E"]]:
        """Embeddings of audio and mouth (points 48-67, xyz: D = 60), E = 4 * base."""
        return _unit(self.audio_encoder(audio, train)), _unit(self.mouth_encoder(mouth, train))


def _unit(features: Float[jax.Array, "B 1 E"]) -> Float[jax.Array, "B E"]:
    features = features.reshape(features.shape[0], -1)
    # 1e-30 keeps the gradient finite where every feature is zero; 1e-12 is the eps of torch.nn.functional.normalize.
    return features / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(features), -1, keepdims=True) + 1e-30), 1e-12)


def cosine(audio_embedding: Float[Array, "*batch E"], mouth_embedding: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
    """Cosine similarity of unit vectors."""
    return jnp.sum(audio_embedding * mouth_embedding, axis=-1)
