"""Benchmark cases of every kernel with the bytes and operations of each, for scripts/bench/kernels/run.py."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import geneface_kernels as gk
import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.grid_encoding.spec import PRIMES

from tests.parity.kernels.inference_step import march_step

Call = Callable[[], Any]
"""A call without arguments that returns an array, or a tree of arrays, to block on."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One timed call of one op. Nothing is allocated or compiled before `run` or `torch` is called.

    Attributes:
      op: name of the op, as in `backend.AUTO`.
      name: what is timed, with its sizes, for example "forward, hash 3D".
      run: implementation -> a jitted call without arguments (not yet compiled).
      samples: units of work of one call (points, rays, packed samples), for samples per second.
      bytes_moved: bytes one call has to read and write, each gather counted in full, caches ignored.
      flops: floating-point and index operations of one call.
      torch: builds the same computation in plain PyTorch; None if there is none. The call it returns must be synchronous.
      torch_stacked: an alternative PyTorch formulation.
      implementations: which ones `run` accepts.
      pattern: the device ceiling this case is compared with: "gather", "copy" or "matmul".
    """

    op: str
    name: str
    run: Callable[[str], Call]
    samples: int
    bytes_moved: int
    flops: int
    torch: Callable[[], Call] | None = None
    torch_stacked: Callable[[], Call] | None = None
    implementations: tuple[str, ...] = ("xla", "pallas")
    pattern: str = "gather"


# -------- Training compositing: forward, and forward with all gradients, on rays of up to 16 samples

RAYS = (4096, 65_536)
MAX_SAMPLES = 16
END_THRESHOLD = 1e-4
STEP = 0.027

SAMPLE_BYTES = 4 * (1 + 3 + 1 + 2)
"""Density, color, ambient value and the two of `deltas`."""
GRADIENT_BYTES = 4 * (1 + 3 + 1)
RAY_BYTES = 4 * (2 + 6)
"""Offset and count read; color, alpha, depth and ambient sum written."""
BACKWARD_RAY_BYTES = 4 * (2 + 6 + 6)
"""Offset, count, the sums and their upstream gradients read."""
FORWARD_FLOPS = 16
"""Per sample: exponential and its argument 3, weight 2, transmittance 1, color 6, alpha 1, depth 2, ambient 1."""
BACKWARD_FLOPS = 21
"""Per sample: weight and transmittance again 6, color projected on its gradient 5, running sum 2, density 5, color gradient 3."""


def compositing_cases() -> list[Case]:
    """Forward and forward + backward for each number of rays."""
    return [case for rays in RAYS for case in (_composite_forward(rays), _composite_backward(rays))]


def _composite_forward(rays: int) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _arrays(rays)]
        forward = jax.jit(_composite(implementation))
        return lambda: forward(*arrays)

    def torch_call() -> Call:
        import torch

        arrays = [torch.from_numpy(a) for a in _arrays(rays)]

        def call() -> Any:
            with torch.no_grad():
                return torch_composite(*arrays)

        return call

    samples = _samples(rays)
    moved = samples * SAMPLE_BYTES + rays * RAY_BYTES
    return Case("compositing", f"forward, {rays} rays", run, samples, moved, samples * FORWARD_FLOPS, torch_call, pattern="copy")


def _composite_backward(rays: int) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _arrays(rays)]

        def value_and_gradient(sigma, rgb, ambient, *rest):
            out, vjp = jax.vjp(lambda *a: _composite(implementation)(*a, *rest), sigma, rgb, ambient)
            return out, vjp(jax.tree.map(jnp.ones_like, out))

        compiled = jax.jit(value_and_gradient)
        return lambda: compiled(*arrays)

    def torch_call() -> Call:
        import torch

        sigma, rgb, ambient, *rest = (torch.from_numpy(a) for a in _arrays(rays))
        wanted = [a.requires_grad_() for a in (sigma, rgb, ambient)]

        def call() -> Any:
            color, alpha, _, ambient_sum = out = torch_composite(*wanted, *rest)
            return out, torch.autograd.grad(color.sum() + alpha.sum() + ambient_sum.sum(), wanted)

        return call

    samples = _samples(rays)
    # The samples are read twice; gradients are written twice, first as zeros.
    moved = samples * (2 * SAMPLE_BYTES + 2 * GRADIENT_BYTES) + rays * (RAY_BYTES + BACKWARD_RAY_BYTES)
    flops = samples * (FORWARD_FLOPS + BACKWARD_FLOPS)
    return Case("compositing", f"forward + gradients, {rays} rays", run, samples, moved, flops, torch_call, pattern="copy")


def torch_composite(sigma: Any, rgb: Any, ambient: Any, deltas: Any, offsets: Any, counts: Any) -> tuple[Any, Any, Any, Any]:
    """Compositing in plain PyTorch: rays gathered into slots, a running product. Returns (color, alpha, depth, ambient sum)."""
    import torch

    slot = torch.arange(MAX_SAMPLES)
    used = slot < counts[:, None]
    row = torch.where(used, offsets[:, None] + slot, 0).long()
    passes = torch.where(used, torch.exp(-sigma[row] * deltas[row, 0]), 1.0)
    after = torch.cumprod(passes, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    visited = used & (before.detach() >= END_THRESHOLD)
    weight = torch.where(visited, (1.0 - passes) * before, 0.0)
    color = (weight[..., None] * rgb[row]).sum(1)
    depth = (weight.detach() * deltas[row, 1]).sum(1)
    return color, weight.sum(1), depth, torch.where(visited, ambient[row], 0.0).sum(1)


def _composite(implementation: str) -> Callable[..., gk.Composite]:
    settings = {"max_samples": MAX_SAMPLES, "end_threshold": END_THRESHOLD, "implementation": implementation}
    return functools.partial(gk.composite_train, **settings)


def _counts(rays: int) -> np.ndarray:
    """As in a head's training batch: more than half of the rays miss, the others hit up to 16 occupied cells."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, MAX_SAMPLES + 1, rays)
    return np.where(rng.random(rays) < 0.6, 0, counts).astype(np.int32)


