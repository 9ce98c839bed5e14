"""Peak throughput of a device: random gathers, streaming copies and matrix products, measured with plain jax.numpy.

A kernel's share of the ceiling it is bound by shows how much is left to gain; a time alone does not.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

TABLE_ROWS = 65_536
"""Rows of one level of the released models' tables: half a megabyte with two float32 features. Levels are gathered one after another, so
the cache has to hold one level, not the whole table."""
GATHERS = 8
"""Rows summed per result: the corners of a cell of a 3D lattice."""


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
      small: a tenth of the sizes, to test the code.

    Returns:
      gather_bytes_per_s: rows of 8 bytes (two float32) read at random from a table of `TABLE_ROWS` and summed in groups of `GATHERS`; only
      the rows are counted. copy_bytes_per_s: an array read and written. matmul_flops_per_s: square float32 matrices, a multiply-add
      counted as two.
    """
    shrink = 10 if small else 1
    count, length, side = 1_048_576 // shrink, 33_554_432 // shrink, 1024 if jax.default_backend() == "cpu" else 8192 // shrink
    table = jnp.ones((TABLE_ROWS, 2), jnp.float32)
    gather = jax.jit(lambda t: _sum_of_random_rows(t, count))
    flat = jnp.ones(length, jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    square = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return {
        "gather_bytes_per_s": GATHERS * count * 8 / min(seconds(lambda: gather(table), repeats)),
        "copy_bytes_per_s": length * 8 / min(seconds(lambda: copy(flat), repeats)),
        "matmul_flops_per_s": 2 * side**3 / min(seconds(lambda: product(square), repeats)),
    }


def _sum_of_random_rows(table: jax.Array, count: int) -> jax.Array:
    """[count, 2]; the indices are computed (a multiplicative hash), so that no time goes into reading them."""
    number = jnp.arange(count, dtype=jnp.uint32)
    total = jnp.zeros((count, table.shape[1]), table.dtype)
    for k in range(GATHERS):
        row = ((number + np.uint32(k * 7919)) * np.uint32(2_654_435_761)) >> np.uint32(16)
        total += table.at[row].get(mode="promise_in_bounds")
    return total
