"""A run spread over several processes, usually one a host: who they are, what they agree on, and what happens when one is lost.

Every process runs the same loop on its share of each batch; only the first one writes. See docs/scaling.md.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np

from data_tools.errors import InputError

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


def from_environment(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> Cluster | None:
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


def join(cluster: Cluster) -> None:
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
def explained() -> Iterator[None]:
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
