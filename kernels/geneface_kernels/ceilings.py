"""What a device can do at most: random gathers, streaming copies and matrix products, measured with plain jax.numpy.

A kernel's share of the ceiling it is bound by says how much is left to gain; a time alone does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

TABLE_ROWS = 903_480
"""Rows of the default position table (16 levels, 3D, 2^16 rows a level): 7.2 MB with two float32 features."""


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall-clock seconds of `repeats` calls, after one that compiles and warms up."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return times


def measure(repeats: int = 5, small: bool = False) -> dict[str, float]:
    """Measures this device.

    Args:
      repeats: the fastest of that many runs counts.
      small: a tenth of the sizes, to try the code.

    Returns:
      gather_bytes_per_s: rows of 8 bytes (two float32) read at random from a table of `TABLE_ROWS`, counting the rows alone;
      copy_bytes_per_s: an array read and written; matmul_flops_per_s: square float32 matrices, a product and a sum counted as two.
    """
    shrink = 10 if small else 1
    count, length, side = 8_388_608 // shrink, 33_554_432 // shrink, 1024 if jax.default_backend() == "cpu" else 8192 // shrink
    table = jnp.ones((TABLE_ROWS, 2), jnp.float32)
    index = jnp.asarray(np.random.default_rng(0).integers(0, TABLE_ROWS, count, dtype=np.uint32))
    # Summed in chunks of 16, so that writing the result costs little beside reading the rows.
    gather = jax.jit(lambda t, i: jnp.sum(t.at[i].get(mode="promise_in_bounds").reshape(-1, 16, 2), axis=1))
    flat = jnp.ones(length, jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    square = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return {
        "gather_bytes_per_s": count * 8 / min(seconds(lambda: gather(table, index), repeats)),
        "copy_bytes_per_s": length * 8 / min(seconds(lambda: copy(flat), repeats)),
        "matmul_flops_per_s": 2 * side**3 / min(seconds(lambda: product(square), repeats)),
    }
