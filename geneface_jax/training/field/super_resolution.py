"""What the super-resolution stages share: sizes, the network's start, perceptual terms on whole pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.training.field.losses import GuardedTerm, guarded, no_term, ramp


def build_super_resolution(config: ConfigDict, subject: Subject) -> SuperResolution:
    """The network of `config.super_resolution`.

    Raises:
      InputError: it does not make pictures of the dataset's size.
    """
    sizes = config.super_resolution
    if 2 * sizes.size != subject.size:
        raise InputError(
            f"the super-resolution network makes pictures of {2 * sizes.size} pixels but {subject.folder} has {subject.size}: prepare the "
            f"video with --size {2 * sizes.size}, or set config.super_resolution.size to {subject.size // 2}"
        )
    return SuperResolution(sizes.size, tuple(sizes.features))


def start_plain(params: Any) -> Any:
    """Parameters whose network enlarges and adds nothing: both layers that paint begin at zero, the others as they are."""
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


class PictureLpips:
    """LPIPS of whole pictures, from a step on."""

    def __init__(self, config: ConfigDict):
        """Reads `config.perceptual`, and of `config.loss` what begins with `perceptual_`.

        Raises:
          InputError: the weights are needed and absent.
        """
        loss = config.loss
        self.config = config
        self.on = any(loss[f"perceptual_{what}"] > 0 for what in ("small", "large", "lips")) and config.train.steps > loss.perceptual_start
        self._weights = load_lpips(config.perceptual.net, config.perceptual.weights) if self.on else {}

    def weights(self) -> dict[str, Any]:
        """LPIPS's parameters for the devices; empty where no step uses them."""
        return jax.tree.map(jnp.asarray, self._weights)

    def started(self, step: Any) -> Any:
        """[] bool: whether this step has these terms."""
        return (step >= self.config.loss.perceptual_start) & jnp.bool_(self.on)

    def loss(
        self, step: jax.Array, pairs: Mapping[str, tuple[jax.Array, jax.Array]], weights: Any
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the terms, and `lpips_<what>` and `lpips_skipped` for the log.

        Args:
          step: [] the step.
          pairs: "small", "large", "lips" -> (ours, truth), [B, H, W, 3] in [0, 1].
          weights: what `weights` returned.
        """
        if not self.on:
            return jnp.zeros(()), {}
        strength = ramp(step, self.config.loss.perceptual_start, self.config.loss.perceptual_ramp)
        total, skipped, metrics = jnp.zeros(()), jnp.zeros(()), {}
        for what, (ours, truth) in pairs.items():
            weight = self.config.loss[f"perceptual_{what}"]
            if weight == 0:
                continue
            term = self._term(step, ours, truth, weights)
            total += strength * weight * term.loss
            skipped = jnp.maximum(skipped, term.skipped)
            metrics[f"lpips_{what}"] = term.value
        return total, {**metrics, "lpips_skipped": skipped}

    def _term(self, step: jax.Array, ours: jax.Array, truth: jax.Array, weights: Any) -> GuardedTerm:
        def look() -> GuardedTerm:
            return guarded(lambda images: jnp.mean(lpips(images, truth, weights)), jnp.clip(ours, 0.0, 1.0))

        return jax.lax.cond(self.started(step), look, no_term)


def crops(pictures: jax.Array, corners: jax.Array, side: int) -> jax.Array:
    """Squares [B, side, side, C] of pictures [B, H, W, C] whose first (row, column) are `corners` [B, 2] int32."""
    return jax.vmap(lambda picture, corner: jax.lax.dynamic_slice(picture, (*corner, 0), (side, side, picture.shape[-1])))(
        pictures, corners
    )
