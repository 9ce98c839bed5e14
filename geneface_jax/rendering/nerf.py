"""Rendering the vanilla NeRF: hierarchical (coarse and fine) sampling, compositing, pixels and whole frames of head and torso."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.models.nerf import NerfHead, NerfTorso, TwoFields
from geneface_jax.rendering.cameras import camera_angles, camera_rays

# ----------------------------------------------------------------------------------------------------
# Coarse and fine sampling of rays and their compositing over a background pixel (Mildenhall et al. 2020, section 5; AD-NeRF's variant).

LAST_STEP = 1e10
"""Length of the last sample's step: whatever light is left ends in it."""

DENSITY_FLOOR = 1e-6
"""Added to every density (per metre), so that the last sample is opaque even where nothing is."""

Query = Callable[[jax.Array, jax.Array], jax.Array]
"""(points [R, S, 3], unit directions [R, 3]) -> [R, S, 4], colour before the sigmoid and density before the ReLU."""


class Composite(NamedTuple):
    """What R rays see. The last of a ray's samples shows the background pixel, so that it is always solid.

    Attributes:
      rgb: [R, 3] in [0, 1], background included.
      foreground: [R, 3] without the last sample: rgb = foreground + last_weight * background.
      last_weight: [R] share of the background.
      weights: [R, S] share of every sample.
      depth: [R] mean depth in metres; disparity: [R] 1 / depth.
      opacity: [R] sum of the weights, about 1.
    """

    rgb: jax.Array
    foreground: jax.Array
    last_weight: jax.Array
    weights: jax.Array
    depth: jax.Array
    disparity: jax.Array
    opacity: jax.Array


class Rendered(NamedTuple):
    """Both passes over R rays, and the standard deviation [R] of the depths that the coarse pass proposed to the fine one.

    Without a fine pass `fine` is `coarse`, and the deviation is 0.
    """

    coarse: Composite
    fine: Composite
    spread: jax.Array


class Noise(NamedTuple):
    """Uniform draws in [0, 1): `shift` [R, S] of the coarse samples in their intervals, `quantile` [R, F] of the fine ones."""

    shift: jax.Array
    quantile: jax.Array


def even_depths(near: float, far: float, rays: int, samples: int) -> jax.Array:
    """[R, S] depths from near to far, both included."""
    t = jnp.linspace(0.0, 1.0, samples)
    return jnp.broadcast_to(near * (1.0 - t) + far * t, (rays, samples))


def jitter(depths: jax.Array, shift: jax.Array) -> jax.Array:
    """Stratified sampling: each depth [R, S] moves to `shift` [R, S] of its interval, whose borders lie half-way to its neighbours.

    The last one takes the end of its interval whatever is drawn: the background stays where it is.
    """
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    upper = jnp.concatenate([middle, depths[:, -1:]], axis=-1)
    lower = jnp.concatenate([depths[:, :1], middle], axis=-1)
    return lower + (upper - lower) * shift.at[:, -1].set(1.0)


