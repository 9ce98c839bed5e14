"""Jobs done here, or in processes that may die: each job leaves its result in a file, so one that was lost is simply done again.

Processes are spawned, never forked (MediaPipe's threads do not survive a fork), and each makes its own models. The parent waits for news
and for deaths together: a worker that is killed is noticed at once, and its job goes to another.
"""

from __future__ import annotations

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
"""A job whose worker died this often is given up: it would kill the next one too."""

CHECK_SECONDS = 5.0
"""Longest wait between two looks at the workers, should the system lose the news of a death."""


def run_jobs(function: Callable[..., None], jobs: Sequence[Any], workers: int, tick: Callable[[int], None]) -> None:
    """Runs `function(job, tick)` for every job.

    Args:
      function: importable by its name; writes the job's result under a temporary name and renames it.
      jobs: picklable.
      workers: 1 works in this process, more in as many new ones.
      tick: called with units of work done, as `function` reports them; a job that was done twice counts twice.

    Raises:
      InputError: raised by a job, or a job's worker died `MAX_TRIES` times.
      OSError: the disk is full.
      RuntimeError: anything else that a job raised, with its traceback as text.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            function(job, tick)
        return
    _Team(function, list(jobs), min(workers, len(jobs)), tick).run()


class _Worker:
    """A process, the pipe to it, and what it works on."""

    def __init__(self, function: Callable[..., None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(function, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.job: int | None = None

    def give(self, number: int, job: Any) -> None:
        self.job = number
        self.pipe.send(job)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Team:
    """The workers of one call."""

    def __init__(self, function: Callable[..., None], jobs: list[Any], size: int, tick: Callable[[int], None]) -> None:
        self.function, self.jobs, self.size, self.tick = function, jobs, size, tick
        self.waiting = list(range(len(jobs)))[::-1]
        self.tries = [0] * len(jobs)
        self.workers: list[_Worker] = []

    def run(self) -> None:
        try:
            while self.waiting or any(worker.job is not None for worker in self.workers):
                self._hand_out()
                news = [worker.pipe for worker in self.workers] + [worker.process.sentinel for worker in self.workers]
                multiprocessing.connection.wait(news, timeout=CHECK_SECONDS)
                for worker in list(self.workers):
                    self._hear(worker)
        finally:
            for worker in self.workers:
                worker.end()

    def _hand_out(self) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        while self.waiting and (idle or len(self.workers) < self.size):
            if not idle:
                self.workers.append(_Worker(self.function))
                idle.append(self.workers[-1])
            number = self.waiting.pop()
            worker = idle.pop()
            self.tries[number] += 1
            try:
                worker.give(number, self.jobs[number])
            except OSError:
                self._bury(worker)

    def _hear(self, worker: _Worker) -> None:
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
            self._bury(worker)

    def _bury(self, worker: _Worker) -> None:
        """Takes a dead worker's job back."""
        self.workers.remove(worker)
        worker.end()
        if worker.job is None:
            return
        if self.tries[worker.job] >= MAX_TRIES:
            raise InputError(
                f"a worker process died {MAX_TRIES} times at the same part of the work (most often for want of memory): run the same "
                "command with --workers 1, which goes on from here."
            )
        self.waiting.append(worker.job)


def _raise(kind: str, value: Any) -> None:
    if kind == "input":
        raise InputError(value)
    if kind == "system":
        raise OSError(*value)
    raise RuntimeError(f"a worker failed:\n{value}")


def _work(function: Callable[..., None], pipe: multiprocessing.connection.Connection) -> None:
    """A worker's life: jobs come through the pipe, and "tick", "done" or what went wrong goes back."""
    # Ctrl-C reaches every process of the terminal; the parent decides what it means and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
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


def _end_with_parent() -> None:
    """Ends this worker when the parent is gone, however that died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
