"""Devices and hosts: pmap, replication, sharding of batches, gradient means, jax.distributed processes and the loss of one."""

import contextlib
import logging
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

from data_tools import locks
from data_tools.errors import InputError
from data_tools.io import disk_error_sentence, require_writable
from geneface_jax.typing import Array

# -------- Data parallelism with pmap: replication, sharding, means over devices
#
# `pmap` is jit + shard_map underneath since JAX 0.9.2; no other module uses it, so that replacing it later is cheap. In a multi-host
# run every process maps over its own devices, and the axis spans all of them: means and item numbers are global, inputs and outputs are
# local arrays.

logger = logging.getLogger(__name__)

AXIS = "devices"
"""Name of the mapped axis inside a training step."""

_limit: int | None = None
_lock: locks.Lock | None = None


@contextlib.contextmanager
def limited(limit: int | None) -> Iterator[None]:
    """Context in which only the first `limit` devices of a process are used (None: all); for `--devices`, tests and benches.
    Raises InputError if the process has fewer."""
    global _limit
    if limit is not None and not 1 <= limit <= jax.local_device_count():
        available = f"{jax.local_device_count()} {jax.default_backend()} device(s)"
        raise InputError(f"--devices is {limit}; this process has {available}: give a number from 1 to {jax.local_device_count()}.")
    before, _limit = _limit, limit
    try:
        yield
    finally:
        _limit = before


def local() -> list[jax.Device]:
    """Devices of this process that take part in a training step."""
    return jax.local_devices()[:_limit]


def count() -> int:
    """Number of devices, over all processes, that take part in a training step."""
    return len(local()) * jax.process_count()


def mean(tree: Any) -> Any:
    """Averages a pytree over devices (gradients, metrics, batch statistics); only inside a mapped step."""
    return jax.lax.pmean(tree, AXIS)


def mean_where_mapped(x: jax.Array) -> jax.Array:
    """The mean over devices inside a mapped step, `x` itself outside one."""
    try:
        return jax.lax.pmean(x, AXIS)
    except NameError:  # no such axis
        return x


def mask_count(mask: Array) -> jax.Array:
    """[] number of ones in a mask of 0/1, at least 1; inside a mapped step the mean over devices.

    With this denominator the mean over devices of (sum over a share / count) is the mean over the whole batch. With each share's own count
    an item would weigh more the fewer others its device has.
    """
    return jnp.maximum(mean_where_mapped(jnp.sum(mask)), 1.0)


def masked_mean(values: Array, mask: Array) -> jax.Array:
    """[] mean of values where the mask (0/1, of the same shape) is 1, 0 for an empty mask; its mean over devices is the batch's mean."""
    return jnp.sum(values * mask) / mask_count(mask)


def global_indices(share: int) -> jax.Array:
    """[share] int32 indices of this device's items in the global batch, for draws that do not depend on the number of devices."""
    return jax.lax.axis_index(AXIS) * share + jnp.arange(share, dtype=jnp.int32)


def replicate(tree: Any) -> Any:
    """Copies a pytree to every device of this process (adds the leading device axis), laid out exactly as `parallel_step` returns its
    state (mesh, axis name): otherwise the second step would be compiled again, as happens after `flax.jax_utils.replicate`."""
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
    Raises InputError if N does not divide B."""
    n, here = count(), len(local())
    first = jax.process_index() * here

    def split(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[0] % n:
            raise InputError(
                f"A batch of {x.shape[0]} can't be split over {n} devices: make the batch a multiple of {n}, or give --devices."
            )
        return x.reshape(n, x.shape[0] // n, *x.shape[1:])[first : first + here]

    return jax.tree.map(split, batch)


def put(batch: Any) -> Any:
    """`shard`, with the shares transferred to their devices; done ahead of time in a thread, it takes no time of the step."""
    return jax.device_put(shard(batch), _sharding())


def put_everywhere(tree: Any) -> Any:
    """Puts a small pytree on every device of this process without a device axis: the rng and step of `parallel_step`."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def parallel_step(step_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Maps `step_fn(state, data, batch, rng, step)` over devices: state and data replicated (the state's buffers are donated), the batch
    sharded, rng and step broadcast."""
    # Across several processes pmap selects the devices itself; a list is only needed for a subset in one process.
    chosen = None if _limit is None else local()
    return jax.pmap(step_fn, axis_name=AXIS, in_axes=(0, 0, 0, None, None), donate_argnums=(0,), devices=chosen)


def memory() -> dict[str, float]:
    """Memory of the fullest device of this process, in GB, by TensorBoard tag; empty if the backend reports none (CPU)."""
    found = [stats for device in local() if (stats := device.memory_stats())]
    names = {"memory/device_in_use_gb": "bytes_in_use", "memory/device_peak_gb": "peak_bytes_in_use"}
    return {tag: max(stats.get(key, 0) for stats in found) / 1e9 for tag, key in names.items()} if found else {}


def _mesh() -> Mesh:
    return Mesh(np.array(local()), (AXIS,))


def _sharding() -> NamedSharding:
    return NamedSharding(_mesh(), PartitionSpec(AXIS))


# -------- Multi-host runs: every process runs the same loop on its share of each batch, only process 0 writes. See docs/scaling.md

HEARTBEAT_SECONDS = 30
"""A process without a heartbeat for this long counts as lost, and the others exit."""

SHUTDOWN_SECONDS = 10
"""How long a process waits at its end for the others to finish."""

LOST_EXIT = 75
"""Exit code of a process that lost another one: EX_TEMPFAIL, "try again"."""

_LOST = ("Gloo", "NCCL", "Connection closed", "Connection reset", "heartbeat", "coordination", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Parts of the error messages of a collective whose partner is gone; they depend on the backend."""


