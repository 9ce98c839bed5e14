"""Whole frames of a radiance field: this project's settings and samples on top of `geneface_kernels.frame_rendering`."""

from __future__ import annotations

from collections.abc import Callable

import jax
from geneface_kernels.frame_rendering import FrameMarch, FrameRender, count_samples, render_per_ray, render_single_pass

from geneface_jax.models.head import FieldSample
from geneface_jax.rendering.settings import MarchSettings

Field = Callable[[jax.Array, jax.Array, jax.Array], FieldSample]
"""(points [M, 3], directions [M, 3], frame [M] int32 of each point) -> FieldSample."""


def render_rays(
    field: Field,
    rays_o: jax.Array,
    rays_d: jax.Array,
    occupied: jax.Array,
    settings: MarchSettings,
    end_threshold: jax.Array | float,
    *,
    budget: int | None = None,
) -> FrameRender:
    """Renders the rays of one frame or of a batch of frames, without jitter. Every ray stops by itself: none depends on its neighbours.

    Args:
      field: evaluated wherever a ray has a sample.
      rays_o, rays_d: [N, 3], or [F, N, 3] for F frames.
      occupied: [X, X, X] bool.
      settings: static.
      end_threshold: a ray ends when its transmittance falls below this.
      budget: None works through the live rays in rounds (a CPU's way). A number of samples (static) evaluates all of them in one pass (a
        GPU's way); rays beyond it are reported in `dropped`. `wanted_samples` says how many there are.
    """

    def sigma_rgb(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        sample = field(points, directions, frame)
        return sample.sigma, sample.rgb

    if budget is None:
        return render_per_ray(sigma_rgb, rays_o, rays_d, occupied, frame_march(settings), end_threshold)
    return render_single_pass(sigma_rgb, rays_o, rays_d, occupied, frame_march(settings), end_threshold, budget=budget)


def wanted_samples(rays_o: jax.Array, rays_d: jax.Array, occupied: jax.Array, settings: MarchSettings) -> jax.Array:
    """[] int32: samples the rays of `render_rays` ask for."""
    return count_samples(rays_o, rays_d, occupied, frame_march(settings))


def frame_march(settings: MarchSettings) -> FrameMarch:
    """The part of the settings that a frame needs."""
    return FrameMarch(settings.aabb, settings.min_near, settings.lattice, settings.max_samples)