def _samples(rays: int) -> int:
    return int(_counts(rays).sum())


def _arrays(rays: int) -> tuple[np.ndarray, ...]:
    """(sigma, rgb, ambient, deltas, offsets, counts), packed ray after ray."""
    rng = np.random.default_rng(1)
    counts = _counts(rays)
    offsets = (np.cumsum(counts) - counts).astype(np.int32)
    rows = int(counts.sum())
    number = np.arange(rows) - np.repeat(offsets, counts)
    sigma = rng.gamma(0.6, 30.0, rows).astype(np.float32)
    deltas = np.stack([np.full(rows, STEP), 3.0 + STEP * (number + 1)], axis=1).astype(np.float32)
    return sigma, rng.random((rows, 3), np.float32), rng.random(rows, np.float32), deltas, offsets, counts


# -------- Grid encoding: 65,536 points of one training batch in the released models' grid

POINTS = 65_536
SPECS = {
    "hash 3D": gk.GridSpec(kind="hash"),
    "tiled 3D": gk.GridSpec(kind="tiled"),
    "hash 2D": gk.GridSpec(dims=2, kind="hash"),
    "tiled 2D": gk.GridSpec(dims=2, kind="tiled"),
}


def grid_encoding_cases() -> list[Case]:
    """Forward, forward + table gradient, and forward + both gradients (the input gradient trains torso and ambient coordinates)."""
    return [
        case
        for name, spec in SPECS.items()
        for case in (_encode_forward(name, spec), _encode_backward(name, spec), _encode_backward_with_inputs(name, spec))
    ]


