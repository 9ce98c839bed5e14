"""Devices and hosts: pmap, replication, sharding of batches, gradient means, jax.distributed processes and what happens when one is
lost.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_tools.errors import InputError

# ----------------------------------------------------------------------------------------------------
# Everything that knows about devices: pmap, replication, shares of a batch, the gradient mean.
#
# `pmap` is jit + shard_map underneath since JAX 0.9.2; keeping it in this one file is what makes a later move cheap. In a run on many
# hosts every process maps over its own devices, and the axis spans all of them: means and item numbers are global, arrays handed in and
# out local.

AXIS = "devices"
"""Name of the mapped axis inside a training step."""

_most: int | None = None


@contextlib.contextmanager
def limited(most: int | None) -> Iterator[None]:
    """Inside, only the first `most` devices of a process are used (None: all); for `--devices`, tests and benches.

    Raises:
      InputError: the process has fewer.
    """
    global _most
    if most is not None and not 1 <= most <= jax.local_device_count():
        raise InputError(f"--devices is {most}; this process has {jax.local_device_count()} {jax.default_backend()} device(s).")
    before, _most = _most, most
    try:
        yield
    finally:
        _most = before


def local() -> list[jax.Device]:
    """This process's devices that a training step is spread over."""
    return jax.local_devices()[:_most]


def count() -> int:
    """Number of devices, of all processes, that a training step is spread over."""
    return len(local()) * jax.process_count()


def mean(tree: Any) -> Any:
    """Averages a pytree over devices (gradients, metrics, batch statistics); only inside a mapped step."""
    return jax.lax.pmean(tree, AXIS)


def mean_where_mapped(x: jax.Array) -> jax.Array:
    """The mean over devices inside a mapped step, `x` itself outside one.

    The denominator of a masked mean must go through this: a mean over devices of (sum of a share / mean count of all shares) is the mean
    over the whole batch, while a mean of the shares' own means would weigh an item by how few others its device has.
    """
    try:
        return jax.lax.pmean(x, AXIS)
    except NameError:  # no such axis
        return x


def index() -> jax.Array:
    """This device's number inside a mapped step: the offset of its share is `index() * share`."""
    return jax.lax.axis_index(AXIS)


def global_indices(share: int) -> jax.Array:
    """[share] int32 numbers of this device's items in the global batch, for draws that do not depend on the number of devices."""
    return index() * share + jnp.arange(share, dtype=jnp.int32)


def replicate(tree: Any) -> Any:
    """Copies a pytree to every device of this process (adds the leading device axis).

    Laid out exactly as `parallel_step` returns its state (mesh, axis name): otherwise the second step would be traced and compiled anew,
    as it is after `flax.jax_utils.replicate`.
    """
    sharding = _sharding()

    def copies(x: Any) -> jax.Array:
        one = np.asarray(x)
        one = one.astype(jax.dtypes.canonicalize_dtype(one.dtype), copy=False)[None]
        return jax.make_array_from_callback((len(local()), *one.shape[1:]), sharding, lambda index: one)

    return jax.tree.map(copies, tree)


def unreplicate(tree: Any) -> Any:
    """Takes the first device's copy."""
    return jax_utils.unreplicate(tree)


