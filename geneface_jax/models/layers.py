"""Shared network layers: convolutions with PyTorch's semantics, MLPs, dense layers at mixed rates, the grid encoder, `trunc_exp`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.grid_encoding import GridSpec, grid_encode
from geneface_kernels.typing import Array, Float, Integer
from jax import lax

if TYPE_CHECKING:
    from ml_collections import ConfigDict
else:
    ConfigDict = Any

Initializer = Callable[..., jax.Array]

# -------- Activations with custom gradients


@jax.custom_jvp
def trunc_exp(x: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    """exp(x) with the gradient of exp(clip(x, -15, 15)), so that one dense sample can't make an update explode (torch-ngp)."""
    return jnp.exp(x)


@trunc_exp.defjvp
def _trunc_exp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return jnp.exp(x), dx * jnp.exp(jnp.clip(x, -15.0, 15.0))


# -------- One-dimensional layers with PyTorch's semantics, in the layout [B, T, C]
#
# The speech-to-motion networks import PyTorch weights, so padding, initialization, normalization and weight norm follow PyTorch exactly.


def conv1d(x: Float[Array, "B T I"], kernel: Float[Array, "K I O"], stride: int = 1, padding: int = 0) -> Float[jax.Array, "B T2 O"]:
    """Zero-padded cross-correlation, T2 = (T + 2 padding - K) // stride + 1.

    Written as one matrix product over the gathered taps: on CPUs its gradient takes about two thirds of the time of XLA's convolution.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    taps, channels_in, channels_out = kernel.shape
    if taps == 1 and stride == 1 and padding == 0:
        return x @ kernel[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (0, 0)))
    length = (x.shape[1] - taps) // stride + 1
    windows = [x[:, tap : tap + (length - 1) * stride + 1 : stride] for tap in range(taps)]
    return jnp.concatenate(windows, axis=-1) @ kernel.reshape(taps * channels_in, channels_out)


def uniform_fan_in(fan_in: int) -> Initializer:
    """PyTorch's default initializer of convolutions and linear layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(fan_in)
    return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(rng, shape, dtype, -bound, bound)