def _encode_forward(name: str, spec: gk.GridSpec) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _encode_arrays(spec)[:2]]
        encode = jax.jit(lambda x, table: gk.grid_encode(x, table, spec, implementation))
        return lambda: encode(*arrays)

    def torch_call(stacked: bool = False) -> Call:
        import torch

        x, table, _ = (torch.from_numpy(a) for a in _encode_arrays(spec))

        def call() -> Any:
            with torch.no_grad():
                return torch_encode(x, table, spec, stacked)

        return call

    moved = _gather_bytes(spec) + _stream_bytes(spec)
    twins = {"torch": torch_call, "torch_stacked": functools.partial(torch_call, stacked=True)}
    return Case("grid_encoding", f"forward, {name}", run, POINTS, moved, _forward_flops(spec), **twins)


def _encode_backward(name: str, spec: gk.GridSpec) -> Case:
    # The table is gathered, then its gradient is read and written at the same rows.
    moved = 3 * _gather_bytes(spec) + 2 * _stream_bytes(spec) + 4 * spec.rows * spec.features
    return _gradient_case(f"forward + table gradient, {name}", spec, with_inputs=False, moved=moved, flops=2 * _forward_flops(spec))


def _encode_backward_with_inputs(name: str, spec: gk.GridSpec) -> Case:
    moved = 4 * _gather_bytes(spec) + 3 * _stream_bytes(spec) + 4 * spec.rows * spec.features
    return _gradient_case(
        f"forward + table and input gradient, {name}", spec, with_inputs=True, moved=moved, flops=4 * _forward_flops(spec)
    )


def _gradient_case(name: str, spec: gk.GridSpec, *, with_inputs: bool, moved: int, flops: int) -> Case:
    def run(implementation: str) -> Call:
        x, table, g = (jnp.asarray(a) for a in _encode_arrays(spec))

        def value_and_gradient(x: jax.Array, table: jax.Array, g: jax.Array) -> Any:
            out, vjp = jax.vjp(lambda x, table: gk.grid_encode(x, table, spec, implementation), x, table)
            g_x, g_table = vjp(g)
            return (out, g_table, g_x) if with_inputs else (out, g_table)

        compiled = jax.jit(value_and_gradient)
        return lambda: compiled(x, table, g)

    def torch_call(stacked: bool = False) -> Call:
        import torch

        x, table, g = (torch.from_numpy(a) for a in _encode_arrays(spec))
        wanted = [table.requires_grad_()] + ([x.requires_grad_()] if with_inputs else [])

        def call() -> Any:
            out = torch_encode(x, table, spec, stacked)
            return out, *torch.autograd.grad(out, wanted, g)

        return call

    return Case(
        "grid_encoding", name, run, POINTS, moved, flops, torch=torch_call, torch_stacked=functools.partial(torch_call, stacked=True)
    )


def torch_encode(x: Any, table: Any, spec: gk.GridSpec, stacked: bool = False) -> Any:
    """Grid encoding in plain PyTorch (linear interpolation, points inside [0, 1]).

    Args:
      x: [N, D].
      table: [rows, C].
      spec: the grid's shape.
      stacked: gather all corners of a level as [N, 2^D, C] and contract, instead of adding corner by corner (faster, less common).
    """
    import torch

    outputs = []
    for level in spec.plan:
        position = x * level.scale + (0.0 if spec.align_corners else 0.5)
        floor = torch.floor(position)
        fraction, cell = position - floor, floor.long()
        rows, weights = [], []
        for corner in itertools.product((0, 1), repeat=spec.dims):
            factors = PRIMES if level.hashed else level.factors
            terms = [(cell[:, d] + corner[d]) * factors[d] for d in range(spec.dims)]
            index = terms[0]
            for term in terms[1:]:
                index = index ^ term if level.hashed else index + term
            weight: Any = 1.0
            for d in range(spec.dims):
                weight = weight * (fraction[:, d] if corner[d] else 1.0 - fraction[:, d])
            rows.append(index % level.rows + level.offset)
            weights.append(weight)
        if stacked:
            outputs.append(torch.einsum("nk,nkc->nc", torch.stack(weights, dim=1), table[torch.stack(rows, dim=1)]))
        else:
            outputs.append(sum(weight[:, None] * table[row] for weight, row in zip(weights, rows, strict=True)))
    return torch.cat(outputs, dim=-1)


