"""Sharp lips: late in training, look at whole patches of lips and ask how different they look (GeneFace's lip finetuning)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.pixel_sampling import patch_pixels
from geneface_jax.data.subject import Subject
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.training.perceptual import guarded, no_term, ramp


class LipPatches:
    """The lip steps of a run: which they are, their pixels, their loss.

    In a lip step the first side * side pixels of every group are a square about the lips; the others are drawn as always.
    """

    def __init__(self, lips: ConfigDict, steps: int, subject: Subject, rays: int):
        """Takes `config.lips`; every field is explained in configs/head.py.

        Args:
          lips: the config section.
          steps: length of the run.
          subject: whose lip boxes the patches lie about.
          rays: R, pixels of a group.

        Raises:
          InputError: a patch has more pixels than a group or than the picture, or LPIPS's weights are needed and absent.
        """
        self.config = lips
        self.subject = subject
        self.on = lips.weight > 0 and steps > lips.start
        if self.on and (lips.side**2 > rays or lips.side > subject.size):
            raise InputError(
                f"a lip patch of {lips.side}x{lips.side} pixels does not fit {rays} rays of a {subject.size} pixel picture: "
                "make config.lips.side smaller or config.data.rays larger"
            )
        self._weights = load_lpips(lips.net, lips.weights) if self.on else {}

    def weights(self) -> dict[str, Any]:
        """LPIPS's parameters for the devices; empty in a run without lip steps."""
        return jax.tree.map(jnp.asarray, self._weights)

    def phase(self, step: Any) -> Any:
        """Whether the lips' phase has begun: a bool, or a [] bool array for a traced step."""
        return (step >= self.config.start) & jnp.bool_(self.on)

    def due(self, step: Any) -> Any:
        """Whether this step is a lip step; the first of the phase is an ordinary one, as in the original. Types as in `phase`."""
        return self.phase(step) & ((step - self.config.start) % self.config.every == self.config.every - 1)

    def replace(self, step: int, frames: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """The pixels [G, R, 2] of a step's frames [G], with the lip patches in place of the first ones where they are due."""
        if not bool(self.due(step)):
            return pixels
        size = (self.subject.size, self.subject.size)
        patches = patch_pixels(self.subject.lip_box[frames], self.config.side, size)
        return np.concatenate([patches, pixels[:, patches.shape[1] :]], axis=1)

    def loss(self, step: jax.Array, rgb: jax.Array, target: jax.Array, weights: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted term and what to log about it: `lpips` (mean over lip steps) and `lpips_skipped`.

        Args:
          step: [] the step.
          rgb, target: [G, R, 3] in [0, 1]; the patches come first in a lip step.
          weights: what `weights` returned.
        """
        if not self.on:
            return jnp.zeros(()), {}

        def look() -> Any:
            truth = self._patches(target)
            return guarded(lambda images: jnp.mean(lpips(images, truth, weights)), jnp.clip(self._patches(rgb), 0.0, 1.0))

        term = jax.lax.cond(self.due(step), look, no_term)
        strength = self.config.weight * ramp(step, self.config.start, self.config.ramp)
        # One step in `every` has a value: times that, the mean over many steps is the mean over lip steps.
        metrics = {"lpips": term.value * self.config.every, "lpips_skipped": term.skipped}
        return strength * term.loss, metrics

    def _patches(self, rgb: jax.Array) -> jax.Array:
        """[G, R, 3] -> [G, P, P, 3] with P = side, or enlarged to `shown_side` where that is more."""
        side = self.config.side
        patches = rgb[:, : side * side].reshape(-1, side, side, 3)
        shown = max(side, self.config.shown_side)
        return patches if shown == side else jax.image.resize(patches, (len(patches), shown, shown, 3), "bilinear")
