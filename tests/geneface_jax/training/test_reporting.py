"""Timing of updates, the progress line, and metrics.jsonl after a resume."""

from __future__ import annotations

import io
import json
import time

import numpy as np

from geneface_jax.training.reporting import Clock, Progress, Summaries, duration, quantity, read_metrics


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


def test_damaged_lines_of_metrics_are_left_out(tmp_path):
    lines = [
        '{"step": 1, "loss": 0.5}', '{"step": 2, "loss": NaN, "note": "x", "ok": true}', "[1, 2]", "5", '{"loss": 1}', '{"step": "3"}',
        '{"step": NaN}', '{"step": -1}', "[" * 3000, '{"step": 4, "loss": 1e3', '{"step": 5, "huge": 1' + "0" * 400 + "}", '{"step": 6}',
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 5, 6] and list(rows[1]) == ["step", "loss"] and rows[2] == {"step": 5}
    Summaries(tmp_path, 5).close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 5]