def _encode_arrays(spec: gk.GridSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points, table, upstream gradient)."""
    rng = np.random.default_rng(0)
    shapes = ((POINTS, spec.dims), (spec.rows, spec.features), (POINTS, spec.output_dim))
    x, table, g = (rng.random(shape, dtype=np.float32) for shape in shapes)
    return x, table - 0.5, g - 0.5


def _gather_bytes(spec: gk.GridSpec) -> int:
    """Table bytes read by one pass over all corners."""
    return 4 * POINTS * spec.levels * 2**spec.dims * spec.features


def _stream_bytes(spec: gk.GridSpec) -> int:
    """Points read and outputs written."""
    return 4 * POINTS * (spec.dims + spec.output_dim)


def _forward_flops(spec: gk.GridSpec) -> int:
    """Per point and level: 5 D for the cell; per corner 2 D for the row, D for the weight, 2 C for the weighted sum."""
    per_level = 5 * spec.dims + 2**spec.dims * (3 * spec.dims + 2 * spec.features)
    return POINTS * spec.levels * per_level


# -------- Ray marching: a batch of training rays and one inference round, through a hollow ellipsoid of occupied cells

NEAR, FAR = 1.9, 2.9
"""The same for every ray, so that the number of lattice points of a call is known."""
MARCHING = gk.MarchConfig(resolution=128, dt_gamma=1.0 / 256.0, max_steps=16)
"""The released models' configuration."""
CONE = gk.MarchConfig(resolution=128, bound=2.0, cascades=2, dt_gamma=1.0 / 64.0, max_steps=128)
"""A large scene, where steps grow and cascades change."""
MEAN_SAMPLES = 8
"""Rows of the training buffer per ray."""

POINT_FLOPS = 72
"""Operations per lattice point: 12 for the point, 27 for the cell and its index, 28 for the exit, 5 for the step and the comparisons."""
MARCH_RAY_BYTES = 4 * 9
"""Origin, direction, near, far and jitter."""


def ray_marching_cases() -> list[Case]:
    """Training with the released configuration and with cascades, and the first round of a 256 x 256 frame."""
    return [
        _train("one cascade, constant step", MARCHING, 4096, torch=True),
        _train("two cascades, cone step", CONE, 4096),
        _step(65_536, 4),
    ]


def lattice_points(config: gk.MarchConfig) -> int:
    """Lattice points between `NEAR` and `FAR`."""
    t, count = NEAR, 0
    while t < FAR:
        t += min(max(t * config.dt_gamma, config.dt_min), config.dt_max)
        count += 1
    return count


def _train(name: str, config: gk.MarchConfig, n: int, *, torch: bool = False) -> Case:
    budget = n * MEAN_SAMPLES

    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _scene(n, config)]
        compiled = jax.jit(lambda o, d, near, far, u, cells: gk.march_train(o, d, near, far, u, cells, config, budget, implementation))
        return lambda: compiled(*arrays)

    def torch_call() -> Call:
        import torch

        arrays = [torch.from_numpy(a) for a in _scene(n, config)]
        return lambda: torch_march(arrays, config, budget)

    points = n * lattice_points(config)
    # Cells (one byte each) stay in the cache, so rays and rows dominate and the ceiling is that of a copy. A row of the buffer is written
    # once, and its ray parameter is written and read once before.
    moved = points + n * MARCH_RAY_BYTES + budget * 4 * (3 + 3 + 2 + 2 + 2)
    return Case(
        "ray_marching",
        f"training march, {n} rays, {name}",
        run,
        points,
        moved,
        points * POINT_FLOPS,
        torch_call if torch else None,
        pattern="copy",
    )


def _step(n: int, n_steps: int) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _scene(n, MARCHING)]
        compiled = jax.jit(lambda o, d, t, far, u, cells: march_step(o, d, t, far, u, cells, MARCHING, n_steps, implementation))
        return lambda: compiled(*arrays)

    # Counted to the end of each ray, although rays stop at their fourth sample.
    points = n * lattice_points(MARCHING)
    moved = points + n * MARCH_RAY_BYTES + n * n_steps * 4 * (3 + 2 + 2)
    return Case("ray_marching", f"inference march, {n_steps} samples of {n} rays", run, points, moved, points * POINT_FLOPS, pattern="copy")


