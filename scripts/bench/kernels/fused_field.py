"""Experiment: grid encoding, a small network and compositing fused in one Pallas kernel, with no per-sample arrays in memory."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import Composite, composite_train, lanes
from geneface_kernels.grid_encoding import GridSpec, grid_encode, lattice
from jax.experimental import pallas as pl

OP = "fused_field"


class FieldWeights(NamedTuple):
    """A 3D grid and a network of two layers without biases.

    Attributes:
      table: [spec.rows, C].
      hidden: [L * C, H] first layer, followed by a ReLU; H a power of two of at least 16 for the Pallas kernel.
      output: [H, 4] second layer: logarithm of the density, and three colors before the sigmoid.
    """

    table: jax.Array
    hidden: jax.Array
    output: jax.Array


# -------- The same field as three separate ops


def render_xla(
    origins, directions, t, counts, weights: FieldWeights, spec: GridSpec, *, step: float, bound: float, end_threshold: float
) -> Composite:
    """Implementation of `render_field`."""
    rays, slots = t.shape
    points = origins[:, None] + directions[:, None] * t[..., None]
    unit = (points.reshape(-1, 3) + bound) / (2.0 * bound)
    features = grid_encode(unit, weights.table, spec, implementation="xla")
    logits = jax.nn.relu(features @ weights.hidden) @ weights.output
    ends = t.reshape(-1) + step
    return composite_train(
        jnp.exp(logits[:, 0]),
        jax.nn.sigmoid(logits[:, 1:]),
        jnp.zeros(rays * slots),
        jnp.stack([jnp.full_like(ends, step), ends], axis=1),
        jnp.arange(rays, dtype=jnp.int32) * slots,
        counts,
        max_samples=slots,
        end_threshold=end_threshold,
        implementation="xla",
    )


# -------- The fused kernel: a block of rays, sample after sample, in registers from the position to the sums
#
# The first layer is accumulated feature by feature while the grid is read. The second is a matrix product with its four columns padded to
# the minimum of sixteen. The loop over samples is that of `compositing.lanes`, with a `read` that evaluates the field.

LANES = 64
"""Rays per block: with 64 hidden units and 128 threads the hidden layer takes 32 registers per thread."""
WARPS = 4
COLUMNS = 16
"""Minimum number of columns of a matrix product."""


def render_pallas(
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
    """Implementation of `render_field`."""
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
        in_specs=[backend.whole_array()] * len(inputs),
        out_specs=[backend.whole_array()] * len(shapes),
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
        """Evaluates the field at one sample of every ray, including lanes that are not live: the matrix product has no mask."""
        start = backend.load(t, (ray, slot), mask=live, other=0.0)
        unit = [(o + d * start + settings["bound"]) / (2.0 * settings["bound"]) for o, d in zip(origin, direction, strict=True)]
        layer = _first_layer(unit, live, table, hidden, spec)
        logits = backend.dot(jnp.maximum(layer, 0.0), output[...])
        column = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
        # Kernels can't slice vectors: a column is the row sum with the other columns masked.
        log_sigma, *color = (jnp.sum(jnp.where(column == c, logits, 0.0), axis=1) for c in range(4))
        rgb = tuple(1.0 / (1.0 + jnp.exp(-c)) for c in color)
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
    """[LANES, H] before the ReLU. Levels are unrolled, so that scales, strides and masks are constants."""
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


# -------- The op


def render_field(
    origins: jax.Array,
    directions: jax.Array,
    t: jax.Array,
    counts: jax.Array,
    weights: FieldWeights,
    spec: GridSpec,
    *,
    step: float,
    bound: float = 1.0,
    end_threshold: float = 1e-4,
    implementation: Implementation = "auto",
) -> Composite:
    """Color, alpha and depth of rays through a field at given sample positions; not differentiable.

    Args:
      origins, directions: [N, 3].
      t: [N, S] ray parameter of each sample, ascending along a ray.
      counts: [N] int32 samples of each ray.
      weights: of the field.
      spec: shape of the grid, three-dimensional (static).
      step: length of a step; `depth` sums its end (static).
      bound: the grid covers [-bound, bound]^3; samples outside encode to zeros (static).
      end_threshold: transmittance below which a ray has ended (static).
      implementation: see `geneface_kernels.backend`; "xla" evaluates all N * S slots, then composites.

    Returns:
      `Composite` of [N] rays; `ambient` is 0.

    Raises:
      ValueError: an array of the wrong shape, or a grid that is not three-dimensional.
      NotImplementedError: the implementation was named and can't run here.
    """
    if spec.dims != 3:
        raise ValueError(f"spec.dims must be 3, got {spec.dims}")
    if t.ndim != 2 or min(t.shape) < 1:
        raise ValueError(f"t must be [N, S] with neither of them 0, got {t.shape}")
    rays, width = t.shape[0], weights.hidden.shape[-1]
    wanted = {
        "origins": (origins, (rays, 3)),
        "directions": (directions, (rays, 3)),
        "counts": (counts, (rays,)),
        "weights.table": (weights.table, (spec.rows, spec.features)),
        "weights.hidden": (weights.hidden, (spec.output_dim, width)),
        "weights.output": (weights.output, (width, 4)),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} must be {list(shape)}, got {array.shape}")
    use_pallas, interpret = backend.resolve(implementation, OP)
    if use_pallas and (width < 16 or width & (width - 1)):
        raise ValueError(f"weights.hidden must have a power of two of at least 16 columns for the Pallas kernel, got {width}")
    settings = {"step": float(step), "bound": float(bound), "end_threshold": float(end_threshold)}
    counts = jnp.minimum(counts, t.shape[1]).astype(jnp.int32)
    origins, directions, t = (a.astype(jnp.float32) for a in (origins, directions, t))
    weights = jax.tree.map(lambda a: a.astype(jnp.float32), weights)
    if use_pallas:
        return render_pallas(origins, directions, t, counts, weights, spec, **settings, interpret=interpret)
    return render_xla(origins, directions, t, counts, weights, spec, **settings)
