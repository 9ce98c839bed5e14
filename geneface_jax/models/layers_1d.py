"""One-dimensional layers with PyTorch's semantics, in the layout [B, T, C].

The networks of the speech-to-motion part are ports of PyTorch modules whose weights can be imported, so padding, initial values,
normalisation and weight norm follow PyTorch to the letter; see the tests for each rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def conv1d(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """Cross-correlates [B, T, I] with a kernel [K, I, O], zeros on both sides: [B, (T + 2 padding - K) // stride + 1, O].

    Written as one matrix product over the gathered taps: on CPUs its gradient takes about two thirds of the time of XLA's convolution.
    """
    taps, channels_in, channels_out = kernel.shape
    if taps == 1 and stride == 1 and padding == 0:
        return x @ kernel[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (0, 0)))
    length = (x.shape[1] - taps) // stride + 1
    windows = [x[:, tap : tap + (length - 1) * stride + 1 : stride] for tap in range(taps)]
    return jnp.concatenate(windows, axis=-1) @ kernel.reshape(taps * channels_in, channels_out)


def uniform_fan_in(fan_in: int):
    """PyTorch's default initialiser of convolutions and linear layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(fan_in)
    return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(rng, shape, dtype, -bound, bound)


class Conv1d(nn.Module):
    """`torch.nn.Conv1d`: parameters `kernel` [K, I, O] and `bias` [O]; symmetric zero padding (never TensorFlow's "SAME").

    Attributes:
      features: O.
      kernel_size: K. stride, padding: as in `conv1d`; padding None means K // 2.
      use_bias: whether there is a bias.
      zero_init: kernel and bias start at zero (the last layer of a coupling, so that a flow starts as the identity).
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    padding: int | None = None
    use_bias: bool = True
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = self.kernel_size * x.shape[-1]
        init = nn.initializers.zeros if self.zero_init else uniform_fan_in(fan_in)
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1], self.features))
        padding = self.kernel_size // 2 if self.padding is None else self.padding
        y = conv1d(x, kernel, self.stride, padding)
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


class WeightNormConv1d(nn.Module):
    """`weight_norm(Conv1d)`, "same" padding, stride 1: kernel = scale * direction / |direction|, the norm per output channel.

    Parameters: `direction` [K, I, O] (PyTorch's weight_v), `scale` [O] (weight_g), `bias` [O]. `scale` starts as |direction|.
    """

    features: int
    kernel_size: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, x.shape[-1], self.features)
        init = uniform_fan_in(shape[0] * shape[1])
        direction = self.param("direction", init, shape)
        norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(0, 1)))
        scale = self.param("scale", lambda _, shape: jnp.broadcast_to(norm, shape), (self.features,))
        bias = self.param("bias", init, (self.features,))
        return conv1d(x, direction * (scale / norm), 1, (self.kernel_size - 1) // 2) + bias


class Upsample1d(nn.Module):
    """`torch.nn.ConvTranspose1d` with kernel_size == stride: every frame becomes `factor` frames, without overlap.

    Parameters: `kernel` [I, factor, O] with out[t * factor + j] = x[t] @ kernel[:, j] + bias, `bias` [O].
    """

    features: int
    factor: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = uniform_fan_in(self.features * self.factor)  # PyTorch counts O * K for a transposed convolution
        kernel = self.param("kernel", init, (x.shape[-1], self.factor, self.features))
        bias = self.param("bias", init, (self.features,))
        y = jnp.einsum("bti,ijo->btjo", x, kernel) + bias
        return y.reshape(x.shape[0], x.shape[1] * self.factor, self.features)


class BatchNorm1d(nn.Module):
    """`torch.nn.BatchNorm1d` over all axes but the last: eps 1e-5, momentum 0.1, unbiased running variance.

    Parameters `scale`, `bias`; `batch_stats` `mean`, `var`. With `train`, batch statistics normalise and update the running ones; they
    are taken over all devices when `axis_name` names a mapped axis. Frames that only pad a batch count, as in the original.
    """

    axis_name: str | None = None
    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        use_mean, use_var = mean.value, var.value
        if train:
            axes = tuple(range(x.ndim - 1))
            count = math.prod(x.shape[:-1])
            use_mean = jnp.mean(x, axes)
            if self.axis_name is not None and not self.is_initializing():
                use_mean = lax.pmean(use_mean, self.axis_name)
                count = count * lax.psum(1, self.axis_name)
            use_var = jnp.mean(jnp.square(x - use_mean), axes)
            if self.axis_name is not None and not self.is_initializing():
                use_var = lax.pmean(use_var, self.axis_name)
            if not self.is_initializing():
                keep = 1.0 - self.momentum
                mean.value = keep * mean.value + self.momentum * use_mean
                var.value = keep * var.value + self.momentum * use_var * count / max(count - 1, 1)
        return (x - use_mean) * (lax.rsqrt(use_var + self.epsilon) * scale) + bias


class ConvBlock(nn.Module):
    """Conv1d -> BatchNorm1d -> (+ input when residual) -> activation: the block of SyncNet (ReLU) and PostNet (LeakyReLU 0.2).

    Attributes:
      negative_slope: slope of the activation below zero; 0 is a ReLU.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    residual: bool = False
    negative_slope: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = Conv1d(self.features, self.kernel_size, self.stride, self.padding, name="conv")(x)
        y = BatchNorm1d(self.axis_name, name="norm")(y, train)
        if self.residual:
            y = y + x
        return nn.leaky_relu(y, self.negative_slope) if self.negative_slope else nn.relu(y)


class ConvBlocks(nn.Module):
    """A chain of `ConvBlock`s named block_0, block_1, ...

    Attributes:
      specs: (features, kernel_size, stride, padding, residual) of each block.
    """

    specs: Sequence[tuple[int, int, int, int, bool]]
    negative_slope: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, spec in enumerate(self.specs):
            x = ConvBlock(*spec, self.negative_slope, self.axis_name, name=f"block_{i}")(x, train)
        return x
