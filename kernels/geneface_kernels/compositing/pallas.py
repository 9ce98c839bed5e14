"""Compositing as Pallas kernels for NVIDIA GPUs: the loops of `lanes.py`, one lane per ray.

A block is one warp: a warp runs until its last lane is done, and short warps make room for the next block. Neighboring lanes read rows one
ray apart, so loads are not coalesced, but the cache lines they fetch serve the following sample numbers. Surplus lanes of the last block
repeat the last ray and store the same values twice, which needs no mask.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from geneface_kernels import backend
from geneface_kernels.compositing import lanes
from geneface_kernels.compositing.lanes import Composite, TrainOptions

LANES = 32
"""Rays per block."""
WARPS = 1


def forward(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, options: TrainOptions) -> Composite:
    """`composite_train` without gradients."""
    packed = _present(sigma, rgb, ambient, deltas, uncertainty)
    rays, rows = offsets.shape[0], sigma.shape[0]

    def kernel(*refs):
        samples, (offsets_ref, counts_ref, *outputs) = refs[: len(packed)], refs[len(packed) :]
        ray = block_elements(rays)
        offset, count = _row_range(offsets_ref, counts_ref, ray, rows)
        sums = lanes.composite_lanes(_reader(samples), offset, count, **options.loop)
        store_channels(outputs[0], ray, sums.rgb)
        for ref, value in zip(outputs[1:], (sums.alpha, sums.depth, sums.ambient, sums.uncertainty)[: len(outputs) - 1], strict=True):
            backend.store(ref, (ray,), value)

    vectors = 3 if uncertainty is None else 4
    shapes = [jax.ShapeDtypeStruct((rays, 3), jnp.float32)] + [jax.ShapeDtypeStruct((rays,), jnp.float32)] * vectors
    out = call_per_ray(kernel, "composite_forward", shapes, rays, [*packed, offsets, counts], options.interpret)
    return Composite(*out)


def backward(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, sums: Composite, upstream: Composite, options: TrainOptions):
    """Gradients of sigma, rgb, ambient and uncertainty (or None), 0 in rows that no ray visited."""
    packed = _present(sigma, rgb, ambient, deltas, uncertainty)
    per_ray = _present(*sums) + _present(*upstream)
    rays, rows = offsets.shape[0], sigma.shape[0]
    like = _present(sigma, rgb, ambient, uncertainty)

    def kernel(*refs):
        samples, (offsets_ref, counts_ref, *rest) = refs[: len(packed)], refs[len(packed) :]
        sums_refs, upstream_refs = rest[: len(per_ray) // 2], rest[len(per_ray) // 2 : len(per_ray)]
        gradients = rest[-len(like) :]
        ray = block_elements(rays)
        offset, count = _row_range(offsets_ref, counts_ref, ray, rows)

        def write(buffers, row, live, gradient):
            # Lanes without a sample use a row past the end. Interpret mode implements a masked store as read, select and write back, which
            # would overwrite another ray's row; rows past the end are dropped there, and on a GPU the mask prevents the store.
            row = jnp.where(live, row, rows)
            backend.store(gradients[0], (row,), gradient.sigma, mask=live)
            store_channels(gradients[1], row, gradient.rgb, mask=live)
            for ref, value in zip(gradients[2:], (gradient.ambient, gradient.uncertainty)[: len(gradients) - 2], strict=True):
                backend.store(ref, (row,), value, mask=live)
            return buffers

        lanes.gradient_lanes(
            _reader(samples), write, (), offset, count, _load_sums(upstream_refs, ray), _load_sums(sums_refs, ray), **options.loop
        )

    # The outputs alias zeros, so that rows no ray visits are zero.
    zeros = [jnp.zeros(a.shape, jnp.float32) for a in like]
    shapes = [jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in like]
    inputs = [*packed, offsets, counts, *per_ray, *zeros]
    aliases = {len(inputs) - len(like) + i: i for i in range(len(like))}
    g_sigma, g_rgb, g_ambient, *rest = call_per_ray(kernel, "composite_backward", shapes, rays, inputs, options.interpret, aliases)
    return g_sigma, g_rgb, g_ambient, rest[0] if rest else None


def _present(*arrays: jax.Array | None) -> list[jax.Array]:
    return [a for a in arrays if a is not None]


def block_elements(count: int) -> jax.Array:
    """[LANES] int32 element of each lane of this block."""
    return jnp.minimum(pl.program_id(0) * LANES + jnp.arange(LANES), count - 1)


def _row_range(offsets_ref, counts_ref, ray: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    offset = backend.load(offsets_ref, (ray,))
    return offset, lanes.usable_counts(offset, backend.load(counts_ref, (ray,)), rows)


def _reader(refs) -> lanes.Read:
    sigma, rgb, ambient, deltas, *rest = refs

    def read(row, live):
        def load(ref, *column):
            return backend.load(ref, (row, *column), mask=live, other=0.0)

        return lanes.Sample(
            sigma=load(sigma),
            rgb=(load(rgb, 0), load(rgb, 1), load(rgb, 2)),
            delta=load(deltas, 0),
            t_end=load(deltas, 1),
            ambient=load(ambient),
            uncertainty=load(rest[0]) if rest else None,
        )

    return read


def _load_sums(refs, ray: jax.Array) -> lanes.LaneSums:
    rgb, *vectors = refs
    alpha, depth, ambient, *rest = (backend.load(ref, (ray,)) for ref in vectors)
    color = tuple(backend.load(rgb, (ray, c)) for c in range(3))
    return lanes.LaneSums(color, alpha, depth, ambient, rest[0] if rest else jnp.zeros_like(alpha))


def store_channels(ref, row: jax.Array, values: lanes.Channels, mask: jax.Array | None = None) -> None:
    """Stores the channels in row `row` of `ref` [rows, 3]."""
    for c, value in enumerate(values):
        backend.store(ref, (row, c), value, mask=mask)


def call_per_ray(kernel, name: str, shapes: list, count: int, inputs: list, interpret: bool, aliases: dict[int, int] | None = None):
    """Runs a kernel with one lane for each of `count` elements; every array stays in global memory."""
    return backend.kernel_call(
        kernel,
        name=name,
        out_shape=shapes,
        grid=(pl.cdiv(count, LANES),),
        in_specs=[backend.whole_array()] * len(inputs),
        out_specs=[backend.whole_array()] * len(shapes),
        input_output_aliases=aliases,
        interpret=interpret,
        num_warps=WARPS,
    )(*inputs)
