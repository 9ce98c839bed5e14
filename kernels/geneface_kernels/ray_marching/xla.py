"""Ray marching in plain jax.numpy: all rays step together until the last one is done."""

import jax
import jax.numpy as jnp

from geneface_kernels.ray_marching.geometry import MarchConfig, Rays, cell_at, step_length
from geneface_kernels.typing import Bool, Float32, Int32


def sample_parameters(
    rays_o: Float32[jax.Array, "N 3"],
    rays_d: Float32[jax.Array, "N 3"],
    start: Float32[jax.Array, " N"],
    far: Float32[jax.Array, " N"],
    occupied: Bool[jax.Array, "C R R R"],
    config: MarchConfig,
    slots: int,
) -> tuple[Float32[jax.Array, "N slots"], Int32[jax.Array, " N"]]:
    """Ray parameters of the first samples of each ray, from lattice point `start` to `far`, at most `slots` of them.

    Returns:
      (parameters, 0 in unused slots; number of samples).
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
        cell, exit_at = cell_at(rays, t, config)
        tested = (t < far) & (count < slots) & (t >= skip_until)
        hit = tested & cells.at[cell].get(mode="promise_in_bounds")
        found = found.at[row, jnp.where(hit, count, slots)].set(t, mode="drop", unique_indices=True)
        skip_until = jnp.where(tested & ~hit, exit_at, skip_until)
        return t + step_length(t, config), skip_until, count + hit.astype(jnp.int32), found

    first = (start, jnp.full_like(start, -jnp.inf), jnp.zeros(start.shape, jnp.int32), jnp.zeros((len(start), slots), start.dtype))
    _, _, count, found = jax.lax.while_loop(unfinished, advance, first)
    return found, count
