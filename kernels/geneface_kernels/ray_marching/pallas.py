"""Sample parameters of rays on an NVIDIA GPU: a lane per ray, and a block of rays leaves when its last ray is done."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from geneface_kernels import backend
from geneface_kernels.ray_marching.geometry import MarchConfig, Rays, cell_at, step_length

BLOCK = 128
"""Rays of a program: small, because all of them wait for the longest."""


def sample_parameters(
    rays_o: jax.Array,
    rays_d: jax.Array,
    start: jax.Array,
    far: jax.Array,
    occupied: jax.Array,
    marching: MarchConfig,
    slots: int,
    *,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    """Same as `xla.sample_parameters`, except that unused slots hold anything.

    Args:
      interpret: run as jax.numpy, for tests.
    """
    n = len(start)

    def kernel(o_ref, d_ref, start_ref, far_ref, occupied_ref, found_ref, count_ref):
        ray = pl.program_id(0) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
        real = ray < n
        origin, direction = (
            tuple(backend.load(ref, (ray, jnp.full_like(ray, axis)), mask=real, other=1.0) for axis in range(3)) for ref in (o_ref, d_ref)
        )
        rays = Rays(origin, direction, tuple(1.0 / d for d in direction))
        first = backend.load(start_ref, (ray,), mask=real, other=0.0)
        end = backend.load(far_ref, (ray,), mask=real, other=-1.0)

        def unfinished(carry: Any) -> jax.Array:
            t, _, count = carry
            return jnp.max(((t < end) & (count < slots)).astype(jnp.int32)) > 0

        def advance(carry: Any) -> Any:
            t, skip_until, count = carry
            cell, exit_at = cell_at(rays, t, marching)
            looked_at = (t < end) & (count < slots) & (t >= skip_until)
            hit = looked_at & (backend.load(occupied_ref, (cell,), mask=looked_at, other=0) > 0)
            backend.store(found_ref, (ray, jnp.minimum(count, slots - 1)), t, mask=hit)
            skip_until = jnp.where(looked_at & jnp.logical_not(hit), exit_at, skip_until)
            return t + step_length(t, marching), skip_until, count + hit.astype(jnp.int32)

        carry = (first, jnp.full_like(first, -jnp.inf), jnp.zeros_like(ray))
        _, _, count = jax.lax.while_loop(unfinished, advance, carry)
        backend.store(count_ref, (ray,), count, mask=real)

    shapes = (jax.ShapeDtypeStruct((n, slots), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32))
    return backend.kernel_call(
        kernel,
        name="march_rays",
        out_shape=shapes,
        grid=(pl.cdiv(n, BLOCK),),
        in_specs=[backend.whole_array()] * 5,
        out_specs=[backend.whole_array()] * 2,
        interpret=interpret,
    )(rays_o, rays_d, start, far, occupied.reshape(-1).astype(jnp.int8))
