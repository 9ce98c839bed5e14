"""Rendering the vanilla NeRF: hierarchical (coarse and fine) sampling, compositing, pixels and frames of head and torso."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.models.nerf import NerfHead, NerfTorso, TwoFields
from geneface_jax.rendering.cameras import EXACT, camera_angles, camera_rays
from geneface_jax.typing import Array, Bool, Float, Integer

# -------- Hierarchical sampling and compositing over a background pixel (Mildenhall et al. 2020, section 5; AD-NeRF's variant)

LAST_STEP = 1e10
"""Step length of the last sample, which absorbs all remaining light."""

DENSITY_FLOOR = 1e-6
"""Added to every density (per meter), so that the last sample is opaque even in an empty field."""

Query = Callable[[jax.Array, jax.Array], jax.Array]
"""(points [R, S, 3], unit directions [R, 3]) -> [R, S, 4], color before the sigmoid and density before the ReLU."""


class Composite(NamedTuple):
    """Composited rays. The last sample of a ray has the color of the background pixel and is opaque.

    Attributes:
      rgb: in [0, 1], background included.
      foreground: without the last sample: rgb = foreground + last_weight * background.
      last_weight: weight of the background.
      weights: of every sample.
      depth: mean depth in meters. disparity: 1 / depth.
      opacity: sum of the weights, about 1.
    """

    rgb: Float[jax.Array, "R 3"]
    foreground: Float[jax.Array, "R 3"]
    last_weight: Float[jax.Array, " R"]
    weights: Float[jax.Array, "R S"]
    depth: Float[jax.Array, " R"]
    disparity: Float[jax.Array, " R"]
    opacity: Float[jax.Array, " R"]


class Rendered(NamedTuple):
    """Both passes, and the standard deviation of the depths that the coarse pass proposed to the fine one.

    Without a fine pass `fine` is `coarse`, and `spread` is 0.
    """

    coarse: Composite
    fine: Composite
    spread: Float[jax.Array, " R"]


class Noise(NamedTuple):
    """Uniform draws in [0, 1): positions of the coarse samples in their intervals, quantiles of the fine samples."""

    shift: Float[jax.Array, "R S"]
    quantile: Float[jax.Array, "R F"]


def even_depths(near: float, far: float, rays: int, samples: int) -> Float[jax.Array, "{rays} {samples}"]:
    """Evenly spaced depths of every ray, from near to far inclusive."""
    t = jnp.linspace(0.0, 1.0, samples)
    return jnp.broadcast_to(near * (1.0 - t) + far * t, (rays, samples))


def jitter(depths: Float[jax.Array, "R S"], shift: Float[jax.Array, "R S"]) -> Float[jax.Array, "R S"]:
    """Stratified sampling: moves each depth to the fraction `shift` of its interval, which ends midway to its neighbors.

    The last depth always takes the end of its interval: the background does not move.
    """
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    upper = jnp.concatenate([middle, depths[:, -1:]], axis=-1)
    lower = jnp.concatenate([depths[:, :1], middle], axis=-1)
    return lower + (upper - lower) * shift.at[:, -1].set(1.0)


def sample_pdf(edges: Float[Array, "R B"], weights: Float[Array, "R B-1"], quantiles: Float[Array, "... F"]) -> Float[jax.Array, "R F"]:
    """Inverse transform sampling of a piecewise constant density; bins of weight zero get (almost) no samples.

    Args:
      edges: bin edges, ascending.
      weights: nonnegative, not normalized.
      quantiles: in [0, 1], [F] or [R, F].
    """
    pdf = weights + 1e-5
    pdf = pdf / jnp.sum(pdf, axis=-1, keepdims=True)
    cdf = jnp.concatenate([jnp.zeros_like(pdf[:, :1]), jnp.cumsum(pdf, axis=-1)], axis=-1)
    quantiles = jnp.broadcast_to(quantiles, (len(edges), quantiles.shape[-1]))
    right = jax.vmap(lambda c, u: jnp.searchsorted(c, u, side="right", method="compare_all"))(cdf, quantiles)
    below, above = jnp.maximum(right - 1, 0), jnp.minimum(right, edges.shape[-1] - 1)
    cdf_below, cdf_above = (jnp.take_along_axis(cdf, i, axis=-1) for i in (below, above))
    edge_below, edge_above = (jnp.take_along_axis(edges, i, axis=-1) for i in (below, above))
    width = cdf_above - cdf_below
    share = (quantiles - cdf_below) / jnp.where(width < 1e-5, 1.0, width)
    return edge_below + share * (edge_above - edge_below)


def composite(
    raw: Float[Array, "R S 4"], depths: Float[Array, "R S"], directions: Float[Array, "R 3"], background: Float[Array, "R 3"]
) -> Composite:
    """Composites the samples of rays (the original's `raw2outputs`).

    Args:
      raw: from a `Query`.
      depths: ascending.
      directions: not normalized: their length converts depth to distance.
      background: in [0, 1], the color of each ray's last sample.
    """
    steps = jnp.concatenate([depths[:, 1:] - depths[:, :-1], jnp.full_like(depths[:, :1], LAST_STEP)], axis=-1)
    steps = steps * jnp.linalg.norm(directions, axis=-1, keepdims=True)
    alpha = 1.0 - jnp.exp(-(jax.nn.relu(raw[..., 3]) + DENSITY_FLOOR) * steps)
    passed = jnp.cumprod(1.0 - alpha + 1e-10, axis=-1)
    weights = alpha * jnp.concatenate([jnp.ones_like(alpha[:, :1]), passed[:, :-1]], axis=-1)
    colors = jax.nn.sigmoid(raw[..., :3])
    foreground = jnp.einsum("rs,rsc->rc", weights[:, :-1], colors[:, :-1], precision=EXACT)
    last_weight, opacity = weights[:, -1], jnp.sum(weights, axis=-1)
    depth = jnp.sum(weights * depths, axis=-1)
    return Composite(
        rgb=foreground + last_weight[:, None] * background,
        foreground=foreground,
        last_weight=last_weight,
        weights=weights,
        depth=depth,
        disparity=1.0 / jnp.maximum(1e-10, depth / opacity),
        opacity=opacity,
    )


def render_rays(
    coarse: Query,
    fine: Query,
    origins: Float[jax.Array, "R 3"],
    directions: Float[jax.Array, "R 3"],
    background: Float[Array, "R 3"],
    *,
    near: float,
    far: float,
    samples: int,
    fine_samples: int,
    noise: Noise | None = None,
) -> Rendered:
    """Renders rays in two passes; the coarse pass's weights are the density of the fine pass's samples.

    Args:
      coarse, fine: the fields.
      origins, directions: from `cameras.camera_rays`.
      background: in [0, 1].
      near, far: depths of the first and last sample, meters.
      samples: of the coarse pass, at least 3 if there is a fine pass.
      fine_samples: additional samples of the fine pass, which is evaluated at all of them; 0 for no fine pass.
      noise: draws of a training step; None samples evenly.
    """
    view = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)

    def evaluate(query: Query, depths: jax.Array) -> Composite:
        points = origins[:, None] + directions[:, None] * depths[..., None]
        return composite(query(points, view), depths, directions, background)

    depths = even_depths(near, far, len(origins), samples)
    if noise is not None:
        depths = jitter(depths, noise.shift)
    coarse_pass = evaluate(coarse, depths)
    if fine_samples == 0:
        return Rendered(coarse_pass, coarse_pass, jnp.zeros(len(origins)))
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    quantiles = jnp.linspace(0.0, 1.0, fine_samples) if noise is None else noise.quantile
    # The fine loss must not move the coarse field by way of the sample positions.
    proposed = jax.lax.stop_gradient(sample_pdf(middle, coarse_pass.weights[:, 1:-1], quantiles))
    fine_pass = evaluate(fine, jnp.sort(jnp.concatenate([depths, proposed], axis=-1), axis=-1))
    return Rendered(coarse_pass, fine_pass, jnp.std(proposed, axis=-1))


# -------- Pixels and frames: the head, and the torso in front of it

POINTS_PER_CHUNK = 2**17
"""Samples that are evaluated at once when a frame is rendered: 128 MiB per layer of 256 features, for any frame size."""


@dataclasses.dataclass(frozen=True)
class RaySettings:
    """Static sampling parameters.

    Attributes:
      near, far: depths of the first and last sample, meters.
      offset: position of a ray in its pixel (`cameras.camera_rays`).
      samples, fine_samples: of the two passes (`render_rays`).
    """

    near: float
    far: float
    offset: float
    samples: int
    fine_samples: int

    @staticmethod
    def from_config(rays: ConfigDict) -> "RaySettings":
        """Reads the section `rays` of a head config in which near and far are set."""
        return RaySettings(rays.near, rays.far, rays.offset, rays.samples, rays.fine_samples)

    def resampled(self, samples: int | None, fine_samples: int | None) -> "RaySettings":
        """With other numbers of samples; None keeps a number."""
        samples = self.samples if samples is None else samples
        return dataclasses.replace(self, samples=samples, fine_samples=self.fine_samples if fine_samples is None else fine_samples)


class Drive(NamedTuple):
    """Inputs of one frame.

    Attributes:
      head_window, torso_window: normalized motion around the frame, for each network.
      camera: camera to world of the head.
      body_camera: the camera whose pose conditions the torso: `camera`, unless the view orbits a static head.
      torso_camera: camera to world of the torso, the same in all frames.
      attend: see `NerfHead.condition`.
    """

    head_window: Float[Array, "S C"]
    torso_window: Float[Array, "S2 C"]
    camera: Float[Array, "4 4"]
    body_camera: Float[Array, "4 4"]
    torso_camera: Float[Array, "4 4"]
    attend: Bool[Array, ""]


def attends(attention_from: int, start_step: int, step: int) -> bool:
    """Whether a head uses the attention over its window after `step` updates.

    Args:
      attention_from: the config's `model.attention_from`; 0 for a head that always uses it.
      start_step: step at which the training from the current initialization began.
      step: number of updates.
    """
    return attention_from == 0 or step - start_step > attention_from


def depth_range(cameras: Float[np.ndarray, "T 4 4"], reach: float) -> tuple[float, float]:
    """(near, far) in meters: mean depth of the world origin (the head) minus and plus `reach`.

    Raises:
      ValueError: near would lie behind the camera.
    """
    depth = float(np.mean(np.einsum("ti,ti->t", cameras[:, :3, 3], cameras[:, :3, 2])))
    if not 0 < reach < depth:
        raise ValueError(f"reach must be between 0 and the head's distance ({depth:.2f} m), got {reach}")
    return depth - reach, depth + reach


def render_pixels(
    network: TwoFields,
    params: Any,
    condition: Float[Array, "#R C"],
    camera: Float[Array, "4 4"],
    intrinsics: Float[Array, " 4"],
    pixels: Integer[Array, "R 2"],
    background: Float[Array, "R 3"],
    settings: RaySettings,
    noise: Noise | None = None,
) -> Rendered:
    """Renders pixels (row, column) of one network under one condition, or one per pixel, over a background."""
    origins, directions = camera_rays(camera, intrinsics, pixels[:, 0], pixels[:, 1], settings.offset)

    def query(method: Callable[..., jax.Array]) -> Callable[[jax.Array, jax.Array], Any]:
        return lambda points, view: network.apply({"params": params}, points, view, condition, method=method)

    return render_rays(
        query(TwoFields.query_coarse),
        query(TwoFields.query_fine),
        origins,
        directions,
        background,
        near=settings.near,
        far=settings.far,
        samples=settings.samples,
        fine_samples=settings.fine_samples,
        noise=noise,
    )


def torso_condition(torso: NerfTorso, params: Any, drive: Drive, head_rgb: Float[Array, "R 3"]) -> Float[jax.Array, "R C"]:
    """Condition of pixels for which the head network renders `head_rgb`."""
    pose = camera_angles(drive.body_camera), drive.body_camera[:3, 3]
    condition: Any = torso.apply({"params": params}, drive.torso_window, *pose, head_rgb, method=NerfTorso.condition)
    return condition


@functools.partial(jax.jit, static_argnames=("head", "torso", "head_settings", "torso_settings"))
def person_pixels(
    head: NerfHead,
    torso: NerfTorso | None,
    params: tuple[Any, Any],
    drive: Drive,
    intrinsics: Float[Array, " 4"],
    pixels: Integer[Array, "R 2"],
    train_background: Float[Array, "R 3"],
    background: Float[Array, "R 3"],
    *,
    head_settings: RaySettings,
    torso_settings: RaySettings,
) -> Float[jax.Array, "R 3"]:
    """Renders pixels of head and torso, in [0, 1].

    Args:
      head, torso: the networks; without a torso the head is rendered over the background.
      params: of the head and of the torso.
      drive: the frame.
      intrinsics: fx, fy, cx, cy in pixels.
      pixels: row, column.
      train_background: the background that the networks were trained with; the torso network's input depends on it.
      background: the background of the result.
      head_settings, torso_settings: static.
    """
    condition: Any = head.apply({"params": params[0]}, drive.head_window, drive.attend, method=NerfHead.condition)
    head_render = render_pixels(head, params[0], condition, drive.camera, intrinsics, pixels, train_background, head_settings).fine
    rgb = head_render.foreground + head_render.last_weight[:, None] * background
    if torso is None:
        return rgb
    condition = torso_condition(torso, params[1], drive, head_render.rgb)
    camera = drive.torso_camera
    torso_render = render_pixels(torso, params[1], condition, camera, intrinsics, pixels, train_background, torso_settings).fine
    return torso_render.foreground + torso_render.last_weight[:, None] * rgb


@dataclasses.dataclass(frozen=True)
class NerfPerson:
    """Networks of one person, which render frames of any size in chunks of bounded memory.

    Attributes:
      head, torso: the networks (no torso: None). params: of both.
      head_settings, torso_settings: sampling parameters.
      intrinsics: fx, fy, cx, cy in pixels of a picture of `trained_size` pixels per side.
    """

    head: NerfHead
    torso: NerfTorso | None
    params: tuple[Any, Any]
    head_settings: RaySettings
    torso_settings: RaySettings
    intrinsics: Float[Array, " 4"]
    trained_size: int

    def resampled(self, samples: int | None, fine_samples: int | None) -> "NerfPerson":
        """With other numbers of samples for both networks; None keeps a number."""
        head, torso = (settings.resampled(samples, fine_samples) for settings in (self.head_settings, self.torso_settings))
        return dataclasses.replace(self, head_settings=head, torso_settings=torso)

    def chunks(self, size: int) -> Integer[np.ndarray, "K R 2"]:
        """Pixels (row, column) of a square frame in chunks; the last chunk is padded with the last pixel."""
        settings = (self.head_settings, self.torso_settings) if self.torso is not None else (self.head_settings,)
        rays = max(1, POINTS_PER_CHUNK // max(s.samples + s.fine_samples for s in settings))
        rays = min(rays, size * size)
        index = np.minimum(np.arange(-(-size * size // rays) * rays), size * size - 1)
        return np.stack(np.divmod(index, size), axis=-1).reshape(-1, rays, 2).astype(np.int32)

    def render_chunk(
        self,
        drive: Drive,
        pixels: Integer[np.ndarray, "R 2"],
        size: int,
        train_background: Float[Array, "{size} {size} 3"],
        background: Float[Array, "{size} {size} 3"],
    ) -> Float[jax.Array, "R 3"]:
        """Renders pixels of a frame; backgrounds in [0, 1], see `person_pixels`."""
        row, column = pixels[:, 0], pixels[:, 1]
        intrinsics = jnp.asarray(self.intrinsics * (size / self.trained_size), jnp.float32)
        return person_pixels(
            self.head,
            self.torso,
            self.params,
            drive,
            intrinsics,
            pixels,
            train_background[row, column],
            background[row, column],
            head_settings=self.head_settings,
            torso_settings=self.torso_settings,
        )

    def render(
        self,
        drive: Drive,
        size: int,
        train_background: Float[Array, "{size} {size} 3"],
        background: Float[Array, "{size} {size} 3"],
    ) -> Float[np.ndarray, "{size} {size} 3"]:
        """Renders a frame, float32 in [0, 1]; arguments as `render_chunk`."""
        parts = [np.asarray(self.render_chunk(drive, pixels, size, train_background, background)) for pixels in self.chunks(size)]
        return np.concatenate(parts)[: size * size].reshape(size, size, 3)