class Conv1d(nn.Module):
    """`torch.nn.Conv1d`: parameters `kernel` [K, I, O] and `bias` [O]; symmetric zero padding (never TensorFlow's "SAME").

    Attributes:
      features, kernel_size: O, K.
      stride, padding: see `conv1d`; padding None means K // 2.
      zero_init: kernel and bias are initialized to zero (the last layer of a coupling, so that a flow starts as the identity).
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    padding: int | None = None
    use_bias: bool = True
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"]) -> Float[jax.Array, "B T2 O"]:
        fan_in = self.kernel_size * x.shape[-1]
        init = nn.initializers.zeros if self.zero_init else uniform_fan_in(fan_in)
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1], self.features))
        padding = self.kernel_size // 2 if self.padding is None else self.padding
        y = conv1d(x, kernel, self.stride, padding)
        return y + self.param("bias", init, (self.features,)) if self.use_bias else y


class WeightNormConv1d(nn.Module):
    """`weight_norm(Conv1d)`, "same" padding, stride 1: kernel = scale * direction / |direction|, the norm per output channel.

    Parameters: `direction` [K, I, O] (PyTorch's weight_v), `scale` [O] (weight_g, initialized to |direction|), `bias` [O].
    """

    features: int
    kernel_size: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"]) -> Float[jax.Array, "B T O"]:
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
    def __call__(self, x: Float[Array, "B T I"]) -> Float[jax.Array, "B T2 O"]:
        init = uniform_fan_in(self.features * self.factor)  # PyTorch counts O * K for a transposed convolution
        kernel = self.param("kernel", init, (x.shape[-1], self.factor, self.features))
        bias = self.param("bias", init, (self.features,))
        y = jnp.einsum("bti,ijo->btjo", x, kernel) + bias
        return y.reshape(x.shape[0], x.shape[1] * self.factor, self.features)


class BatchNorm1d(nn.Module):
    """`torch.nn.BatchNorm1d` over all axes but the last: eps 1e-5, momentum 0.1, unbiased running variance.

    Parameters `scale`, `bias`; `batch_stats` `mean`, `var`. With `train`, batch statistics are used and update the running ones. They
    include padding frames, as in the original, and all devices if `axis_name` is a mapped axis (here and in networks with this field).
    """

    axis_name: str | None = None
    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, x: Float[jax.Array, "*shape"], train: bool) -> Float[jax.Array, "*shape"]:
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
    """Conv1d -> BatchNorm1d -> (+ input when residual) -> LeakyReLU: the block of SyncNet (slope 0) and PostNet (slope 0.2)."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    residual: bool = False
    negative_slope: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"], train: bool) -> Float[jax.Array, "B T2 O"]:
        y = Conv1d(self.features, self.kernel_size, self.stride, self.padding, name="conv")(x)
        y = BatchNorm1d(self.axis_name, name="norm")(y, train)
        if self.residual:
            y = y + x
        return nn.leaky_relu(y, self.negative_slope) if self.negative_slope else nn.relu(y)


class ConvBlocks(nn.Module):
    """A chain of `ConvBlock`s, one per (features, kernel_size, stride, padding, residual) of `specs`."""

    specs: Sequence[tuple[int, int, int, int, bool]]
    negative_slope: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"], train: bool) -> Float[jax.Array, "B T2 O"]:
        for i, spec in enumerate(self.specs):
            x = ConvBlock(*spec, self.negative_slope, self.axis_name, name=f"block_{i}")(x, train)
        return jnp.asarray(x)


# -------- Multilayer perceptrons of the radiance fields

UNIFORM_FAN_IN = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")
"""`uniform_fan_in` of the kernel's own fan-in, a third of the variance of Flax's default: a torso that is initialized with large random
deformations does not recover from them."""


class Mlp(nn.Module):
    """Bias-free perceptron with ReLU (RAD-NeRF's MLP): `layers` linear layers, hidden width `hidden`, output width `out`."""

    hidden: int
    out: int
    layers: int

    @nn.compact
    def __call__(
        self,
        x: Float[jax.Array, "M C"],
        shared: Float[Array, "G D"] | None = None,
        group: Integer[Array, " M"] | None = None,
        tail: Float[jax.Array, "M E"] | None = None,
    ) -> Float[jax.Array, "M O"]:
        """Evaluates the network on [x, shared[group], tail] without materializing the concatenation.

        Args:
          x: inputs of each row.
          shared: inputs that many rows have in common, or None.
          group: row of `shared` for each row of `x`; None takes row 0 for all.
          tail: inputs of each row after the shared ones, or None; only with `shared`.
        """
        if shared is None:
            x = nn.Dense(self.hidden, use_bias=False, kernel_init=UNIFORM_FAN_IN, name="dense_0")(x)
        else:
            x = SplitDense(self.hidden, name="dense_0")(x, shared, group, tail)
        for i in range(1, self.layers - 1):
            x = nn.Dense(self.hidden, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{i}")(nn.relu(x))
        return nn.Dense(self.out, use_bias=False, kernel_init=UNIFORM_FAN_IN, name=f"dense_{self.layers - 1}")(nn.relu(x))


class SplitDense(nn.Module):
    """`Dense([x, shared[group], tail])` by parts: the shared one is multiplied once per group instead of once per row."""

    features: int

    @nn.compact
    def __call__(
        self,
        x: Float[jax.Array, "M C"],
        shared: Float[Array, "G D"],
        group: Integer[Array, " M"] | None,
        tail: Float[jax.Array, "M E"] | None = None,
    ) -> Float[jax.Array, "M O"]:
        width, end = x.shape[-1], x.shape[-1] + shared.shape[-1]
        inputs = end + (0 if tail is None else tail.shape[-1])
        kernel = self.param("kernel", UNIFORM_FAN_IN, (inputs, self.features))
        common = jnp.asarray(shared) @ kernel[width:end]
        out = x @ kernel[:width] + (common[:1] if group is None else jnp.take(common, group, axis=0))
        return out if tail is None else out + tail @ kernel[end:]


class JointDense(nn.Module):
    """`Dense(concatenate(parts))` without materializing the concatenation: the products of the parts are broadcast and added.

    A condition that a whole frame shares is multiplied once instead of once per sample. Parameters are those of the layer on the
    concatenation, `kernel` [sum of C, features] and `bias` [features], with PyTorch's default initialization.

    Attributes:
      features: output size.
      bias_start: added to the initial bias.
    """

    features: int
    bias_start: float = 0.0

    @nn.compact
    def __call__(self, parts: Sequence[Float[Array, "... _"]]) -> Float[jax.Array, "... O"]:
        """The leading axes of the parts broadcast."""
        widths = [part.shape[-1] for part in parts]
        init = uniform_fan_in(sum(widths))
        kernel = self.param("kernel", init, (sum(widths), self.features))
        out = self.param("bias", lambda rng, shape: init(rng, shape) + self.bias_start, (self.features,))
        # Smallest first, so that the sum reaches the full size only at the end.
        begins = [sum(widths[:i]) for i in range(len(widths))]
        for i in sorted(range(len(parts)), key=lambda i: math.prod(parts[i].shape[:-1])):
            out = out + parts[i] @ kernel[begins[i] : begins[i] + widths[i]]
        return out


# -------- Grid encoding with its trainable table


def table_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Uniform in [-1e-4, 1e-4] (instant-ngp)."""
    return jax.random.uniform(key, shape, dtype, -1e-4, 1e-4)


class GridEncoder(nn.Module):
    """Encodes points in [-bound, bound]; the output has L * C features."""

    spec: GridSpec
    bound: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "N D"]) -> Float[jax.Array, "N F"]:
        table = self.param("table", table_init, (self.spec.rows, self.spec.features))
        return grid_encode((x + self.bound) / (2.0 * self.bound), table, self.spec)


def grid_spec(grid: ConfigDict) -> GridSpec:
    """A `GridSpec` from a config section with the same field names."""
    names = ("dims", "levels", "features", "base_resolution", "finest_resolution", "log2_table_size", "kind")
    optional = {name: grid[name] for name in ("interpolation", "align_corners") if name in grid}
    return GridSpec(**{name: grid[name] for name in names}, **optional)
