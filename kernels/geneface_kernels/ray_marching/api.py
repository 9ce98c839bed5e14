"""Ray marching through an occupancy grid: `march_rays` finds the samples of each ray, `march_train` packs them into flat buffers."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.ray_marching import pallas, xla
from geneface_kernels.ray_marching.geometry import MarchConfig, clamp, step_length

# ----------------------------------------------------------------------------------------------------
# From the sample parameters of each ray to flat buffers of a fixed number of rows.


class MarchedSamples(NamedTuple):
    """Samples of N rays in M rows, ray after ray, each ray's in increasing t. Unused rows are zero.

    Attributes:
      points: [M, 3] float32, clamped to the scene.
      directions: [M, 3] float32.
      deltas: [M, 2] float32 (length of the sample's step, parameter at the END of the step).
      ray: [M] int32 ray of each row; N in unused rows.
      slot: [M] int32 number of the sample on its ray.
      offsets: [N] int32 row of each ray's first sample, if all rays fitted.
      counts: [N] int32 samples of each ray, those that did not fit included.
      total: [] int32 sum of `counts`.
      complete: [N] bool. A ray whose samples did not all fit has no rows at all, and must not be compared with a pixel.
    """

    points: jax.Array
    directions: jax.Array
    deltas: jax.Array
    ray: jax.Array
    slot: jax.Array
    offsets: jax.Array
    counts: jax.Array
    total: jax.Array
    complete: jax.Array


def pack(rays_o: jax.Array, rays_d: jax.Array, t: jax.Array, counts: jax.Array, marching: MarchConfig, budget: int) -> MarchedSamples:
    """Packs the samples that `march` found.

    The buffer's rows go to rays in order of their number; from the first ray that does not fit, none does. Points are differentiable by
    the rays, with t held constant.

    Args:
      rays_o, rays_d: [N, 3].
      t: [N, S] parameters, of which the first `counts` of a ray count.
      counts: [N] int32.
      marching: static.
      budget: M, rows of the buffer (static).

    Raises:
      ValueError: the budget is no positive number.
    """
    if not isinstance(budget, int) or budget < 1:
        raise ValueError(f"budget must be a whole number of rows of at least 1, got {budget!r}")
    n, slots = t.shape
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    offsets = ends - counts
    complete = (ends <= budget) | (counts == 0)
    row = jnp.arange(budget, dtype=jnp.int32)
    # Ray of a row = how many rays end at or before it.
    ray = jnp.cumsum(jnp.zeros(budget, jnp.int32).at[ends].add(1, mode="drop"), dtype=jnp.int32)
    safe = jnp.minimum(ray, n - 1)
    used = (ray < n) & complete[safe]
    slot = jnp.where(used, row - offsets[safe], 0)
    at = jnp.where(used, t.reshape(-1).at[safe * slots + slot].get(mode="promise_in_bounds"), 0.0)
    step = step_length(at, marching)
    used_column = used[:, None]
    origin, direction = rays_o[safe], rays_d[safe]
    points = clamp(origin + direction * at[:, None], -marching.bound, marching.bound)
    return MarchedSamples(
        points=jnp.where(used_column, points, 0.0),
        directions=jnp.where(used_column, direction, 0.0),
        deltas=jnp.where(used_column, jnp.stack([step, at + step], axis=-1), 0.0),
        ray=jnp.where(used, ray, n),
        slot=slot,
        offsets=offsets,
        counts=counts,
        total=ends[-1],
        complete=complete,
    )


# ----------------------------------------------------------------------------------------------------
# Sample parameters of rays: checks of arguments and the choice of implementation, for training and inference alike.


def march_rays(
    rays_o: jax.Array,
    rays_d: jax.Array,
    t: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    marching: MarchConfig,
    slots: int,
    implementation: backend.Implementation = "auto",
) -> tuple[jax.Array, jax.Array]:
    """Parameters of each ray's first samples from `t` on; not differentiable.

    The parameters are a running float32 sum of steps, and NaN or infinite ends give rays without samples.

    Args:
      rays_o, rays_d: [N, 3] float32; zero components of a direction are allowed.
      t: [N] where the march starts, in units of the direction's length.
      far: [N] where it ends (exclusive).
      noise: [N] in [0, 1), the part of a step by which the first lattice point is moved.
      occupied: [C, R, R, R] bool, x slowest, z fastest; [R, R, R] when there is one cascade.
      marching: static.
      slots: most samples a ray (static).
      implementation: see `backend`.

    Returns:
      ([N, slots] float32 parameters, anything in unused slots; [N] int32 number of samples).

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the named implementation can't run here.
    """
    occupied = check_march_arguments(rays_o, rays_d, {"t": t, "far": far, "noise": noise}, occupied, marching, slots)
    use_pallas, interpret = backend.resolve(implementation, "ray_marching")
    rays_o, rays_d, t, far, noise = jax.lax.stop_gradient((rays_o, rays_d, t, far, noise))
    # A march towards infinity through empty cells would not end.
    far = jnp.where(jnp.isfinite(far), far, -jnp.inf)
    start = t + step_length(t, marching) * noise
    if use_pallas:
        return pallas.sample_parameters(rays_o, rays_d, start, far, occupied, marching, slots, interpret=interpret)
    return xla.sample_parameters(rays_o, rays_d, start, far, occupied, marching, slots)


def check_march_arguments(
    rays_o: jax.Array, rays_d: jax.Array, per_ray: dict[str, jax.Array], occupied: jax.Array, marching: MarchConfig, slots: int
) -> jax.Array:
    """Raises ValueError for the first argument that is not as `march` says; returns `occupied` with its cascade axis."""
    if rays_o.ndim != 2 or rays_o.shape[1] != 3 or len(rays_o) == 0:
        raise ValueError(f"rays_o must be [N, 3] with at least one ray, got {list(rays_o.shape)}")
    if rays_d.shape != rays_o.shape:
        raise ValueError(f"rays_d must be {list(rays_o.shape)} as rays_o is, got {list(rays_d.shape)}")
    for name, array in per_ray.items():
        if array.shape != rays_o.shape[:1]:
            raise ValueError(f"{name} must be [{len(rays_o)}], one number a ray, got {list(array.shape)}")
    for name, array in {"rays_o": rays_o, "rays_d": rays_d, **per_ray}.items():
        if array.dtype != jnp.float32:
            raise ValueError(f"{name} must be float32, got {array.dtype}")
    if occupied.ndim == 3 and marching.cascades == 1:
        occupied = occupied[None]
    if occupied.shape != marching.grid_shape:
        raise ValueError(f"occupied must be {list(marching.grid_shape)} (cascades, cells along x, y, z), got {list(occupied.shape)}")
    if occupied.dtype != jnp.bool_:
        raise ValueError(f"occupied must be bool, got {occupied.dtype}")
    if not isinstance(slots, int) or slots < 1:
        raise ValueError(f"the number of samples a ray must be a whole number of at least 1, got {slots!r}")
    return occupied


# ----------------------------------------------------------------------------------------------------
# Marching for training: all samples of a batch of rays in one flat buffer of fixed size.


def march_train(
    rays_o: jax.Array,
    rays_d: jax.Array,
    near: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    marching: MarchConfig,
    budget: int,
    implementation: Implementation = "auto",
) -> MarchedSamples:
    """Marches N rays (`march_rays_train` of RAD-NeRF) with at most `marching.max_steps` samples each.

    Unlike the original, rays keep their order in the buffer (there it depends on which thread comes first).

    Args:
      rays_o, rays_d: [N, 3] float32.
      near, far: [N] float32 of `ray_box`; a missed ray has near = far.
      noise: [N] float32 in [0, 1), jitter of each ray's first sample in steps.
      occupied: [C, R, R, R] bool, x slowest ([R, R, R] when there is one cascade).
      marching: static.
      budget: M, rows of the buffer (static). Rays that do not fit are dropped whole, see `MarchedSamples.complete`.
      implementation: see `backend`.

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the named implementation can't run here.
    """
    t, counts = march_rays(rays_o, rays_d, near, far, noise, occupied, marching, marching.max_steps, implementation)
    return pack(rays_o, rays_d, t, counts, marching, budget)
