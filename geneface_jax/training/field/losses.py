"""Losses of the radiance fields: photometric, opacity entropy, ambient, guarded LPIPS, lip patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.pixel_sampling import patch_pixels
from geneface_jax.data.subject import Subject
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.training.devices import mean_where_mapped

# ----------------------------------------------------------------------------------------------------
# Losses of the radiance fields (RAD-NeRF section 3.4; weights in the configs).


def psnr(mse: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of a mean squared error on [0, 1] colours."""
    return -10.0 * jnp.log10(jnp.maximum(mse, 1e-10))


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of values [N] where mask [N] is 1; 0 where it is 1 nowhere. Inside a mapped step its mean over devices is the batch's mean."""
    return jnp.sum(values * mask) / jnp.maximum(mean_where_mapped(jnp.sum(mask)), 1.0)


def opacity_entropy(alpha: jax.Array) -> jax.Array:
    """Binary entropy in bits [N] of opacities [N]: its mean pushes rays to be either solid or empty."""
    a = jnp.clip(alpha, 1e-5, 1.0 - 1e-5)
    return -a * jnp.log2(a) - (1.0 - a) * jnp.log2(1.0 - a)


def ambient_outside_face(ambient: jax.Array, in_face: jax.Array) -> jax.Array:
    """Ambient motion [N] of rays outside the face [N]: hair and neck must not follow the lips."""
    return ambient * (1.0 - in_face)


def adapted_weight(weight: jax.Array, loss: jax.Array, target: float, rate: float, most: float) -> jax.Array:
    """A weight that keeps a loss near a target (GeneFace++'s ambient weight): it moves by `rate` times the decades between the two.

    Args:
      weight, loss: [].
      target: where the loss should be.
      rate: 0 leaves the weight as it is.
      most: upper limit; the lower one is 0.

    Returns:
      [] the next weight; the same one where the loss is not finite (the original stumbles over it).
    """
    decades = jnp.log10(loss + 1e-15) - jnp.log10(target + 1e-15)
    return jnp.clip(weight + rate * jnp.where(jnp.isfinite(decades), decades, 0.0), 0.0, most)


# ----------------------------------------------------------------------------------------------------
# A perceptual loss that can't break a run: its gradient is looked at before it is used.
#
# LPIPS divides by the length of feature vectors; in half precision or on black pictures the originals' gradient becomes NaN at the step
# it is switched on, and with it the network. Here such a step goes without the term, and is counted.


class GuardedTerm(NamedTuple):
    """A loss term.

    Attributes:
      loss: [] a stand-in with the value and the gradient of the term, both zero when it was skipped.
      value: [] the term, for the log; zero when it was skipped.
      skipped: [] 1.0 where value or gradient was not finite.
    """

    loss: jax.Array
    value: jax.Array
    skipped: jax.Array


def guarded(distance: Callable[[jax.Array], jax.Array], images: jax.Array) -> GuardedTerm:
    """A differentiable scalar distance of images, left out as a whole where its value or gradient is not finite.

    Args:
      distance: images -> [].
      images: any shape; gradients flow into them.
    """
    value, gradient = jax.value_and_grad(distance)(jax.lax.stop_gradient(images))
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    value, gradient = jnp.where(finite, value, 0.0), jnp.where(finite, gradient, 0.0)
    # Linear in the images: this loss has exactly the gradient that was looked at.
    linear = jnp.sum(gradient * images)
    return GuardedTerm(value + linear - jax.lax.stop_gradient(linear), value, 1.0 - finite.astype(jnp.float32))


def no_term() -> GuardedTerm:
    """The term of a step that has none."""
    zero = jnp.zeros(())
    return GuardedTerm(zero, zero, zero)


def ramp(step: jax.Array, start: int, length: int) -> jax.Array:
    """[] 0 before `start`, then rising to 1 within `length` steps (at once when that is 0)."""
    return jnp.clip((step - start + 1) / max(length, 1), 0.0, 1.0)


# ----------------------------------------------------------------------------------------------------
# Sharp lips: late in training, look at whole patches of lips and ask how different they look (GeneFace's lip finetuning).


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
