"""LPIPS 0.1, a perceptual distance of pictures (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features").

Features of an ImageNet network are normalized to unit length at every position; squared differences are weighted per channel by learned
factors, averaged over the picture and summed over five layers. The original's dropout only acts in training.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.typing import Array, Float

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Channel means and standard deviations, for pictures in [-1, 1], that the networks were trained with."""
Layer = tuple[int, int, int, int] | Literal["pool"]
LAYERS: dict[str, tuple[Layer, ...]] = {
    # (features, kernel, stride, padding) of each convolution, "pool" between them.
    "alex": ((64, 11, 4, 2), "pool", (192, 5, 1, 2), "pool", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
    "vgg": (*((64, 3, 1, 1),) * 2, "pool", *((128, 3, 1, 1),) * 2, "pool", *((256, 3, 1, 1),) * 3, "pool")
    + (*((512, 3, 1, 1),) * 3, "pool", *((512, 3, 1, 1),) * 3),
}
TAPPED = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}
"""Convolutions whose outputs (after the ReLU) are compared."""
POOL = {"alex": 3, "vgg": 2}
SMALLEST = {"alex": 31, "vgg": 16}
"""Smallest picture height and width for which every layer has at least one position."""


class Lpips(nn.Module):
    """The distance as a Flax module; its parameters come from `io.weights` and are never trained.

    Attributes:
      net: "alex" (usual for reported metrics) or "vgg" (usual for training losses).
    """

    net: str = "alex"

    @nn.compact
    def __call__(self, images_a: Float[Array, "B H W C"], images_b: Float[Array, "B H W C"]) -> Float[jax.Array, " B"]:
        """Distance of RGB pictures in [0, 1].

        They are scaled to [-1, 1], as the networks expect; GeneFace does not do this.

        Raises:
          ValueError: other shapes, or pictures smaller than `SMALLEST`.
        """
        smallest = SMALLEST[self.net]
        if images_a.shape != images_b.shape or images_a.ndim != 4 or images_a.shape[-1] != 3 or min(images_a.shape[1:3]) < smallest:
            raise ValueError(f"images must both be [B, H, W, 3] with H, W >= {smallest}, got {images_a.shape} and {images_b.shape}")
        both = jnp.concatenate([images_a, images_b]) * 2.0 - 1.0
        both = (both - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        distance = jnp.zeros(images_a.shape[0], both.dtype)
        for i, features in enumerate(self._features(both)):
            a, b = jnp.split(_unit(features), 2)
            weights = self.param(f"weights_{i}", nn.initializers.uniform(1.0), (features.shape[-1],))
            distance += jnp.mean((a - b) ** 2 @ weights, axis=(1, 2))
        return distance

    def _features(self, x: Float[jax.Array, "B H W 3"]) -> list[jax.Array]:
        tapped, convolution = [], 0
        for layer in LAYERS[self.net]:
            if layer == "pool":
                x = nn.max_pool(x, (POOL[self.net],) * 2, strides=(2, 2))
                continue
            features, kernel, stride, padding = layer
            x = nn.relu(nn.Conv(features, (kernel, kernel), (stride, stride), padding, name=f"conv_{convolution}")(x))
            if convolution in TAPPED[self.net]:
                tapped.append(x)
            convolution += 1
        return tapped


def _unit(features: Float[jax.Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    """Normalizes the last axis. Where all features are zero the gradient is zero (that of a plain norm is NaN)."""
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return features / (norm + 1e-10)


def net_of(weights: Mapping[str, Any]) -> str:
    """The network ("alex" or "vgg") of these parameters."""
    return "alex" if "conv_5" not in weights else "vgg"


def lpips(images_a: Float[Array, "B H W C"], images_b: Float[Array, "B H W C"], weights: Mapping[str, Any]) -> Float[jax.Array, " B"]:
    """Distance in float32; differentiable and symmetric. See `Lpips` for the arguments.

    Args:
      images_a, images_b: the pictures.
      weights: parameters from `io.weights.load_lpips`, of either network.
    """
    return _apply(Lpips(net_of(weights)), weights, jnp.asarray(images_a, jnp.float32), jnp.asarray(images_b, jnp.float32))


@functools.partial(jax.jit, static_argnames="model")
def _apply(model: Lpips, weights: Mapping[str, Any], a: jax.Array, b: jax.Array) -> Any:
    return model.apply({"params": weights}, a, b)
