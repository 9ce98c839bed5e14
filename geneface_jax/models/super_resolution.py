"""Super-resolution of a rendered frame by 2: two blocks of style-modulated convolutions (Karras et al. 2020, "StyleGAN2", section 2).

GeneFace++'s style is constant, so the modulation is a learned rescaling of the weights; it is kept for its training dynamics and for
imported checkpoints. Images are [B, H, W, C].
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.typing import Array, Float

STYLE = 16
"""Length of the constant style vector of ones."""
SLOPE, GAIN, LIMIT = 0.2, math.sqrt(2.0), 256.0
"""LeakyReLU slope, the gain after it, and the clamp of activations."""


def upsample_image(x: Float[Array, "B H W C"]) -> Float[jax.Array, "B H2 W2 C"]:
    """Doubles height and width with the filter [1, 3, 3, 1] / 4 along both axes, zeros outside."""
    x = jnp.asarray(x)
    for axis in (1, 2):
        before = jnp.roll(x, 1, axis).at[_slice(axis, 0)].set(0.0)
        after = jnp.roll(x, -1, axis).at[_slice(axis, -1)].set(0.0)
        even, odd = 0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after
        shape = list(x.shape)
        shape[axis] *= 2
        x = jnp.stack([even, odd], axis=axis + 1).reshape(shape)
    return x


def _slice(axis: int, index: int) -> tuple:
    return (slice(None),) * axis + (index,)


def upsampling_convolution(x: Float[jax.Array, "B H W I"], kernel: Float[Array, "3 3 I O"]) -> Float[jax.Array, "B H2 W2 O"]:
    """Zero-insertion by 2, true 3x3 convolution, and the filter [1, 3, 3, 1] / 4 along both axes.

    Computed on the small image: a 2x2 convolution gives the four phases of the large one, and inserted zeros are never multiplied. The
    kernel is in correlation order, as of `lax.conv_general_dilated`.
    """
    batch, height, width, _ = x.shape
    flipped = kernel[::-1, ::-1]
    # Output row 2i takes taps 0 and 2 of rows i - 1 and i (correlation with the flipped kernel), row 2i + 1 the middle tap of row i.
    taps = {0: ((0, 0), (1, 2)), 1: ((1, 1),)}
    phases = []
    for row_phase in (0, 1):
        for column_phase in (0, 1):
            small = jnp.zeros((2, 2, *kernel.shape[2:]), kernel.dtype)
            for i, tap_i in taps[row_phase]:
                for j, tap_j in taps[column_phase]:
                    small = small.at[i, j].set(flipped[tap_i, tap_j])
            phases.append(small)
    features = kernel.shape[-1]
    dimensions = ("NHWC", "HWIO", "NHWC")
    # One more row and column than the input: the zero-inserted image is padded with two zeros on every side.
    y = jax.lax.conv_general_dilated(x, jnp.concatenate(phases, axis=-1), (1, 1), ((1, 1), (1, 1)), dimension_numbers=dimensions)
    y = y.reshape(batch, height + 1, width + 1, 2, 2, features).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, 2 * height + 2, 2 * width + 2, features)[:, : 2 * height + 1, : 2 * width + 1]
    return _smooth(y)


def _smooth(y: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B H-1 W-1 C"]:
    """Filters both axes with [1, 3, 3, 1] / 4, padded with one zero."""
    for axis in (1, 2):
        padding = [(0, 0)] * 4
        padding[axis] = (1, 1)
        padded, length = jnp.pad(y, padding), y.shape[axis] - 1
        part = [jax.lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(4)]
        y = 0.25 * (part[0] + part[3]) + 0.75 * (part[1] + part[2])
    return y


class ModulatedConvolution(nn.Module):
    """Convolution with input channels scaled by a learned style and outputs scaled to unit variance (demodulation).

    Attributes:
      features: output channels.
      size: height and width of the output and of the constant noise.
      up: doubles height and width.
    """

    features: int
    size: int
    up: bool = False

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B H W I"], noise: jax.Array | str) -> Float[jax.Array, "B S S O"]:
        """The noise is "none", "constant" (the trained network's fixed picture) or a random key."""
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (3, 3, channels, self.features))
        kernel = kernel * Style(channels, name="style")()[:, None]
        kernel = kernel * jax.lax.rsqrt(jnp.sum(kernel**2, axis=(0, 1, 2)) + 1e-8)
        if self.up:
            y = upsampling_convolution(x, kernel)
        else:
            y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        picture = self.variable("constants", "noise", _constant_noise, self.size).value
        if not isinstance(noise, str):
            y += strength * jax.random.normal(noise, (x.shape[0], self.size, self.size, 1))
        elif noise == "constant":
            y += strength * picture[..., None]
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jnp.clip(nn.leaky_relu(y + bias, SLOPE) * GAIN, -LIMIT, LIMIT)


def _constant_noise(size: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(size).normal(size=(size, size)), jnp.float32)


class Style(nn.Module):
    """Scale of each of `channels` inputs: an affine map of the constant style, initialized to 1."""

    channels: int

    @nn.compact
    def __call__(self) -> Float[jax.Array, " C"]:
        kernel = self.param("kernel", nn.initializers.normal(1.0), (STYLE, self.channels))
        bias = self.param("bias", nn.initializers.ones, (self.channels,))
        return jnp.sum(kernel, axis=0) / math.sqrt(STYLE) + bias


class ToRgb(nn.Module):
    """1x1 convolution with inputs scaled by a style."""

    @nn.compact
    def __call__(self, x: Float[jax.Array, "B H W C"]) -> Float[jax.Array, "B H W 3"]:
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.normal(1.0), (1, 1, channels, 3))
        kernel = kernel[0, 0] * (Style(channels, name="style")() / math.sqrt(channels))[:, None]
        return jnp.clip(x @ kernel + self.param("bias", nn.initializers.zeros, (3,)), -LIMIT, LIMIT)


class SuperResolution(nn.Module):
    """Doubles a square picture (GeneFace++: 256 -> 512).

    Attributes:
      size: height and width of the input.
      features: channels of the blocks at the input's and at the output's size.
    """

    size: int = 256
    features: tuple[int, int] = (128, 64)

    @nn.compact
    def __call__(self, rgb: Float[Array, "B H W C"], noise: jax.Array | str = "none") -> Float[jax.Array, "B H2 W2 3"]:
        """Enlarges pictures in [0, 1]; the result is not clipped.

        The noise is "none" (deterministic), "constant", or a random key (which the original uses to train and to render).
        """
        if rgb.shape[1:] != (self.size, self.size, 3):
            raise ValueError(f"rgb must be [B, {self.size}, {self.size}, 3], got {rgb.shape}")
        rgb = jnp.asarray(rgb)
        keys = [noise] * 4 if isinstance(noise, str) else list(jax.random.split(noise, 4))
        small, large = self.features
        x = ModulatedConvolution(small, self.size, name="conv_0")(rgb, keys[0])
        x = ModulatedConvolution(small, self.size, name="conv_1")(x, keys[1])
        picture = rgb + ToRgb(name="rgb_0")(x)
        x = ModulatedConvolution(large, 2 * self.size, up=True, name="conv_2")(x, keys[2])
        x = ModulatedConvolution(large, 2 * self.size, name="conv_3")(x, keys[3])
        return upsample_image(picture) + ToRgb(name="rgb_1")(x)