def torch_march(scene: list[Any], config: gk.MarchConfig, budget: int) -> Any:
    """The training march (one cascade, constant step) in plain PyTorch: all lattice points at once, then the hits packed."""
    import torch

    rays_o, rays_d, near, far, noise, occupied = scene
    step, resolution, n = config.dt_min, config.resolution, len(rays_o)
    k = torch.arange(math.ceil((FAR - NEAR) / step))
    t = (near + noise * step)[:, None] + k * step
    points = (rays_o[:, None] + t[..., None] * rays_d[:, None]).clamp(-config.bound, config.bound)
    cell = (0.5 * (points / config.bound + 1.0) * resolution).clamp(0, resolution - 1).long()
    hit = occupied[0, cell[..., 0], cell[..., 1], cell[..., 2]] & (t < far[:, None])
    hit &= hit.cumsum(1) <= config.max_steps
    counts = hit.sum(1)
    ends = counts.cumsum(0)
    ray, at = (hit & (ends <= budget)[:, None]).nonzero(as_tuple=True)
    out = torch.zeros(budget, 8)
    used = len(ray)
    out[:used, :3], out[:used, 3:6] = points[ray, at], rays_d[ray]
    out[:used, 6], out[:used, 7] = step, t[ray, at] + step
    rows = torch.full((budget,), n)
    rows[:used] = ray
    return out, rows, ends - counts, counts


def _scene(n: int, config: gk.MarchConfig) -> tuple[np.ndarray, ...]:
    """Jittered rays of a pinhole camera towards a shell of occupied cells: about 5 samples per ray that hits it."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-0.28, 0.28, (n, 2))
    directions = np.stack([pixels[:, 0], -np.ones(n), pixels[:, 1]], axis=-1)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to([0.0, 2.4, 0.0], (n, 3))
    grids = []
    for cascade in range(config.cascades):
        half = min(2.0**cascade, config.bound)
        center = ((np.arange(config.resolution) + 0.5) * (2.0 / config.resolution) - 1.0) * half
        x, y, z = np.meshgrid(center, center, center, indexing="ij")
        inside = (x / 0.55) ** 2 + (y / 0.35) ** 2 + (z / 0.4) ** 2 <= 1.0
        grids.append(inside & ((x / 0.5) ** 2 + (y / 0.3) ** 2 + (z / 0.35) ** 2 > 0.6))
    rays = [origins, directions, np.full(n, NEAR), np.full(n, FAR), rng.random(n)]
    return *(np.ascontiguousarray(a, dtype=np.float32) for a in rays), np.stack(grids)


# -------- Frame rendering: a head-like ellipsoid hit by 40 % of the rays, 6 samples per ray on average over all of them
#
# The field is a small network with fixed random weights: marching, packing, matrix products and compositing are timed. Frames per second of
# a real head with grids and torso are measured by scripts/bench/laptop.py.

FRAME_STEP = 2.0 * math.sqrt(3.0) / 128
AABB = (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0)
MARCH = gk.FrameMarch(AABB, 0.05, gk.Lattice(FRAME_STEP, gk.Lattice.points_for(AABB, FRAME_STEP, 50.0)), max_samples=16)
RESOLUTION = 128
FRAME_END_THRESHOLD = 1e-4
SEMI_AXES = (0.6, 0.42, 0.45)
"""Of the ellipsoid: up, depth, sideways. The depth gives 15 of 16 possible samples per live ray."""
LIVE = 0.4
FRAME_MEAN_SAMPLES = 6
CAMERA_DISTANCE = 4.0
OCTAVES, WIDTH = 5, 64
"""Of the field: frequency encoding of 3 coordinates, then layers of this width."""
FIELD_FLOPS = 2 * (6 * OCTAVES * WIDTH + WIDTH * WIDTH + WIDTH * 4)
LATTICE_FLOPS = 24
"""Per lattice point: point 6, cell 12, comparison, gather and bit."""
SIZES = ((8, 256), (1, 512))
SMALL_SIZES = ((2, 32), (1, 48))


def frame_rendering_cases(small: bool = False) -> list[Case]:
    """Both renderers on a batch of eight 256 x 256 frames and on one of 512 x 512; with `small` on tiny frames, to test the code."""
    return [_frame_case(schedule, *size) for size in (SMALL_SIZES if small else SIZES) for schedule in ("per_ray", "single_pass")]


def ellipsoid(resolution: int = RESOLUTION) -> np.ndarray:
    """[R, R, R] bool: cells whose center lies in the ellipsoid."""
    axis = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return (x / SEMI_AXES[0]) ** 2 + (y / SEMI_AXES[1]) ** 2 + (z / SEMI_AXES[2]) ** 2 < 1.0


def frame_rays(frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions [F, size^2, 3] of a frontal camera that moves slightly per frame; `LIVE` of the rays hit the ellipsoid."""
    half_side = math.sqrt(math.pi * SEMI_AXES[0] * SEMI_AXES[2] / LIVE) / 2.0
    pixels = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * half_side
    x, z = np.meshgrid(pixels, pixels, indexing="ij")
    target = np.stack([x, np.zeros_like(x), z], axis=-1).reshape(1, -1, 3)
    shift = 0.1 * np.sin(np.arange(frames))[:, None, None] * np.array([0.0, 0.0, 1.0])
    origin = np.broadcast_to(np.array([0.0, CAMERA_DISTANCE, 0.0]) + shift, (frames, size * size, 3))
    direction = target - origin
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return origin.astype(np.float32), direction.astype(np.float32)


