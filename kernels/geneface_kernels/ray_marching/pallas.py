"""Ray marching as a Pallas kernel for NVIDIA GPUs: one lane per ray; a block of rays runs until its last ray is done."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from geneface_kernels import backend
from geneface_kernels.ray_marching.geometry import MarchConfig, Rays, cell_at, step_length
from geneface_kernels.typing import Bool, Float32, Int32

BLOCK = 128
"""Rays per program: small, because all of them wait for the longest."""


def sample_parameters(
    rays_o: Float32[jax.Array, "N 3"],
    rays_d: Float32[jax.Array, "N 3"],
    start: Float32[jax.Array, " N"],
    far: Float32[jax.Array, " N"],
    occupied: Bool[jax.Array, "C R R R"],
    config: MarchConfig,
    slots: int,
    *,
    interpret: bool,
) -> tuple[Float32[jax.Array, "N slots"], Int32[jax.Array, " N"]]:
    """Same as `xla.sample_parameters`, except that unused slots are undefined."""
    n = len(start)

    def kernel(o_ref, d_ref, start_ref, far_ref, occupied_ref, found_ref, count_ref):
        ray = pl.program_id(0) * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32)
        valid = ray < n
        origin, direction = (
            tuple(backend.load(ref, (ray, jnp.full_like(ray, axis)), mask=valid, other=1.0) for axis in range(3)) for ref in (o_ref, d_ref)
        )
        rays = Rays(origin, direction, tuple(1.0 / d for d in direction))
        first = backend.load(start_ref, (ray,), mask=valid, other=0.0)
        end = backend.load(far_ref, (ray,), mask=valid, other=-1.0)

        def unfinished(carry: Any) -> jax.Array:
            t, _, count = carry
            return jnp.max(((t < end) & (count < slots)).astype(jnp.int32)) > 0

        def advance(carry: Any) -> Any:
            t, skip_until, count = carry
            cell, exit_at = cell_at(rays, t, config)
            tested = (t < end) & (count < slots) & (t >= skip_until)
            hit = tested & (backend.load(occupied_ref, (cell,), mask=tested, other=0) > 0)
            backend.store(found_ref, (ray, jnp.minimum(count, slots - 1)), t, mask=hit)
            skip_until = jnp.where(tested & jnp.logical_not(hit), exit_at, skip_until)
            return t + step_length(t, config), skip_until, count + hit.astype(jnp.int32)

        carry = (first, jnp.full_like(first, -jnp.inf), jnp.zeros_like(ray))
        _, _, count = jax.lax.while_loop(unfinished, advance, carry)
        backend.store(count_ref, (ray,), count, mask=valid)

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
