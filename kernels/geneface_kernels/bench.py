"""What an op's `bench.py` hands to scripts/bench_kernels.py: the cases that are timed, with the work each of them does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]
"""A call without arguments whose result is an array, or a tree of arrays, to wait for."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One timed call of one op.

    An op's `bench.py` has a function `cases() -> list[Case]`. Building a case is cheap: nothing is allocated or compiled before `run`
    or `torch` is called.

    Attributes:
      op: name of the op, as in `backend.AUTO`.
      name: what is timed, with its sizes, for example "forward, hash, 3D".
      run: implementation -> a jitted call without arguments (not yet compiled).
      samples: units of work of one call (points, rays, packed samples), for samples per second.
      bytes_moved: bytes one call has to read and write, each gather counted in full, caches not considered.
      flops: floating-point and index operations of one call.
      torch: builds the same maths in plain PyTorch, imported inside; None where there is none. Calling what it returns must do all the
        work before it comes back (synchronise where the device is asynchronous).
      torch_stacked: a second way of writing it there, where people write it in two ways.
      implementations: which ones `run` accepts.
      pattern: the ceiling of the device this case is held against: "gather", "copy" or "matmul".
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
