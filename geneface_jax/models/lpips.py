"""LPIPS 0.1: how different two pictures look (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features").

Features of a network trained on ImageNet are scaled to unit length at every position; squared differences are weighed per channel by
learned factors, averaged over the picture and summed over five layers. Dropout, which the original trains with, has no part in a distance.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Channel means and deviations of pictures in [-1, 1] that the networks were trained with."""
LAYERS = {
    # (features, kernel, stride, padding) of each convolution, "pool" between them.
    "alex": ((64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    "vgg": tuple(f if f == "pool" else (f, 3, 1, 1) for f in (64, 64, "pool", 128, 128, "pool", *(256,) * 3, "pool", *(512,) * 3))
    + ("pool", *((512, 3, 1, 1),) * 3),
}
TAPPED = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}
"""Convolutions whose rectified outputs are compared."""
POOL = {"alex": 3, "vgg": 2}
SMALLEST = {"alex": 31, "vgg": 16}
"""Sides of the smallest picture that leaves every layer at least one position."""


class Lpips(nn.Module):
    """The distance as a Flax module; its parameters come from `io.weights` and are never trained.

    Attributes:
      net: "alex" (what is usually reported) or "vgg" (usually trained with).
    """

    net: str = "alex"

    @nn.compact
    def __call__(self, images_a: jax.Array, images_b: jax.Array) -> jax.Array:
        """Distance [B] of pictures [B, H, W, 3] in [0, 1].

        The range is brought to [-1, 1] in here, as the networks expect; GeneFace feeds [0, 1] as it is.

        Raises:
          ValueError: other shapes, or pictures smaller than the network's layers (`SMALLEST`).
        """
        smallest = SMALLEST[self.net]
        if images_a.shape != images_b.shape or images_a.ndim != 4 or images_a.shape[-1] != 3 or min(images_a.shape[1:3]) < smallest:
            raise ValueError(f"two [B, H, W, 3] with H, W >= {smallest} are compared, got {images_a.shape} and {images_b.shape}")
        both = jnp.concatenate([images_a, images_b]) * 2.0 - 1.0
        both = (both - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        distance = jnp.zeros(images_a.shape[0], both.dtype)
        for i, features in enumerate(self._features(both)):
            a, b = jnp.split(_unit(features), 2)
            weights = self.param(f"weights_{i}", nn.initializers.uniform(1.0), (features.shape[-1],))
            distance += jnp.mean((a - b) ** 2 @ weights, axis=(1, 2))
        return distance

    def _features(self, x: jax.Array) -> list[jax.Array]:
        tapped, convolution = [], 0
        for layer in LAYERS[self.net]:
            if isinstance(layer, str):
                window = (POOL[self.net],) * 2
                x = nn.max_pool(x, window, strides=(2, 2))
                continue
            features, kernel, stride, padding = layer
            x = nn.relu(nn.Conv(features, (kernel, kernel), (stride, stride), padding, name=f"conv_{convolution}")(x))
            if convolution in TAPPED[self.net]:
                tapped.append(x)
            convolution += 1
        return tapped


def _unit(features: jax.Array) -> jax.Array:
    """Features [..., C] of unit length. Where all are zero the gradient is zero; that of a plain norm is NaN there."""
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return features / (norm + 1e-10)


def net_of(weights: Mapping[str, Any]) -> str:
    """ "alex" or "vgg", whose parameters these are."""
    return "alex" if "conv_5" not in weights else "vgg"


def lpips(images_a: jax.Array, images_b: jax.Array, weights: Mapping[str, Any]) -> jax.Array:
    """Distance [B] of pictures [B, H, W, 3] in [0, 1], the float32 LPIPS v0.1; differentiable.

    Args:
      images_a, images_b: the pictures; the order does not matter.
      weights: parameters from `io.weights.load_lpips`, of either network.

    Raises:
      ValueError: see `Lpips`.
    """
    return _apply(Lpips(net_of(weights)), weights, jnp.asarray(images_a, jnp.float32), jnp.asarray(images_b, jnp.float32))


@functools.partial(jax.jit, static_argnames="model")
def _apply(model: Lpips, weights: Mapping[str, Any], a: jax.Array, b: jax.Array) -> jax.Array:
    return model.apply({"params": weights}, a, b)
