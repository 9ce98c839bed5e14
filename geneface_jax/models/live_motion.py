"""Causal speech-to-motion network for live speech: audio2motion's condition encoder and decoder without latents, block by block."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.typing import Array, Float

from geneface_jax.models.audio2motion import pair_audio
from geneface_jax.models.layers import BatchNorm1d, conv1d, uniform_fan_in

PAST = "past"
"""Collection of the frames that convolutions still need: what a stream carries from block to block."""


class CausalConv1d(nn.Module):
    """Weight-normalized convolution that hears a frame and the `kernel_size - 1` frames before it.

    Before the first frame are zeros, or in a stream the last frames of the block before (collection `PAST`).

    Parameters: as `layers.WeightNormConv1d`.
    """

    features: int
    kernel_size: int = 1
    stream: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"]) -> Float[jax.Array, "B T O"]:
        shape = (self.kernel_size, x.shape[-1], self.features)
        init = uniform_fan_in(shape[0] * shape[1])
        direction = self.param("direction", init, shape)
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(0, 1)))
        scale = self.param("scale", lambda _, shape: jnp.broadcast_to(norm, shape), (self.features,))
        bias = self.param("bias", init, (self.features,))
        before = self.kernel_size - 1
        if before:
            start = jnp.zeros((x.shape[0], before, x.shape[-1]), x.dtype)
            past = self.variable(PAST, "frames", lambda: start) if self.stream else None
            x = jnp.concatenate([past.value if past is not None else start, x], axis=1)
            if past is not None:
                past.value = x[:, -before:]
        return conv1d(x, direction * (scale / norm)) + bias


class LiveMotion(nn.Module):
    """Motion of speech, `delay` frames later than its sound; no frame depends on later ones.

    Speech features at the audio rate go through the convolutions and the norm of `audio2motion.SpeechConditionEncoder`, then through gated
    layers as in its WaveNet.

    Attributes:
      motion_dim: D of the landmarks, 204.
      condition, hidden: widths of the condition and of the gated layers.
      layers, kernel_size: of the gated layers; together they hear layers * (kernel_size - 1) + 4 frames back.
      delay: frames by which the motion is later than the sound it belongs to.
      stream: whether the frames before a block are carried in the collection `PAST`; without it they are zeros.
    """

    motion_dim: int = 204
    condition: int = 64
    hidden: int = 96
    layers: int = 4
    kernel_size: int = 5
    delay: int = 3
    stream: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, audio: Float[Array, "B A C"], train: bool = False) -> Float[jax.Array, "B T D"]:
        """Frame t of the T = A / 2 frames is the motion of frame t - `delay` of the sound.

        Args:
          audio: two frames per video frame.
          train: whether batch norm uses and updates batch statistics.
        """

        def convolution(features: int, name: str, kernel_size: int = 1) -> CausalConv1d:
            return CausalConv1d(features, kernel_size, self.stream, name=name)

        x = convolution(self.condition, "condition_in", 3)(pair_audio(audio, "stack"))
        x = nn.gelu(BatchNorm1d(self.axis_name, name="norm")(x, train), approximate=False)
        condition = convolution(self.condition, "condition_out", 3)(x)
        x = convolution(self.hidden, "enter")(condition)
        output = jnp.zeros_like(x)
        for i in range(self.layers):
            gates = convolution(2 * self.hidden, f"gates_{i}", self.kernel_size)(x) + convolution(2 * self.hidden, f"told_{i}")(condition)
            signal, gate = jnp.split(gates, 2, axis=-1)
            update, skip = jnp.split(convolution(2 * self.hidden, f"residual_skip_{i}")(jnp.tanh(signal) * nn.sigmoid(gate)), 2, axis=-1)
            x, output = x + update, output + skip
        return convolution(self.motion_dim, "out")(output)


def empty_past(network: LiveMotion, audio: tuple[int, int, int]) -> dict:
    """The collection `PAST` before the first block, zeros; `audio` is the shape [B, A, C] of a block."""
    shapes = jax.eval_shape(network.clone(stream=True).init, jax.random.key(0), jax.ShapeDtypeStruct(audio, jnp.float32))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[PAST])
