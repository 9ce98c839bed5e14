"""The loop's small parts: prefetching, timing, the line on the terminal, curves on disk, devices."""

from __future__ import annotations

import io
import json
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.training import devices
from geneface_jax.training.recovery import Interrupts, Prefetch
from geneface_jax.training.reporting import Clock, Progress, Summaries, duration, quantity, read_metrics
from geneface_jax.training.stages import get_stage


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


def test_clock_leaves_out_what_is_not_training():
    clock = Clock()
    clock.count(100)
    clock.start()
    time.sleep(0.05)
    clock.count(10)
    clock.stop()
    time.sleep(0.2)
    rate = clock.rate()
    assert 100 < rate <= 200
    assert clock.rate() == 0.0


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_rewrites_its_line_on_a_terminal_only():
    for stream, lines in ((Terminal(), 2), (io.StringIO(), 3)):
        progress = Progress("head", 100, "rays", stream)
        progress.update(10, {"loss": 0.25}, 2.0, 12288.0)
        progress.update(20, {"loss": 0.125}, 2.0, 12288.0)
        progress.say("done")
        text = stream.getvalue()
        assert text.count("\n") == lines
        assert "head 20/100 (20 %)  left 40 s  2 steps/s  12.3k rays/s  loss 0.125" in text


def test_words_for_numbers():
    assert [duration(s) for s in (0, 59, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]
    assert [quantity(x) for x in (950, 12300, 4.56e6)] == ["950", "12.3k", "4.56M"]


def test_metrics_beyond_the_checkpoint_are_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 5, "a": 1}\n{"step": 10, "a": 2}\n{"step": 15, "a"')
    summaries = Summaries(tmp_path, 5)
    summaries.scalars(10, {"a": np.float32(3.0)})
    summaries.close()
    assert read_metrics(tmp_path) == [{"step": 5, "a": 1}, {"step": 10, "a": 3.0}]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_interrupts_note_the_first_signal_and_give_back_the_handlers():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.received == signal.SIGINT and interrupts.exit_code() == 130
        assert signal.getsignal(signal.SIGINT) is before, "a second Ctrl-C acts as always"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_unknown_stage_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'head'"):
        get_stage(ConfigDict({"stage": "haed"}))


def test_replicate_is_laid_out_as_a_step_returns_it():
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": jnp.int32(4)}
    replicated = devices.replicate(tree)
    step = devices.parallel_step(lambda state, data, batch, rng, step: (state, ()))
    returned, _ = step(devices.replicate(tree), {}, {}, jax.random.key(0), np.int32(0))
    for x, y in zip(jax.tree.leaves(replicated), jax.tree.leaves(returned), strict=True):
        assert x.sharding == y.sharding and x.dtype == y.dtype and x.weak_type == y.weak_type
    np.testing.assert_array_equal(devices.unreplicate(replicated)["a"], tree["a"])
