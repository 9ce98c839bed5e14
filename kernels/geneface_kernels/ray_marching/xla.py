"""Sample parameters of rays in plain jax.numpy: all rays take a step together until the last one is done."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels.ray_marching.geometry import MarchConfig, Rays, cell_at, step_length


def sample_parameters(
    rays_o: jax.Array, rays_d: jax.Array, start: jax.Array, far: jax.Array, occupied: jax.Array, marching: MarchConfig, slots: int
) -> tuple[jax.Array, jax.Array]:
    """Parameters of the first samples of each ray.

    Args:
      rays_o, rays_d: [N, 3].
      start, far: [N] parameters of the first lattice point and of the end.
      occupied: [C, R, R, R] bool.
      slots: most samples a ray.

    Returns:
      ([N, slots] parameters, 0 in unused slots; [N] int32 number of samples).
    """
    columns = tuple(rays_d[:, axis] for axis in range(3))
    rays = Rays(tuple(rays_o[:, axis] for axis in range(3)), columns, tuple(1.0 / d for d in columns))
    cells = occupied.reshape(-1)
    row = jnp.arange(len(start))

    def unfinished(carry):
        t, _, count, _ = carry
        return jnp.any((t < far) & (count < slots))

    def advance(carry):
        t, skip_until, count, found = carry
        cell, exit_at = cell_at(rays, t, marching)
        looked_at = (t < far) & (count < slots) & (t >= skip_until)
        hit = looked_at & cells.at[cell].get(mode="promise_in_bounds")
        found = found.at[row, jnp.where(hit, count, slots)].set(t, mode="drop", unique_indices=True)
        skip_until = jnp.where(looked_at & ~hit, exit_at, skip_until)
        return t + step_length(t, marching), skip_until, count + hit.astype(jnp.int32), found

    first = (start, jnp.full_like(start, -jnp.inf), jnp.zeros(start.shape, jnp.int32), jnp.zeros((len(start), slots), start.dtype))
    _, _, count, found = jax.lax.while_loop(unfinished, advance, first)
    return found, count
