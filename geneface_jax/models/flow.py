"""The prior flow of the audio2motion VAE: volume-preserving couplings between the posterior and a standard normal (Glow-TTS / VITS)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers_1d import Conv1d
from geneface_jax.models.wavenet import WaveNet


class MeanCoupling(nn.Module):
    """Shifts the second half of the channels by a function of the first half and the condition; its log-determinant is 0.

    Starts as the identity (the last layer starts at zero). The first half passes unmasked, as in the original.
    """

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(self, z: jax.Array, mask: jax.Array, condition: jax.Array, inverse: bool) -> jax.Array:
        first, second = jnp.split(z, 2, axis=-1)
        h = Conv1d(self.hidden, name="pre")(first) * mask
        h = WaveNet(self.hidden, self.layers, self.kernel_size, name="wavenet")(h, mask, condition)
        shift = Conv1d(second.shape[-1], zero_init=True, name="post")(h) * mask
        second = (second - shift) * mask if inverse else shift + second * mask
        return jnp.concatenate([first, second], axis=-1)


class PriorFlow(nn.Module):
    """A chain of couplings, the channel order reversed after each.

    Attributes:
      blocks: number of couplings.
      hidden, layers, kernel_size: of each coupling's WaveNet.
    """

    blocks: int = 4
    hidden: int = 64
    layers: int = 4
    kernel_size: int = 3

    @nn.compact
    def __call__(self, z: jax.Array, mask: jax.Array, condition: jax.Array, inverse: bool = False) -> jax.Array:
        """Maps posterior -> prior, or prior -> posterior with `inverse`.

        Args:
          z: [B, T, C], C even. mask: [B, T, 1] of 0/1. condition: [B, T, G].

        Returns:
          [B, T, C]; where the mask is 1, `inverse` undoes the forward map.
        """
        couplings = [MeanCoupling(self.hidden, self.layers, self.kernel_size, name=f"coupling_{i}") for i in range(self.blocks)]
        if inverse:
            for coupling in reversed(couplings):
                z = coupling(z[..., ::-1], mask, condition, inverse=True)
            return z
        for coupling in couplings:
            z = coupling(z, mask, condition, inverse=False)[..., ::-1]
        return z