def shard(batch: Any) -> Any:
    """This process's part of a global batch, split over its devices: [B, ...] -> [D, B/N, ...] with D devices here and N in all.

    Raises:
      InputError: the number of devices does not divide B.
    """
    n, here = count(), len(local())
    first = jax.process_index() * here

    def split(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[0] % n:
            raise InputError(
                f"a batch of {x.shape[0]} can't be split over {n} devices: make the batch a multiple of {n}, or give --devices."
            )
        return x.reshape(n, x.shape[0] // n, *x.shape[1:])[first : first + here]

    return jax.tree.map(split, batch)


def put(batch: Any) -> Any:
    """`shard`, with the shares on their devices already: done ahead in a thread, it costs the step nothing."""
    return jax.device_put(shard(batch), _sharding())


def put_everywhere(tree: Any) -> Any:
    """A small pytree on every device of this process without a device axis: what `parallel_step` takes as rng and step."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def parallel_step(step_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Maps `step_fn(state, data, batch, rng, step)` over devices; state and data are replicated, the batch sharded, rng and step broadcast.

    The state's buffers are donated.
    """
    # pmap numbers the devices of many processes itself; a list of them is only for a part of one process.
    chosen = None if _most is None else local()
    return jax.pmap(step_fn, axis_name=AXIS, in_axes=(0, 0, 0, None, None), donate_argnums=(0,), devices=chosen)


def memory() -> dict[str, float]:
    """Memory of the fullest device of this process, in GB, by TensorBoard tag; empty where the backend does not tell (CPU)."""
    found = [stats for device in local() if (stats := device.memory_stats())]
    names = {"memory/device_in_use_gb": "bytes_in_use", "memory/device_peak_gb": "peak_bytes_in_use"}
    return {tag: max(stats.get(key, 0) for stats in found) / 1e9 for tag, key in names.items()} if found else {}


def _mesh() -> Mesh:
    return Mesh(np.array(local()), (AXIS,))


def _sharding() -> NamedSharding:
    return NamedSharding(_mesh(), PartitionSpec(AXIS))


# ----------------------------------------------------------------------------------------------------
# A run spread over several processes, usually one a host: who they are, what they agree on, and what happens when one is lost.
#
# Every process runs the same loop on its share of each batch; only the first one writes. See docs/scaling.md.

HEARTBEAT_SECONDS = 30
"""A process that was not heard of for so long is lost, and the others end."""

SHUTDOWN_SECONDS = 10
"""How long a process that ends waits for the others to end too."""

LOST_EXIT = 75
"""Exit code of a process that lost another one: EX_TEMPFAIL, try again."""

_LOST = ("Gloo", "NCCL", "Connection closed", "Connection reset", "heartbeat", "coordination", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""What errors of a collective whose partner is gone have in them, by backend."""


@dataclass(frozen=True)
class Cluster:
    """Where the processes of a run meet: `host:port` of the first one, how many there are, which this is; None is asked of the launcher."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def cluster_from_environment(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Cluster | None:
    """The cluster named by arguments, or by GENEFACE_COORDINATOR, GENEFACE_PROCESSES and GENEFACE_PROCESS where those are not given.

    The coordinator "auto" leaves everything to JAX, which knows SLURM, Open MPI, Kubernetes and cloud TPUs.

    Returns:
      None for a run of one process.

    Raises:
      InputError: some of the three are missing, or they contradict each other.
    """
    coordinator = coordinator or os.environ.get("GENEFACE_COORDINATOR")
    if not coordinator:
        if processes is not None or process is not None:
            raise InputError("--processes and --process need --coordinator HOST:PORT, the address of process 0.")
        return None
    if coordinator == "auto":
        return Cluster()
    processes = _number("GENEFACE_PROCESSES", "--processes", processes)
    process = _number("GENEFACE_PROCESS", "--process", process)
    if not 0 <= process < processes:
        raise InputError(f"--process is {process} of --processes {processes}: number them from 0 to {processes - 1}.")
    if ":" not in coordinator:
        raise InputError(f"--coordinator is {coordinator!r}: write HOST:PORT, with a free port on the machine of process 0.")
    return Cluster(coordinator, processes, process)


def join_cluster(cluster: Cluster) -> None:
    """Meets the other processes; before anything else touches JAX's devices.

    Raises:
      InputError: they can't be found.
    """
    # Processes on CPUs average through gloo; on GPUs JAX uses NCCL by itself.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator_address=cluster.coordinator,
            num_processes=cluster.processes,
            process_id=cluster.process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            initialization_timeout=120,
        )
    except (RuntimeError, ValueError) as error:
        where = cluster.coordinator or "auto"
        raise InputError(f"the processes of this run did not find each other at --coordinator {where}: {error}.") from error


def is_writer() -> bool:
    """Whether this process writes the work folder and speaks to the user."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when all processes have come to this point."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def any_of_all(value: bool) -> bool:
    """Whether any process says so; all must ask at the same step."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(value)).any())


@contextlib.contextmanager
def lost_host_as_exit() -> Iterator[None]:
    """Turns the errors that a lost process causes in the others into a sentence, and ends the process with `LOST_EXIT`.

    At once and without Python's own farewell: there JAX would wait for the lost process, and then abort with a stack trace. Where process 0
    is lost, which is whom the others' heartbeats go to, JAX aborts by itself, and says that "another task died".
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(word in str(error) for word in _LOST):
            raise
        print(
            f"process {jax.process_index()} of {jax.process_count()} lost another one of this run: its own output says why; start all of "
            "them again with the same command, they go on from the newest checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(LOST_EXIT)


def _number(variable: str, flag: str, value: int | None) -> int:
    text = os.environ.get(variable) if value is None else str(value)
    if text is None or not text.isdecimal():
        raise InputError(f"--coordinator needs {flag} too (or {variable}): a whole number, not {text!r}.")
    return int(text)
