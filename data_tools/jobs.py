"""A pool of worker processes that survives the death of workers: a lost job is run again by another worker.

Each job leaves its result in a file, so that running it twice does no harm. Processes are spawned, never forked (MediaPipe's threads do not
survive a fork), and each builds its own models. The parent waits for messages and for deaths of workers at the same time.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from data_tools.errors import InputError

MAX_TRIES = 3
"""Tries after which a job whose workers keep dying is given up: it would kill the next worker too."""

CHECK_SECONDS = 5.0
"""Longest wait between two checks of the workers, in case the system's notice of a death is lost."""


def run_jobs(function: Callable[..., None], jobs: Sequence[Any], workers: int, tick: Callable[[int], None]) -> None:
    """Runs `function(job, tick)` for every job.

    Args:
      function: importable by its name; writes the job's result under a temporary name and renames it.
      jobs: picklable.
      workers: 1 runs the jobs in this process, more start as many new processes (at most one per job).
      tick: called with units of work done, as reported by `function`; a job that is run twice counts twice.

    Raises:
      InputError: raised by a job, or a job's worker died `MAX_TRIES` times.
      OSError: raised by a job, for instance because the disk is full.
      RuntimeError: any other exception of a job, with its traceback as text.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            function(job, tick)
        return
    _Pool(function, list(jobs), min(workers, len(jobs)), tick).run()


class _Worker:
    """A process, the pipe to it, and the number of the job it is running."""

    def __init__(self, function: Callable[..., None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_work, args=(function, child_pipe), daemon=True)
        self.process.start()
        child_pipe.close()
        self.job: int | None = None

    def send(self, number: int, job: Any) -> None:
        self.job = number
        self.pipe.send(job)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Pool:
    """The workers and the job queue of one `run_jobs` call."""

    def __init__(self, function: Callable[..., None], jobs: list[Any], size: int, tick: Callable[[int], None]) -> None:
        self.function, self.jobs, self.size, self.tick = function, jobs, size, tick
        self.waiting = list(range(len(jobs)))[::-1]
        self.tries = [0] * len(jobs)
        self.workers: list[_Worker] = []

    def run(self) -> None:
        try:
            while self.waiting or any(worker.job is not None for worker in self.workers):
                self._assign_jobs()
                events = [worker.pipe for worker in self.workers] + [worker.process.sentinel for worker in self.workers]
                multiprocessing.connection.wait(events, timeout=CHECK_SECONDS)
                for worker in list(self.workers):
                    self._receive(worker)
        finally:
            for worker in self.workers:
                worker.end()

    def _assign_jobs(self) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        while self.waiting and (idle or len(self.workers) < self.size):
            if not idle:
                self.workers.append(_Worker(self.function))
                idle.append(self.workers[-1])
            number = self.waiting.pop()
            worker = idle.pop()
            self.tries[number] += 1
            try:
                worker.send(number, self.jobs[number])
            except OSError:
                self._remove_dead_worker(worker)

    def _receive(self, worker: _Worker) -> None:
        messages, dead = [], False
        try:
            while worker.pipe.poll():
                messages.append(worker.pipe.recv())
        except (EOFError, OSError):
            dead = True
        for kind, value in messages:
            if kind == "tick":
                self.tick(value)
            elif kind == "done":
                worker.job = None
            else:
                _raise(kind, value)
        if dead or not worker.process.is_alive():
            self._remove_dead_worker(worker)

    def _remove_dead_worker(self, worker: _Worker) -> None:
        """Removes the worker and puts its job back into the queue."""
        self.workers.remove(worker)
        worker.end()
        if worker.job is None:
            return
        if self.tries[worker.job] >= MAX_TRIES:
            raise InputError(
                f"A worker process died {MAX_TRIES} times at the same part of the work (most often because memory ran out): run the same "
                "command with --workers 1, which resumes from what is finished."
            )
        self.waiting.append(worker.job)


def _raise(kind: str, value: Any) -> None:
    """Raises a worker's exception again in the parent."""
    if kind == "input":
        raise InputError(value)
    if kind == "system":
        raise OSError(*value)
    raise RuntimeError(f"a worker failed:\n{value}")


def _work(function: Callable[..., None], pipe: multiprocessing.connection.Connection) -> None:
    """Main loop of a worker: receives jobs through the pipe; sends "tick", "done" or its exception back."""
    # Ctrl-C reaches every process of the terminal; only the parent handles it, and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_with_parent()
    try:
        while True:
            job = pipe.recv()
            function(job, lambda count: pipe.send(("tick", count)))
            pipe.send(("done", None))
    except EOFError:
        return
    except InputError as error:
        pipe.send(("input", str(error)))
    except OSError as error:
        pipe.send(("system", (error.errno, error.strerror, error.filename)))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


def exit_with_parent() -> None:
    """Starts a thread that ends this worker process when its parent ends, even by SIGKILL."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