def network(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A field of `FIELD_FLOPS` per point, semi-transparent so that few rays end early."""
    del frame
    rng = np.random.default_rng(0)
    first, second, last = (
        jnp.asarray(rng.normal(size=(a, b)) / math.sqrt(a), jnp.float32) for a, b in ((6 * OCTAVES, WIDTH), (WIDTH, WIDTH), (WIDTH, 4))
    )
    turns = points[:, :, None] * (2.0 ** np.arange(OCTAVES, dtype=np.float32))
    waves = jnp.concatenate([jnp.sin(turns), jnp.cos(turns)], axis=-1).reshape(len(points), -1)
    out = jax.nn.relu(jax.nn.relu(waves @ first) @ second) @ last
    return 5.0 * jax.nn.sigmoid(out[:, 0]), jax.nn.sigmoid(out[:, 1:] + 0.1 * directions)


def _frame_case(schedule: str, frames: int, size: int) -> Case:
    rays = frames * size * size
    samples = rays * FRAME_MEAN_SAMPLES

    def run(implementation: str) -> Call:
        del implementation
        o, d = (jnp.asarray(a) for a in frame_rays(frames, size))
        occupied = jnp.asarray(ellipsoid())
        if schedule == "per_ray":
            render = jax.jit(lambda o, d, g: gk.render_per_ray(network, o, d, g, MARCH, FRAME_END_THRESHOLD).rgb)
        else:
            budget = gk.sufficient_budget(samples)
            render = jax.jit(lambda o, d, g: gk.render_single_pass(network, o, d, g, MARCH, FRAME_END_THRESHOLD, budget=budget).rgb)
        return lambda: render(o, d, occupied)

    return Case(
        op="frame_rendering",
        name=f"{schedule}, {frames} x {size} x {size}, {LIVE:.0%} live, {FRAME_MEAN_SAMPLES} samples a ray",
        run=run,
        samples=samples,
        # Per ray: the ray, the pixel and one cell per lattice point; per sample: point, direction, density and color.
        bytes_moved=rays * (24 + 20 + MARCH.lattice.points) + samples * 40,
        flops=samples * FIELD_FLOPS + rays * MARCH.lattice.points * LATTICE_FLOPS,
        implementations=("xla",),
        pattern="matmul",
    )
