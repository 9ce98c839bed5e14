"""Timed cases of training compositing: forward, and forward with all gradients, on rays of up to 16 samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_kernels.bench import Call, Case
from geneface_kernels.compositing.sums import Composite
from geneface_kernels.compositing.train import OP, composite_train

RAYS = (4096, 65_536)
MAX_SAMPLES = 16
END_THRESHOLD = 1e-4
STEP = 0.027

SAMPLE_BYTES = 4 * (1 + 3 + 1 + 2)
"""Density, colour, ambient value and the two of `deltas`."""
GRADIENT_BYTES = 4 * (1 + 3 + 1)
RAY_BYTES = 4 * (2 + 6)
"""Offset and count read; colour, alpha, depth and ambient sum written."""
BACKWARD_RAY_BYTES = 4 * (2 + 6 + 6)
"""Offset, count, the sums and what flows into them read."""
FORWARD_FLOPS = 16
"""A sample: exponential and its argument 3, weight 2, transmittance 1, colour 6, alpha 1, depth 2, ambient 1."""
BACKWARD_FLOPS = 21
"""A sample: weight and transmittance again 6, colour projected on its gradient 5, running sum 2, density 5, colour gradient 3."""


def cases() -> list[Case]:
    """Forward and forward + backward for each number of rays."""
    return [case for rays in RAYS for case in (_forward(rays), _backward(rays))]


def _forward(rays: int) -> Case:
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
    return Case(OP, f"forward, {rays} rays", run, samples, moved, samples * FORWARD_FLOPS, torch_call, pattern="copy")


def _backward(rays: int) -> Case:
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
            colour, alpha, _, ambient_sum = out = torch_composite(*wanted, *rest)
            return out, torch.autograd.grad(colour.sum() + alpha.sum() + ambient_sum.sum(), wanted)

        return call

    samples = _samples(rays)
    # The samples are read twice; gradients are written once as zeros and once as they are.
    moved = samples * (2 * SAMPLE_BYTES + 2 * GRADIENT_BYTES) + rays * (RAY_BYTES + BACKWARD_RAY_BYTES)
    flops = samples * (FORWARD_FLOPS + BACKWARD_FLOPS)
    return Case(OP, f"forward + gradients, {rays} rays", run, samples, moved, flops, torch_call, pattern="copy")


def torch_composite(sigma: Any, rgb: Any, ambient: Any, deltas: Any, offsets: Any, counts: Any) -> tuple[Any, Any, Any, Any]:
    """The same maths in plain PyTorch: rays gathered into slots, a running product. (colour, alpha, depth, ambient sum)."""
    import torch

    slot = torch.arange(MAX_SAMPLES)
    used = slot < counts[:, None]
    row = torch.where(used, offsets[:, None] + slot, 0).long()
    passes = torch.where(used, torch.exp(-sigma[row] * deltas[row, 0]), 1.0)
    after = torch.cumprod(passes, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    visited = used & (before.detach() >= END_THRESHOLD)
    weight = torch.where(visited, (1.0 - passes) * before, 0.0)
    colour = (weight[..., None] * rgb[row]).sum(1)
    depth = (weight.detach() * deltas[row, 1]).sum(1)
    return colour, weight.sum(1), depth, torch.where(visited, ambient[row], 0.0).sum(1)


def _composite(implementation: str) -> Callable[..., Composite]:
    settings = {"max_samples": MAX_SAMPLES, "end_threshold": END_THRESHOLD, "implementation": implementation}
    return functools.partial(composite_train, **settings)


def _counts(rays: int) -> np.ndarray:
    """As in a training batch of a head: more than half of the rays miss it, the others meet up to 16 occupied steps."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, MAX_SAMPLES + 1, rays)
    return np.where(rng.random(rays) < 0.6, 0, counts).astype(np.int32)


def _samples(rays: int) -> int:
    return int(_counts(rays).sum())


def _arrays(rays: int) -> tuple[np.ndarray, ...]:
    """(sigma, rgb, ambient, deltas, offsets, counts) with the samples of ray after ray."""
    rng = np.random.default_rng(1)
    counts = _counts(rays)
    offsets = (np.cumsum(counts) - counts).astype(np.int32)
    rows = int(counts.sum())
    number = np.arange(rows) - np.repeat(offsets, counts)
    sigma = rng.gamma(0.6, 30.0, rows).astype(np.float32)
    deltas = np.stack([np.full(rows, STEP), 3.0 + STEP * (number + 1)], axis=1).astype(np.float32)
    return sigma, rng.random((rows, 3), np.float32), rng.random(rows, np.float32), deltas, offsets, counts
