"""Sample parameters of rays: checks of arguments and the choice of implementation, for training and inference alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.ray_marching import pallas, xla
from geneface_kernels.ray_marching.marching import Marching, step_length


def march(
    rays_o: jax.Array,
    rays_d: jax.Array,
    t: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    marching: Marching,
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
    occupied = check_arguments(rays_o, rays_d, {"t": t, "far": far, "noise": noise}, occupied, marching, slots)
    use_pallas, interpret = backend.resolve(implementation, "ray_marching")
    rays_o, rays_d, t, far, noise = jax.lax.stop_gradient((rays_o, rays_d, t, far, noise))
    # A march towards infinity through empty cells would not end.
    far = jnp.where(jnp.isfinite(far), far, -jnp.inf)
    start = t + step_length(t, marching) * noise
    if use_pallas:
        return pallas.sample_parameters(rays_o, rays_d, start, far, occupied, marching, slots, interpret=interpret)
    return xla.sample_parameters(rays_o, rays_d, start, far, occupied, marching, slots)


def check_arguments(
    rays_o: jax.Array, rays_d: jax.Array, per_ray: dict[str, jax.Array], occupied: jax.Array, marching: Marching, slots: int
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
