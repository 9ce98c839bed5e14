"""Timed cases of grid encoding: 65,536 points of one training batch in the released models' grid."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.bench import Call, Case
from geneface_kernels.grid_encoding.encode import grid_encode
from geneface_kernels.grid_encoding.spec import PRIMES, GridSpec

POINTS = 65_536
SPECS = {
    "hash 3D": GridSpec(kind="hash"),
    "tiled 3D": GridSpec(kind="tiled"),
    "hash 2D": GridSpec(dims=2, kind="hash"),
    "tiled 2D": GridSpec(dims=2, kind="tiled"),
}


def cases() -> list[Case]:
    """Forward, forward + table gradient, and forward + both gradients (torso and ambient coordinates are trained through)."""
    return [
        case for name, spec in SPECS.items() for case in (_forward(name, spec), _backward(name, spec), _backward_with_inputs(name, spec))
    ]


def _forward(name: str, spec: GridSpec) -> Case:
    def run(implementation: str) -> Call:
        arrays = [jnp.asarray(a) for a in _arrays(spec)[:2]]
        encode = jax.jit(lambda x, table: grid_encode(x, table, spec, implementation))
        return lambda: encode(*arrays)

    def torch_call(stacked: bool = False) -> Call:
        import torch

        x, table, _ = (torch.from_numpy(a) for a in _arrays(spec))

        def call() -> Any:
            with torch.no_grad():
                return torch_encode(x, table, spec, stacked)

        return call

    moved = _gather_bytes(spec) + _stream_bytes(spec)
    twins = {"torch": torch_call, "torch_stacked": functools.partial(torch_call, stacked=True)}
    return Case("grid_encoding", f"forward, {name}", run, POINTS, moved, _forward_flops(spec), **twins)


def _backward(name: str, spec: GridSpec) -> Case:
    # The table is gathered, then its gradient is read and written at the same rows.
    moved = 3 * _gather_bytes(spec) + 2 * _stream_bytes(spec) + 4 * spec.rows * spec.features
    return _gradient_case(f"forward + table gradient, {name}", spec, with_inputs=False, moved=moved, flops=2 * _forward_flops(spec))


def _backward_with_inputs(name: str, spec: GridSpec) -> Case:
    moved = 4 * _gather_bytes(spec) + 3 * _stream_bytes(spec) + 4 * spec.rows * spec.features
    return _gradient_case(
        f"forward + table and input gradient, {name}", spec, with_inputs=True, moved=moved, flops=4 * _forward_flops(spec)
    )


def _gradient_case(name: str, spec: GridSpec, *, with_inputs: bool, moved: int, flops: int) -> Case:
    def run(implementation: str) -> Call:
        x, table, g = (jnp.asarray(a) for a in _arrays(spec))

        def value_and_gradient(x: jax.Array, table: jax.Array, g: jax.Array) -> Any:
            out, vjp = jax.vjp(lambda x, table: grid_encode(x, table, spec, implementation), x, table)
            g_x, g_table = vjp(g)
            return (out, g_table, g_x) if with_inputs else (out, g_table)

        compiled = jax.jit(value_and_gradient)
        return lambda: compiled(x, table, g)

    def torch_call(stacked: bool = False) -> Call:
        import torch

        x, table, g = (torch.from_numpy(a) for a in _arrays(spec))
        wanted = [table.requires_grad_()] + ([x.requires_grad_()] if with_inputs else [])

        def call() -> Any:
            out = torch_encode(x, table, spec, stacked)
            return out, *torch.autograd.grad(out, wanted, g)

        return call

    return Case(
        "grid_encoding", name, run, POINTS, moved, flops, torch=torch_call, torch_stacked=functools.partial(torch_call, stacked=True)
    )


def torch_encode(x: Any, table: Any, spec: GridSpec, stacked: bool = False) -> Any:
    """The same maths in plain PyTorch (linear interpolation, points inside [0, 1]).

    Args:
      x: [N, D]. table: [rows, C].
      stacked: gather all corners of a level as [N, 2^D, C] and contract, instead of adding corner by corner (faster, and less often seen).
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


def _arrays(spec: GridSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(points, table, upstream gradient)."""
    rng = np.random.default_rng(0)
    shapes = ((POINTS, spec.dims), (spec.rows, spec.features), (POINTS, spec.output_dim))
    x, table, g = (rng.random(shape, dtype=np.float32) for shape in shapes)
    return x, table - 0.5, g - 0.5


def _gather_bytes(spec: GridSpec) -> int:
    """Table numbers read by one pass over all corners."""
    return 4 * POINTS * spec.levels * 2**spec.dims * spec.features


def _stream_bytes(spec: GridSpec) -> int:
    """Points read and outputs written."""
    return 4 * POINTS * (spec.dims + spec.output_dim)


def _forward_flops(spec: GridSpec) -> int:
    """Per point and level: 5 D to find the cell; per corner 2 D for the row, D to make and apply the weight's factors, 2 C to add."""
    per_level = 5 * spec.dims + 2**spec.dims * (3 * spec.dims + 2 * spec.features)
    return POINTS * spec.levels * per_level
