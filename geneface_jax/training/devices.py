"""Everything that knows about devices: pmap, replication, the gradient mean.

`pmap` is jit + shard_map underneath since JAX 0.9.2; keeping it in this one file is what makes a later move cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
"""Name of the mapped axis inside a training step."""


def count() -> int:
    """Number of devices a training step is spread over."""
    return jax.local_device_count()


def mean(tree: Any) -> Any:
    """Averages a pytree over devices (gradients, metrics, batch statistics); only inside a mapped step."""
    return jax.lax.pmean(tree, AXIS)


def index() -> jax.Array:
    """This device's number inside a mapped step: the offset of its share is `index() * share`."""
    return jax.lax.axis_index(AXIS)


def global_indices(share: int) -> jax.Array:
    """[share] int32 numbers of this device's items in the global batch, for draws that do not depend on the number of devices."""
    return index() * share + jnp.arange(share, dtype=jnp.int32)


def replicate(tree: Any) -> Any:
    """Copies a pytree to every device (adds the leading device axis).

    Laid out exactly as `parallel_step` returns its state (mesh, axis name): otherwise the second step would be traced and compiled anew,
    as it is after `flax.jax_utils.replicate`.
    """
    sharding = NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec(AXIS))

    def copies(x: Any) -> jax.Array:
        one = np.asarray(x)
        one = one.astype(jax.dtypes.canonicalize_dtype(one.dtype), copy=False)[None]
        return jax.make_array_from_callback((count(), *one.shape[1:]), sharding, lambda index: one)

    return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
    """Takes the first device's copy."""
    return jax_utils.unreplicate(tree)


def shard(batch: Any) -> Any:
    """Splits the leading axis of every array over the devices: [B, ...] -> [D, B/D, ...].

    Raises:
      ValueError: the number of devices does not divide B.
    """
    n = count()

    def split(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[0] % n:
            raise ValueError(f"a batch of {x.shape[0]} can't be split over {n} devices; make the batch a multiple of {n}")
        return x.reshape(n, x.shape[0] // n, *x.shape[1:])

    return jax.tree.map(split, batch)


def parallel_step(step_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Maps `step_fn(state, data, batch, rng, step)` over devices; state and data are replicated, the batch sharded, rng and step broadcast.

    The state's buffers are donated.
    """
    return jax.pmap(step_fn, axis_name=AXIS, in_axes=(0, 0, 0, None, None), donate_argnums=(0,))
