"""Prefetching in a thread, and signals that ask a run to stop."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from data_tools.errors import InputError
from geneface_jax.training.recovery import Interrupts, NanRecovery, Prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_prefetch_keeps_the_order_and_works_ahead_but_not_far():
    made = []
    batches = Prefetch(lambda step: made.append(step) or step, 3, 40)
    assert next(batches) == 3
    time.sleep(0.3)
    assert 2 <= len(made) <= 4
    assert list(batches) == list(range(4, 40))
    assert not threads()


def test_prefetch_raises_at_the_step_that_failed_and_leaves_no_thread():
    def make(step):
        if step == 2:
            raise ValueError("broken frame")
        return step

    batches = Prefetch(make, 0, 10)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="broken frame"):
        next(batches)
    assert not threads()


def test_closing_prefetch_stops_its_thread():
    batches = Prefetch(lambda step: step, 0, 10**9)
    next(batches)
    batches.close()
    assert not threads()


def test_interrupts_note_the_first_signal_and_give_back_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        stopped = interrupts.stopped(7)
        assert interrupts.received == signal.SIGINT and (stopped.step, stopped.exit_code) == (7, 130)
        assert signal.getsignal(signal.SIGINT) is before, "a second Ctrl-C acts as always"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("content", ["[]", "{}", '{"returns": 5}', '{"returns": null}', "x"])
def test_a_damaged_count_of_returns_is_one_sentence(tmp_path, content):
    (tmp_path / "returns.json").write_text('{"returns": [{"step": 3}]}')  # as older versions wrote it
    assert NanRecovery(tmp_path, 3, 0.5).rate == 0.5
    (tmp_path / "returns.json").write_text(content)
    with pytest.raises(InputError, match="returns.json .*: delete it to start again at the full learning rates"):
        NanRecovery(tmp_path, 3, 0.5)