@dataclass(frozen=True)
class Cluster:
    """Rendezvous of a run's processes: `host:port` of process 0, their number, this one's index; None: JAX takes it from the launcher."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def cluster_from_environment(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Cluster | None:
    """The cluster given by the arguments, or by GENEFACE_COORDINATOR, GENEFACE_PROCESSES and GENEFACE_PROCESS.

    The coordinator "auto" leaves detection to JAX, which supports SLURM, Open MPI, Kubernetes and cloud TPUs.

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
    """Connects to the other processes; must run before anything else touches JAX's devices. Raises InputError if they can't be reached."""
    # On CPUs collectives need gloo; on GPUs JAX uses NCCL by itself.
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
        raise InputError(
            f"The processes of this run did not find each other at --coordinator {where} ({error}): check the address, and that all "
            "of them were started."
        ) from error


def is_writer() -> bool:
    """Whether this process writes the work folder and the progress lines."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Barrier: returns when all processes have reached it."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def one_run(workdir: str | os.PathLike, doing: str) -> Iterator[None]:
    """Keeps other runs out of a work folder, which is made, during the block: process 0 takes the lock, the others join its run.

    Raises:
      InputError: the folder can't be written, another run holds it, or this process looks at another folder than process 0.
    """
    with contextlib.ExitStack() as stack:
        lock, refused = None, None
        if is_writer():
            try:
                require_writable(workdir)
                lock = stack.enter_context(locks.hold(workdir, doing))
            except InputError as error:
                refused = error  # raised once the others know: they would wait for ever
        with lost_host_as_exit():
            run = _from_process_0(lock.holder.run if lock else "0" * 16)
        if refused is not None:
            raise refused
        if not int(run, 16):
            raise InputError(f"Process 0 of this run can't have {workdir} for itself: its own output says why.")
        if lock is None:
            locks.join(workdir, run)
        global _lock
        before, _lock = _lock, lock
        try:
            yield
        except OSError as error:  # of curves and notes; those that name a file are told apart by it
            if (sentence := disk_error_sentence(error, None if error.filename else workdir)) is None:
                raise
            raise InputError(sentence) from error
        finally:
            _lock = before


def require_run() -> None:
    """Checks before a save that the folder of `one_run` is still this run's. Raises InputError if another one has taken it over."""
    if _lock is not None:
        _lock.require()


def _from_process_0(digits: str) -> str:
    """16 hex digits of process 0, in every process."""
    if jax.process_count() == 1:
        return digits
    from jax.experimental import multihost_utils

    words = np.array([int(digits[i : i + 4], 16) for i in range(0, 16, 4)], np.int32)
    return "".join(f"{int(word):04x}" for word in multihost_utils.broadcast_one_to_all(words))


def any_of_all(value: bool) -> bool:
    """Whether `value` is true in any process; all must call this at the same step."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(value)).any())


@contextlib.contextmanager
def lost_host_as_exit() -> Iterator[None]:
    """Turns the errors that a lost process causes in the others into a sentence, and exits with `LOST_EXIT`.

    It exits without running Python's exit handlers: JAX's would wait for the lost process and then abort with a stack trace. If process 0
    is lost, which receives the heartbeats of the others, JAX aborts by itself and reports that "another task died".
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not any(word in str(error) for word in _LOST):
            raise
        logger.error(
            "Process %d of %d lost another one of this run, whose own output says why: start all of them again with the same command, "
            "they resume from the newest checkpoint.",
            jax.process_index(),
            jax.process_count(),
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(LOST_EXIT)


def _number(variable: str, flag: str, value: int | None) -> int:
    text = os.environ.get(variable) if value is None else str(value)
    if text is None or not text.isdecimal():
        raise InputError(f"--coordinator needs {flag} too (or {variable}): give a whole number, not {text!r}.")
    return int(text)
