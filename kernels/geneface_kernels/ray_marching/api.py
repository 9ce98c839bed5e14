"""Ray marching through an occupancy grid: `march_rays` finds the samples of each ray, `march_train` packs them into flat buffers."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.ray_marching import pallas, xla
from geneface_kernels.ray_marching.geometry import MarchConfig, clamp, step_length
from geneface_kernels.typing import Array, Bool, Float, Float32, Int32

OP = "ray_marching"

# -------- Packing the samples of all rays into flat buffers of fixed size


class MarchedSamples(NamedTuple):
    """Samples of N rays in M rows, ray after ray, each ray's in increasing t. Unused rows are zero.

    Attributes:
      points: clamped to the scene.
      directions: of the sample's ray.
      deltas: (length of the sample's step, ray parameter at the END of the step).
      ray: ray of each row; N in unused rows.
      slot: number of the sample on its ray.
      offsets: row of each ray's first sample, as if all rays fitted.
      counts: samples of each ray, including those that did not fit.
      total: sum of `counts`.
      complete: a ray whose samples did not all fit has no rows at all, and must be left out of the loss.
    """

    points: Float32[jax.Array, "M 3"]
    directions: Float32[jax.Array, "M 3"]
    deltas: Float32[jax.Array, "M 2"]
    ray: Int32[jax.Array, " M"]
    slot: Int32[jax.Array, " M"]
    offsets: Int32[jax.Array, " N"]
    counts: Int32[jax.Array, " N"]
    total: Int32[jax.Array, ""]
    complete: Bool[jax.Array, " N"]


def pack(
    rays_o: Float[Array, "N 3"],
    rays_d: Float[Array, "N 3"],
    t: Float[Array, "N S"],
    counts: Int32[Array, " N"],
    config: MarchConfig,
    budget: int,
) -> MarchedSamples:
    """Packs the samples found by `march_rays`, rays in order.

    From the first ray that does not fit, no ray gets rows. Points are differentiable by the rays, with t held constant.

    Args:
      rays_o, rays_d: origins and directions.
      t: ray parameters; the first `counts` of each ray are used.
      counts: samples of each ray.
      config: static.
      budget: M, rows of the buffer (static).

    Raises:
      ValueError: the budget is not a positive integer.
    """
    if not isinstance(budget, int) or budget < 1:
        raise ValueError(f"budget must be a whole number of rows of at least 1, got {budget!r}")
    n, slots = t.shape
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    offsets = ends - counts
    complete = (ends <= budget) | (counts == 0)
    row = jnp.arange(budget, dtype=jnp.int32)
    # Ray of a row = number of rays that end at or before it.
    ray = jnp.cumsum(jnp.zeros(budget, jnp.int32).at[ends].add(1, mode="drop"), dtype=jnp.int32)
    safe = jnp.minimum(ray, n - 1)
    used = (ray < n) & complete[safe]
    slot = jnp.where(used, row - offsets[safe], 0)
    at = jnp.where(used, jnp.asarray(t).reshape(-1).at[safe * slots + slot].get(mode="promise_in_bounds"), 0.0)
    step = step_length(at, config)
    used_column = used[:, None]
    origin, direction = rays_o[safe], rays_d[safe]
    points = clamp(origin + direction * at[:, None], -config.bound, config.bound)
    return MarchedSamples(
        points=jnp.where(used_column, points, 0.0),
        directions=jnp.where(used_column, direction, 0.0),
        deltas=jnp.where(used_column, jnp.stack([step, at + step], axis=-1), 0.0),
        ray=jnp.where(used, ray, n),
        slot=slot,
        offsets=offsets,
        counts=jnp.asarray(counts),
        total=ends[-1],
        complete=complete,
    )


# -------- Marching


def march_rays(
    rays_o: Float32[Array, "N 3"],
    rays_d: Float32[Array, "N 3"],
    t: Float32[Array, " N"],
    far: Float32[Array, " N"],
    noise: Float32[Array, " N"],
    occupied: Bool[Array, "*C R R R"],
    config: MarchConfig,
    slots: int,
    implementation: Implementation = "auto",
) -> tuple[Float32[jax.Array, "N slots"], Int32[jax.Array, " N"]]:
    """Ray parameters of each ray's first samples from `t` on; not differentiable.

    The parameters are a running float32 sum of steps. Rays with NaN or infinite ends have no samples.

    Args:
      rays_o, rays_d: origins and directions; zero components of a direction are allowed.
      t: start of the march, in units of the direction's length.
      far: end of the march (exclusive).
      noise: jitter in [0, 1): the fraction of a step by which the first lattice point is shifted.
      occupied: x slowest, z fastest; the cascade axis may be missing if there is one cascade.
      config: static.
      slots: most samples per ray (static).
      implementation: see `backend`.

    Returns:
      (parameters, undefined in unused slots; number of samples).

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the implementation was named and can't run here.
    """
    occupied = check_march_arguments(rays_o, rays_d, {"t": t, "far": far, "noise": noise}, occupied, config, slots)
    use_pallas, interpret = backend.resolve(implementation, OP)
    rays_o, rays_d, t, far, noise = (jax.lax.stop_gradient(jnp.asarray(array)) for array in (rays_o, rays_d, t, far, noise))
    # A march towards infinity through empty cells would never end.
    far = jnp.where(jnp.isfinite(far), far, -jnp.inf)
    start = t + step_length(t, config) * noise
    if use_pallas:
        return pallas.sample_parameters(rays_o, rays_d, start, far, occupied, config, slots, interpret=interpret)
    return xla.sample_parameters(rays_o, rays_d, start, far, occupied, config, slots)


def check_march_arguments(
    rays_o: Array, rays_d: Array, per_ray: Mapping[str, Array], occupied: Array, config: MarchConfig, slots: int
) -> Bool[jax.Array, "C R R R"]:
    """Returns `occupied` with its cascade axis; raises ValueError for the first argument that does not fit `march_rays`."""
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
    if occupied.ndim == 3 and config.cascades == 1:
        occupied = occupied[None]
    if occupied.shape != config.grid_shape:
        raise ValueError(f"occupied must be {list(config.grid_shape)} (cascades, cells along x, y, z), got {list(occupied.shape)}")
    if occupied.dtype != jnp.bool_:
        raise ValueError(f"occupied must be bool, got {occupied.dtype}")
    if not isinstance(slots, int) or slots < 1:
        raise ValueError(f"the number of samples a ray must be a whole number of at least 1, got {slots!r}")
    return jnp.asarray(occupied)


def march_train(
    rays_o: Float32[Array, "N 3"],
    rays_d: Float32[Array, "N 3"],
    near: Float32[Array, " N"],
    far: Float32[Array, " N"],
    noise: Float32[Array, " N"],
    occupied: Bool[Array, "*C R R R"],
    config: MarchConfig,
    budget: int,
    implementation: Implementation = "auto",
) -> MarchedSamples:
    """Marches N rays for training (RAD-NeRF's `march_rays_train`), at most `config.max_steps` samples per ray.

    Rays keep their order in the buffer; in the original it depends on the order in which threads run.

    Args:
      rays_o, rays_d, noise, occupied, config, implementation: as in `march_rays`.
      near, far: from `near_far_from_aabb`; a missed ray has near = far.
      budget: M, rows of the buffer (static). Rays that do not fit are dropped whole, see `MarchedSamples.complete`.

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the implementation was named and can't run here.
    """
    t, counts = march_rays(rays_o, rays_d, near, far, noise, occupied, config, config.max_steps, implementation)
    return pack(rays_o, rays_d, t, counts, config, budget)
