"""Losses of the field stages: photometric, opacity entropy, ambient, guarded LPIPS on lips and whole pictures; super-resolution."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.pixel_sampling import patch_pixels
from geneface_jax.data.subject import Subject
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.training.stage import Phase
from geneface_jax.typing import Array

# -------- Losses of the radiance fields (RAD-NeRF section 3.4; weights in the configs)


@overload
def psnr(mse: jax.Array) -> jax.Array: ...
@overload
def psnr(mse: np.ndarray | float) -> np.ndarray: ...
def psnr(mse: Any) -> Any:
    """Peak signal-to-noise ratio in dB of mean squared errors of colors in [0, 1]; at most 100 dB."""
    numpy = jnp if isinstance(mse, jax.Array) else np
    return -10.0 * numpy.log10(numpy.maximum(mse, 1e-10))


def opacity_entropy(alpha: Array) -> jax.Array:
    """Binary entropy in bits [N] of opacities [N]: minimizing its mean makes rays either opaque or empty."""
    a = jnp.clip(alpha, 1e-5, 1.0 - 1e-5)
    return -a * jnp.log2(a) - (1.0 - a) * jnp.log2(1.0 - a)


def ambient_outside_face(ambient: Array, in_face: Array) -> Array:
    """Ambient motion [N] of rays outside the face [N]: hair and neck must not follow the lips."""
    return ambient * (1.0 - in_face)


def adapted_weight(weight: jax.Array, loss: jax.Array, target: float, rate: float, most: float) -> jax.Array:
    """Adaptive weight [] that keeps a loss [] near a target (GeneFace++'s ambient weight): changes by `rate` times log10(loss / target).

    It stays in [0, most], and unchanged if the loss is not finite (in the original it becomes NaN).
    """
    decades = jnp.log10(loss + 1e-15) - jnp.log10(target + 1e-15)
    return jnp.clip(weight + rate * jnp.where(jnp.isfinite(decades), decades, 0.0), 0.0, most)


# -------- Guarded perceptual loss: skipped in a step in which its value or gradient is not finite
#
# LPIPS divides by the length of feature vectors: in half precision or on black pictures the originals' gradient becomes NaN at the step
# it is switched on, and then the network.


class GuardedTerm(NamedTuple):
    """A loss term.

    Attributes:
      loss: [] has the value and the gradient of the term, both zero if it was skipped.
      value: [] the term, for the log; zero if it was skipped.
      skipped: [] 1.0 where value or gradient was not finite.
    """

    loss: jax.Array
    value: jax.Array
    skipped: jax.Array


def guarded(distance: Callable[[jax.Array], jax.Array], images: jax.Array) -> GuardedTerm:
    """A differentiable scalar distance of images (any shape), skipped if its value or gradient is not finite."""
    value, gradient = jax.value_and_grad(distance)(jax.lax.stop_gradient(images))
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    value, gradient = jnp.where(finite, value, 0.0), jnp.where(finite, gradient, 0.0)
    # Linear in the images: this loss has exactly the gradient that was checked.
    linear = jnp.sum(gradient * images)
    return GuardedTerm(value + linear - jax.lax.stop_gradient(linear), value, 1.0 - finite.astype(jnp.float32))


def guarded_lpips(active: jax.Array, pictures: Callable[[], tuple[Array, Array]], weights: Any) -> GuardedTerm:
    """Mean LPIPS of `pictures` (ours, truth), [B, H, W, 3] in [0, 1]; zero, and not computed, unless `active` [] bool."""

    def evaluate() -> GuardedTerm:
        ours, truth = pictures()
        return guarded(lambda images: jnp.mean(lpips(images, truth, weights)), jnp.clip(ours, 0.0, 1.0))

    return jax.lax.cond(active, evaluate, lambda: GuardedTerm(*[jnp.zeros(())] * 3))


def ramp(step: jax.Array, start: int, length: int) -> jax.Array:
    """[] 0 before `start`, then rising linearly to 1 within `length` steps (at once if that is 0)."""
    return jnp.clip((step - start + 1) / max(length, 1), 0.0, 1.0)


def late_loss(prefix: str, lacks: str, start: int, length: int, steps: int) -> list[Phase]:
    """The phases of a loss that begins at `start` and rises over `length` of a run's `steps` updates; keys `<prefix>start`, `<prefix>ramp`.

    Scaled as in the originals: the last fifth of the run, of which a tenth is the ramp."""
    begun = Phase(f"{prefix}start", start, start, steps, steps * 4 // 5, lacks)
    full = Phase(
        f"{prefix}ramp", length, length - 1, steps - start, (steps - start) // 10, f"{lacks} of full weight", f" after {prefix}start"
    )
    return [begun, full] if start < steps else [begun]


# -------- Lip fine-tuning: late in training, LPIPS of whole patches around the lips (GeneFace's lip finetuning)


class LipPatchLoss:
    """LPIPS of lip patches: in which steps, their pixels, the loss.

    In a lip step the first side * side pixels of every group are a square around the lips; the others are drawn as in other steps.
    """

    def __init__(self, lips: ConfigDict, steps: int, subject: Subject, rays: int):
        """Reads the patches' settings.

        Args:
          lips: `config.lips`; every field is explained in configs/head.py.
          steps: length of the run.
          subject: the dataset, for its lip boxes.
          rays: R, pixels of a group.

        Raises:
          InputError: a patch has more pixels than a group or than the picture, or LPIPS's weights are needed and absent.
        """
        self.config = lips
        self.subject = subject
        self.enabled = lips.weight > 0 and steps > lips.start
        if self.enabled and (lips.side**2 > rays or lips.side > subject.size):
            raise InputError(
                f"A lip patch of {lips.side}x{lips.side} pixels does not fit {rays} rays of a {subject.size} pixel picture: "
                "make config.lips.side smaller or config.data.rays larger."
            )
        self._weights = load_lpips(lips.net, lips.weights) if self.enabled else {}

    def phases(self, steps: int) -> list[Phase]:
        """Start and full weight of the lip steps in a run of that many updates, if the config gives them a weight."""
        return late_loss("lips.", "lip steps (LPIPS of the lips)", self.config.start, self.config.ramp, steps) if self.config.weight else []

    def weights(self) -> dict[str, Any]:
        """LPIPS's parameters for the devices; empty in a run without lip steps."""
        return jax.tree.map(jnp.asarray, self._weights)

    def started(self, step: Any) -> Any:
        """[] bool: whether lip fine-tuning has begun."""
        return (step >= self.config.start) & jnp.bool_(self.enabled)

    def due(self, step: Any) -> Any:
        """[] bool: whether this is a lip step; the first step of the fine-tuning is an ordinary one, as in the original."""
        return self.started(step) & ((step - self.config.start) % self.config.every == self.config.every - 1)

    def replace(self, step: int, frames: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """The pixels [G, R, 2] of a step's frames [G]; in a lip step the first ones are replaced by the lip patches."""
        if not bool(self.due(step)):
            return pixels
        size = (self.subject.size, self.subject.size)
        patches = patch_pixels(self.subject.lip_box[frames], self.config.side, size)
        return np.concatenate([patches, pixels[:, patches.shape[1] :]], axis=1)

    def loss(self, step: jax.Array, rgb: jax.Array, target: jax.Array, weights: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted term and its metrics: `lpips` (mean over lip steps) and `lpips_skipped`.

        `rgb` and `target` are [G, R, 3] in [0, 1], in a lip step with the patches first; `weights` is the result of `weights`.
        """
        if not self.enabled:
            return jnp.zeros(()), {}
        term = guarded_lpips(self.due(step), lambda: (self._patches(rgb), self._patches(target)), weights)
        strength = self.config.weight * ramp(step, self.config.start, self.config.ramp)
        # One step in `every` has a value: multiplied by that, the mean over many steps is the mean over lip steps.
        metrics = {"lpips": term.value * self.config.every, "lpips_skipped": term.skipped}
        return strength * term.loss, metrics

    def _patches(self, rgb: jax.Array) -> jax.Array:
        """[G, R, 3] -> [G, P, P, 3] with P = side, enlarged to `shown_side` if that is larger."""
        side = self.config.side
        patches = rgb[:, : side * side].reshape(-1, side, side, 3)
        shown = max(side, self.config.shown_side)
        return patches if shown == side else jax.image.resize(patches, (len(patches), shown, shown, 3), "bilinear")


# -------- Shared parts of the super-resolution stages: the network and its initial parameters, half-size pictures, LPIPS of whole pictures.


def build_super_resolution(config: ConfigDict, subject: Subject) -> nn.Module:
    """The network of `config.super_resolution`. Raises InputError if its output size is not the dataset's."""
    from geneface_jax.models.super_resolution import SuperResolution  # only the super-resolution stages need it

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
        self.weighted = any(loss[f"perceptual_{name}"] > 0 for name in ("small", "large", "lips"))
        self.config = config
        self.enabled = self.weighted and config.train.steps > loss.perceptual_start
        self._weights = load_lpips(config.perceptual.net, config.perceptual.weights) if self.enabled else {}

    def phases(self, steps: int) -> list[Phase]:
        """Start and full weight of the perceptual terms in a run of that many updates, if the config gives one a weight."""
        loss = self.config.loss
        return late_loss("loss.perceptual_", "perceptual loss", loss.perceptual_start, loss.perceptual_ramp, steps) if self.weighted else []

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