def sample_pdf(edges: jax.Array, weights: jax.Array, quantiles: jax.Array) -> jax.Array:
    """Inverse transform sampling of a piecewise constant density.

    Args:
      edges: [R, B] borders of the bins, ascending.
      weights: [R, B - 1], not negative, not normalised.
      quantiles: [R, F] or [F] in [0, 1].

    Returns:
      [R, F] positions; a bin without weight is crossed at once.
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


def composite(raw: jax.Array, depths: jax.Array, directions: jax.Array, background: jax.Array) -> Composite:
    """Adds up the samples of rays (the original's `raw2outputs`).

    Args:
      raw: [R, S, 4] from a `Query`.
      depths: [R, S] ascending.
      directions: [R, 3], not normalised: their length turns depth into distance.
      background: [R, 3] in [0, 1], the colour of each ray's last sample.
    """
    steps = jnp.concatenate([depths[:, 1:] - depths[:, :-1], jnp.full_like(depths[:, :1], LAST_STEP)], axis=-1)
    steps = steps * jnp.linalg.norm(directions, axis=-1, keepdims=True)
    alpha = 1.0 - jnp.exp(-(jax.nn.relu(raw[..., 3]) + DENSITY_FLOOR) * steps)
    passed = jnp.cumprod(1.0 - alpha + 1e-10, axis=-1)
    weights = alpha * jnp.concatenate([jnp.ones_like(alpha[:, :1]), passed[:, :-1]], axis=-1)
    colors = jax.nn.sigmoid(raw[..., :3])
    foreground = jnp.einsum("rs,rsc->rc", weights[:, :-1], colors[:, :-1])
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
    origins: jax.Array,
    directions: jax.Array,
    background: jax.Array,
    *,
    near: float,
    far: float,
    samples: int,
    fine_samples: int,
    noise: Noise | None = None,
) -> Rendered:
    """Renders rays in two passes; the second one looks where the first saw something.

    Args:
      coarse, fine: the fields.
      origins, directions: [R, 3] each, metres; directions as `pinhole.camera_rays` makes them.
      background: [R, 3] in [0, 1].
      near, far: depths of the first and last sample, metres.
      samples: of the coarse pass, at least 3 where there is a fine one.
      fine_samples: further ones of the fine pass, which is evaluated on all of them; 0 for no fine pass.
      noise: draws of a training step; None samples evenly.
    """
    view = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)

    def look(query: Query, depths: jax.Array) -> Composite:
        points = origins[:, None] + directions[:, None] * depths[..., None]
        return composite(query(points, view), depths, directions, background)

    depths = even_depths(near, far, len(origins), samples)
    if noise is not None:
        depths = jitter(depths, noise.shift)
    first = look(coarse, depths)
    if fine_samples == 0:
        return Rendered(first, first, jnp.zeros(len(origins)))
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    quantiles = jnp.linspace(0.0, 1.0, fine_samples) if noise is None else noise.quantile
    # Where the fine samples lie is no business of the coarse field's gradient.
    proposed = jax.lax.stop_gradient(sample_pdf(middle, first.weights[:, 1:-1], quantiles))
    second = look(fine, jnp.sort(jnp.concatenate([depths, proposed], axis=-1), axis=-1))
    return Rendered(first, second, jnp.std(proposed, axis=-1))


# ----------------------------------------------------------------------------------------------------
# Pixels and whole frames of the vanilla NeRF: head, and torso in front of it.

POINTS_PER_CHUNK = 2**17
"""Samples that are evaluated at once when a frame is rendered: 128 MiB for each layer of 256 numbers, whatever the size of the frame."""


@dataclasses.dataclass(frozen=True)
class RaySettings:
    """How rays are sampled; static.

    Attributes:
      near, far: depths of the first and last sample, metres.
      offset: where in a pixel its ray goes (`pinhole.camera_rays`).
      samples, fine_samples: of the two passes (`hierarchical.render_rays`).
    """

    near: float
    far: float
    offset: float
    samples: int
    fine_samples: int

    @staticmethod
    def from_config(rays: ConfigDict) -> RaySettings:
        """Reads the section `rays` of a head's config whose depths are set."""
        return RaySettings(rays.near, rays.far, rays.offset, rays.samples, rays.fine_samples)

    def resampled(self, samples: int | None, fine_samples: int | None) -> RaySettings:
        """With other numbers of samples where they are given."""
        samples = self.samples if samples is None else samples
        return dataclasses.replace(self, samples=samples, fine_samples=self.fine_samples if fine_samples is None else fine_samples)


class Drive(NamedTuple):
    """What one frame shows.

    Attributes:
      head_window: [S, 204] normalised motion around the frame. torso_window: the torso's, [S', 204].
      camera: [4, 4] camera to world, by which the head is seen.
      body_camera: [4, 4] the camera whose pose moves the torso: `camera`, unless the view swings around a head that stays.
      torso_camera: [4, 4] the one camera that all torsos are seen by.
      attend: [] bool, see `NerfHead.condition`.
    """

    head_window: jax.Array
    torso_window: jax.Array
    camera: jax.Array
    body_camera: jax.Array
    torso_camera: jax.Array
    attend: jax.Array


def attends(attention_from: int, began: int, step: int) -> bool:
    """Whether a head with so many updates has learnt to weigh the frames of a window.

    Args:
      attention_from: the config's `model.attention_from`; 0 for a head that always did.
      began: the step its start began at.
      step: its updates.
    """
    return attention_from == 0 or step - began > attention_from


def depth_range(cameras: np.ndarray, reach: float) -> tuple[float, float]:
    """(near, far) in metres: `reach` before and behind the head, at the mean depth of the world's origin in cameras [T, 4, 4].

    Raises:
      ValueError: `reach` is so large that near would lie behind the camera.
    """
    depth = float(np.mean(np.einsum("ti,ti->t", cameras[:, :3, 3], cameras[:, :3, 2])))
    if not 0 < reach < depth:
        raise ValueError(f"reach must lie between 0 and the head's distance ({depth:.2f} m), got {reach}")
    return depth - reach, depth + reach


def render_pixels(
    network: TwoFields,
    params: Any,
    condition: jax.Array,
    camera: jax.Array,
    intrinsics: jax.Array,
    pixels: jax.Array,
    background: jax.Array,
    settings: RaySettings,
    noise: Noise | None = None,
) -> Rendered:
    """Renders pixels [R, 2] (row, column) of one network under a condition [1, C] or [R, C] over a background [R, 3]."""
    origins, directions = camera_rays(camera, intrinsics, pixels[:, 0], pixels[:, 1], settings.offset)

    def query(method: Callable[..., jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
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


def torso_condition(torso: NerfTorso, params: Any, drive: Drive, head_rgb: jax.Array) -> jax.Array:
    """[R, C] condition of pixels where the head network shows `head_rgb` [R, 3]."""
    pose = camera_angles(drive.body_camera), drive.body_camera[:3, 3]
    return torso.apply({"params": params}, drive.torso_window, *pose, head_rgb, method=NerfTorso.condition)


@functools.partial(jax.jit, static_argnames=("head", "torso", "head_settings", "torso_settings"))
def person_pixels(
    head: NerfHead,
    torso: NerfTorso | None,
    params: tuple[Any, Any],
    drive: Drive,
    intrinsics: jax.Array,
    pixels: jax.Array,
    own: jax.Array,
    shown: jax.Array,
    *,
    head_settings: RaySettings,
    torso_settings: RaySettings,
) -> jax.Array:
    """Renders pixels of the whole person.

    Args:
      head, torso: the networks; without a torso the head stands before the background alone.
      params: of the head and of the torso.
      drive: the frame.
      intrinsics: [4] fx, fy, cx, cy in pixels.
      pixels: [R, 2] row, column.
      own: [R, 3] the background that the person was trained before: the torso network has seen no other.
      shown: [R, 3] the background of the result.
      head_settings, torso_settings: static.

    Returns:
      [R, 3] in [0, 1].
    """
    condition = head.apply({"params": params[0]}, drive.head_window, drive.attend, method=NerfHead.condition)
    front = render_pixels(head, params[0], condition, drive.camera, intrinsics, pixels, own, head_settings).fine
    rgb = front.foreground + front.last_weight[:, None] * shown
    if torso is None:
        return rgb
    condition = torso_condition(torso, params[1], drive, front.rgb)
    body = render_pixels(torso, params[1], condition, drive.torso_camera, intrinsics, pixels, own, torso_settings).fine
    return body.foreground + body.last_weight[:, None] * rgb


@dataclasses.dataclass(frozen=True)
class NerfPerson:
    """Networks of one person, ready to render frames of any size in pieces of bounded memory.

    Attributes:
      head, torso: the networks (no torso: None). params: of both.
      head_settings, torso_settings: how rays are sampled.
      intrinsics: [4] fx, fy, cx, cy in pixels of a picture `trained_size` pixels wide and high.
    """

    head: NerfHead
    torso: NerfTorso | None
    params: tuple[Any, Any]
    head_settings: RaySettings
    torso_settings: RaySettings
    intrinsics: np.ndarray
    trained_size: int

    def resampled(self, samples: int | None, fine_samples: int | None) -> NerfPerson:
        """With other numbers of samples, of both networks, where they are given."""
        head, torso = (settings.resampled(samples, fine_samples) for settings in (self.head_settings, self.torso_settings))
        return dataclasses.replace(self, head_settings=head, torso_settings=torso)

    def chunks(self, size: int) -> np.ndarray:
        """[K, R, 2] pixels of a square frame in pieces; the last one is filled up with the last pixel."""
        settings = (self.head_settings, self.torso_settings) if self.torso is not None else (self.head_settings,)
        rays = max(1, POINTS_PER_CHUNK // max(s.samples + s.fine_samples for s in settings))
        rays = min(rays, size * size)
        index = np.minimum(np.arange(-(-size * size // rays) * rays), size * size - 1)
        return np.stack(np.divmod(index, size), axis=-1).reshape(-1, rays, 2).astype(np.int32)

    def render_chunk(self, drive: Drive, pixels: np.ndarray, size: int, own: np.ndarray, shown: np.ndarray) -> jax.Array:
        """Renders pixels [R, 2] of a frame; `own` and `shown` are float32 [size, size, 3] backgrounds in [0, 1]. Returns [R, 3]."""
        row, column = pixels[:, 0], pixels[:, 1]
        intrinsics = jnp.asarray(self.intrinsics * (size / self.trained_size), jnp.float32)
        return person_pixels(
            self.head,
            self.torso,
            self.params,
            drive,
            intrinsics,
            pixels,
            own[row, column],
            shown[row, column],
            head_settings=self.head_settings,
            torso_settings=self.torso_settings,
        )

    def render(self, drive: Drive, size: int, own: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """Renders a whole frame, float32 [size, size, 3] in [0, 1]; arguments as `render_chunk`."""
        parts = [np.asarray(self.render_chunk(drive, pixels, size, own, shown)) for pixels in self.chunks(size)]
        return np.concatenate(parts)[: size * size].reshape(size, size, 3)
