"""The fused kernel: for a block of rays, sample after sample, from the position to the sums without leaving the registers.

The first layer is added up feature by feature while the grid is read, so the features never exist together. The second is a matrix product
whose four columns are filled up to the sixteen that a product needs at least. The loop over samples, the stop and the weights are those of
`compositing.lanes`; its `read` here evaluates the field instead of reading memory.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from geneface_kernels import backend
from geneface_kernels.compositing import Composite, lanes
from geneface_kernels.fused_field.weights import FieldWeights
from geneface_kernels.grid_encoding import GridSpec, lattice

LANES = 64
"""Rays of a block: with 64 hidden units and 128 threads the hidden layer takes 32 registers of each."""
WARPS = 4
COLUMNS = 16
"""The narrowest matrix product."""


def render(
    origins,
    directions,
    t,
    counts,
    weights: FieldWeights,
    spec: GridSpec,
    *,
    step: float,
    bound: float,
    end_threshold: float,
    interpret: bool,
) -> Composite:
    """`render_field`; arguments as there."""
    rays = t.shape[0]
    settings = {"step": step, "bound": bound, "end_threshold": end_threshold}
    output = jnp.pad(weights.output, ((0, 0), (0, COLUMNS - weights.output.shape[1])))
    inputs = [origins, directions, t, counts, weights.table, weights.hidden, output]
    shapes = [jax.ShapeDtypeStruct((rays, 3), jnp.float32), *[jax.ShapeDtypeStruct((rays,), jnp.float32)] * 2]
    rgb, alpha, depth = backend.kernel_call(
        functools.partial(_kernel, spec, t.shape, settings),
        name="fused_field",
        out_shape=shapes,
        grid=(pl.cdiv(rays, LANES),),
        in_specs=[backend.whole()] * len(inputs),
        out_specs=[backend.whole()] * len(shapes),
        interpret=interpret,
        num_warps=WARPS,
    )(*inputs)
    return Composite(rgb, alpha, depth, jnp.zeros_like(alpha))


def _kernel(spec: GridSpec, shape: tuple[int, int], settings: dict[str, float], *refs: Any) -> None:
    origins, directions, t, counts, table, hidden, output, rgb_out, alpha_out, depth_out = refs
    rays, slots = shape
    # Surplus lanes of the last block repeat the last ray.
    ray = jnp.minimum(pl.program_id(0) * LANES + jnp.arange(LANES), rays - 1)
    origin, direction = ([backend.load(ref, (ray, d)) for d in range(3)] for ref in (origins, directions))

    def read(slot: jax.Array, live: jax.Array) -> lanes.Sample:
        """Evaluates the field at one sample of every ray; lanes that are not live compute along, the matrix product has no mask."""
        start = backend.load(t, (ray, slot), mask=live, other=0.0)
        unit = [(o + d * start + settings["bound"]) / (2.0 * settings["bound"]) for o, d in zip(origin, direction, strict=True)]
        layer = _first_layer(unit, live, table, hidden, spec)
        logits = backend.dot(jnp.maximum(layer, 0.0), output[...])
        column = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
        # A kernel has no slicing of vectors: a column is the sum over the row with the others masked.
        log_sigma, *colour = (jnp.sum(jnp.where(column == c, logits, 0.0), axis=1) for c in range(4))
        rgb = tuple(1.0 / (1.0 + jnp.exp(-c)) for c in colour)
        delta = jnp.full((LANES,), settings["step"], jnp.float32)
        return lanes.Sample(jnp.exp(log_sigma), rgb, delta, start + settings["step"])

    sums = lanes.composite_lanes(
        read,
        jnp.zeros((LANES,), jnp.int32),
        backend.load(counts, (ray,)),
        max_samples=slots,
        end_threshold=settings["end_threshold"],
        weighted_ambient=False,
    )
    for c, value in enumerate(sums.rgb):
        backend.store(rgb_out, (ray, c), value)
    backend.store(alpha_out, (ray,), sums.alpha)
    backend.store(depth_out, (ray,), sums.depth)


def _first_layer(unit: list[jax.Array], live: jax.Array, table: Any, hidden: Any, spec: GridSpec) -> jax.Array:
    """[LANES, H] before the ReLU. Levels are unrolled: their scales, strides and masks become constants of the code."""
    inside, columns = lattice.keep_inside(unit)
    wanted = live & inside
    layer = jnp.zeros((LANES, hidden.shape[1]), jnp.float32)
    for number, level in enumerate(spec.plan):
        cells, fractions = lattice.locate(columns, level.scale, spec)
        upper = lattice.blend(fractions, spec)
        features = [jnp.zeros((LANES,), jnp.float32) for _ in range(spec.features)]
        for corner in lattice.corners(spec.dims):
            row = lattice.corner_row(cells, corner, level).astype(jnp.int32) + level.offset
            weight = lattice.corner_weight(upper, corner)
            features = [f + weight * backend.load(table, (row, c), mask=wanted, other=0.0) for c, f in enumerate(features)]
        for c, feature in enumerate(features):
            layer += feature[:, None] * hidden[number * spec.features + c, :][None, :]
    return layer
