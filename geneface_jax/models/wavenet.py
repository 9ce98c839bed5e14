"""The WaveNet stack of the audio2motion VAE: gated convolutions with a condition, residual and skip paths (Glow-TTS / VITS)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from geneface_jax.models.layers_1d import WeightNormConv1d


class WaveNet(nn.Module):
    """x, g -> sum of the layers' skip outputs, times the mask. Dilation 1, no dropout, every convolution weight-normalised.

    Attributes:
      hidden: channels of x and of the output.
      layers: number of gated layers.
      kernel_size: odd taps of the gated convolutions.
    """

    hidden: int
    layers: int
    kernel_size: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, condition: jax.Array) -> jax.Array:
        """Args: x [B, T, hidden]; mask [B, T, 1] of 0/1; condition [B, T, G]. Returns [B, T, hidden]."""
        conditions = WeightNormConv1d(2 * self.hidden * self.layers, name="condition")(condition)
        output = jnp.zeros_like(x)
        for i in range(self.layers):
            gates = WeightNormConv1d(2 * self.hidden, self.kernel_size, name=f"gates_{i}")(x)
            gates = gates + conditions[..., 2 * self.hidden * i : 2 * self.hidden * (i + 1)]
            signal, gate = jnp.split(gates, 2, axis=-1)
            activation = jnp.tanh(signal) * nn.sigmoid(gate)
            last = i == self.layers - 1
            update = WeightNormConv1d(self.hidden if last else 2 * self.hidden, name=f"residual_skip_{i}")(activation)
            if last:
                output = output + update
            else:
                x = (x + update[..., : self.hidden]) * mask
                output = output + update[..., self.hidden :]
        return output * mask
