"""Shared parts of the super-resolution stages: the network and its initial parameters, half-size pictures, LPIPS of whole pictures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.training.field.losses import guarded_lpips, ramp
from geneface_jax.typing import Array


def build_super_resolution(config: ConfigDict, subject: Subject) -> SuperResolution:
    """The network of `config.super_resolution`. Raises InputError if its output size is not the dataset's."""
    sizes = config.super_resolution
    if 2 * sizes.size != subject.size:
        raise InputError(
            f"The super-resolution network makes pictures of {2 * sizes.size} pixels but {subject.folder} has {subject.size}: prepare the "
            f"video with --size {2 * sizes.size}, or set config.super_resolution.size to {subject.size // 2}."
        )
    return SuperResolution(sizes.size, tuple(sizes.features))


def zero_rgb_layers(params: Any) -> Any:
    """Parameters with both RGB layers set to zero, so that the network begins as a plain enlargement."""
    return {
        name: {**layer, "kernel": jnp.zeros_like(layer["kernel"])} if name.startswith("rgb") else layer for name, layer in params.items()
    }


def halved(pictures: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, C] -> [T, H / 2, W / 2, C]: means over 2x2 pixels, rounded."""
    count, height, width, channels = pictures.shape
    out = np.empty((count, height // 2, width // 2, channels), np.uint8)
    for i, picture in enumerate(pictures):  # frame by frame, to bound memory
        blocks = picture.reshape(height // 2, 2, width // 2, 2, channels).astype(np.uint16).sum(axis=(1, 3))
        out[i] = (blocks + 2) // 4
    return out


class PerceptualLoss:
    """LPIPS of whole pictures, from step `config.loss.perceptual_start` on."""

    def __init__(self, config: ConfigDict):
        """Reads `config.perceptual` and `config.loss.perceptual_*`. Raises InputError if LPIPS's weights are needed and absent."""
        loss = config.loss
        weighted = any(loss[f"perceptual_{name}"] > 0 for name in ("small", "large", "lips"))
        self.config = config
        self.enabled = weighted and config.train.steps > loss.perceptual_start
        self._weights = load_lpips(config.perceptual.net, config.perceptual.weights) if self.enabled else {}

    def weights(self) -> dict[str, Any]:
        """LPIPS's parameters for the devices; empty if no step uses them."""
        return jax.tree.map(jnp.asarray, self._weights)

    def started(self, step: Any) -> Any:
        """[] bool: whether this step has these terms."""
        return (step >= self.config.loss.perceptual_start) & jnp.bool_(self.enabled)

    def loss(self, step: jax.Array, pairs: Mapping[str, tuple[Array, Array]], weights: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the terms, and the metrics `lpips_<name>` and `lpips_skipped`.

        `pairs`: "small", "large", "lips" -> (ours, truth), [B, H, W, 3] in [0, 1]; `weights` is the result of `weights`.
        """
        if not self.enabled:
            return jnp.zeros(()), {}
        strength = ramp(step, self.config.loss.perceptual_start, self.config.loss.perceptual_ramp)
        total, skipped, metrics = jnp.zeros(()), jnp.zeros(()), {}
        for name, pair in pairs.items():
            weight = self.config.loss[f"perceptual_{name}"]
            if weight == 0:
                continue

            def pictures(pair: tuple[Array, Array] = pair) -> tuple[Array, Array]:
                return pair

            term = guarded_lpips(self.started(step), pictures, weights)
            total += strength * weight * term.loss
            skipped = jnp.maximum(skipped, term.skipped)
            metrics[f"lpips_{name}"] = term.value
        return total, {**metrics, "lpips_skipped": skipped}


def crops(pictures: jax.Array, corners: jax.Array, side: int) -> jax.Array:
    """Squares [B, side, side, C] of pictures [B, H, W, C] whose top left (row, column) are `corners` [B, 2] int32."""
    return jax.vmap(lambda picture, corner: jax.lax.dynamic_slice(picture, (*corner, 0), (side, side, picture.shape[-1])))(
        pictures, corners
    )
