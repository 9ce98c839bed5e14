"""Reporting of a run: progress on the terminal, TensorBoard and metrics.jsonl, profiler traces, charts as PNG."""

import contextlib
import dataclasses
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from data_tools.command_line import is_quiet
from data_tools.io import atomic_path, write_text
from data_tools.records import Field
from geneface_jax.io import configs
from geneface_jax.training import devices
from geneface_jax.training.stage import Evaluation, Stage

# -------- Progress on the terminal

SHOWN = 4
"""Metrics on the progress line; the rest are in TensorBoard and metrics.jsonl."""


class Clock:
    """Stopwatch of updates: evaluation, saving and the first update, which compiles, don't count."""

    def __init__(self) -> None:
        self._running_since: float | None = None
        self._seconds = 0.0
        self._steps = 0

    def start(self) -> None:
        """Starts counting time."""
        self._running_since = time.perf_counter()

    def stop(self) -> None:
        """Stops counting time until the next `start`."""
        if self._running_since is not None:
            self._seconds += time.perf_counter() - self._running_since
        self._running_since = None

    def count(self, steps: int = 1) -> None:
        """Adds updates done while the clock runs."""
        if self._running_since is not None:
            self._steps += steps

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context in which time doesn't count."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def seconds(self) -> float:
        """Seconds counted since the last call of `rate`."""
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._seconds + running

    def rate(self) -> float:
        """Updates per second since the last call (0.0 when none was timed); starts a new interval."""
        running = self._running_since is not None
        self.stop()
        rate = self._steps / self._seconds if self._steps and self._seconds > 0 else 0.0
        self._seconds, self._steps = 0.0, 0
        if running:
            self.start()
        return rate


class Progress:
    """A progress line that is overwritten in place on a terminal; in a file or a pipe, one line per log."""

    def __init__(self, name: str, steps: int, unit: str, stream: TextIO | None = None):
        self._name, self._steps, self._unit = name, steps, unit
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._dirty = False

    def update(self, step: int, metrics: Mapping[str, float], steps_per_second: float, units_per_second: float) -> None:
        """Shows step, share, time left, rate and the first few metrics; nothing under `-q`."""
        if is_quiet():
            return
        left = duration((self._steps - step) / steps_per_second) if steps_per_second else "?"
        numbers = "  ".join(f"{tag} {value:.4g}" for tag, value in list(metrics.items())[:SHOWN])
        line = (
            f"{self._name} {step}/{self._steps} ({100 * step // self._steps} %)  left {left}  "
            f"{steps_per_second:.3g} steps/s  {quantity(units_per_second)} {self._unit}/s  {numbers}"
        )
        if self._live:
            self._stream.write(f"\r\033[K{line}")
            self._dirty = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Prints a permanent line above the progress line."""
        self.close()
        self._stream.write(f"{self._name}: {text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Ends the progress line, so that output continues below it."""
        if self._dirty:
            self._stream.write("\n")
            self._stream.flush()
        self._dirty = False


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


def quantity(value: float) -> str:
    """Three digits with k or M: `950`, `12.3k`, `4.56M`."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


# -------- TensorBoard and metrics.jsonl

METRICS_FILE = "metrics.jsonl"
LOG_FOLDER = "tensorboard"
_STEP, _NUMBER = Field(int, low=0, high=10**15), Field(float)
VIDEO_FPS = 25


class Summaries:
    """Writes `tensorboard/` and `metrics.jsonl` of a work folder.

    After a resume, what was written beyond update `step` is dropped, so that every step appears once. `charts`, title -> tags, are the
    curves shown in one chart of TensorBoard's custom scalars tab.
    """

    def __init__(self, workdir: str | os.PathLike, step: int, charts: Mapping[str, Sequence[str]] | None = None):
        from tensorboardX import SummaryWriter

        path = Path(workdir) / METRICS_FILE
        if path.is_file():
            write_text(path, "".join(json.dumps(row) + "\n" for row in read_metrics(workdir) if row["step"] <= step))
        self._lines = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(Path(workdir) / LOG_FOLDER), purge_step=step + 1 if step else None)
        self._board.file_writer.event_writer = _Events(self._board.file_writer.event_writer)
        if charts:
            self._board.add_custom_scalars({"side by side": {title: ["Multiline", list(tags)] for title, tags in charts.items()}})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers by tag."""
        for tag, value in values.items():
            self._board.add_scalar(tag, value, step)
        self._lines.write(json.dumps({"step": step, **{tag: float(value) for tag, value in values.items()}}) + "\n")
        self._lines.flush()

    def config(self, config: ConfigDict, step: int) -> None:
        """Logs the resolved config as a table in the text tab."""
        rows = "\n".join(f"| {key} | {value} |" for key, value in configs.leaves(config).items())
        self._board.add_text("config", f"| key | value |\n|---|---|\n{rows}", step)

    def hparams(self, config: ConfigDict, metrics: Mapping[str, float]) -> None:
        """Logs the run as one row of the hparams tab: every value of the config with the final metrics."""
        from tensorboardX.summary import hparams

        values = {key: v if isinstance(v, (bool, int, float, str)) else str(v) for key, v in configs.leaves(config).items()}
        for summary in hparams(values, dict.fromkeys(metrics, 0.0)):
            self._board.file_writer.add_summary(summary)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Logs an evaluation's numbers, images, sounds and videos."""
        self.scalars(step, result.scalars)
        for tag, image in result.images.items():
            self._board.add_image(tag, image, step, dataformats="HWC")
        for tag, (samples, rate) in result.sounds.items():
            self._board.add_audio(tag, samples, step, sample_rate=rate)
        for tag, video in result.videos.items():
            self._video(tag, video, step)
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes both."""
        try:
            self._board.close()
        finally:
            self._lines.close()

    def _video(self, tag: str, video: np.ndarray, step: int) -> None:
        """Logs an animated GIF in the images tab; tensorboardX's `add_video` would need moviepy."""
        from tensorboardX.proto.summary_pb2 import Summary

        frames = [Image.fromarray(frame) for frame in video]
        data = io.BytesIO()
        frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=1000 // VIDEO_FPS, loop=0)
        picture = Summary.Image(encoded_image_string=data.getvalue(), colorspace=3, height=video.shape[1], width=video.shape[2])
        self._board.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


class _Events:
    """tensorboardX's event file, written at once. Its own thread dies of a full disk, after which a run would wait for it for ever."""

    def __init__(self, writer: Any) -> None:
        writer._worker.stop()
        self._file, self._folder, self._closed = writer._ev_writer, writer.get_logdir(), False

    def add_event(self, event: Any) -> None:
        self._file.write_event(event)

    def get_logdir(self) -> str:
        return self._folder

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Closes the file; tensorboardX does so once more when the program ends."""
        if not self._closed:
            self._closed = True
            self._file.close()

    def reopen(self) -> None:
        """Nothing: the file is open until `close`."""


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`, in order: numbers by tag, and the "step". Lines that were cut off by a kill or damaged are left out."""
    path = Path(workdir) / METRICS_FILE
    rows: list[dict[str, float]] = []
    if not path.is_file():
        return rows
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and _STEP.accepts(row.get("step")):
                # A loss may be NaN.
                rows.append({tag: value for tag, value in row.items() if isinstance(value, float) or _NUMBER.accepts(value)})
    return rows


# -------- All reports of a run: progress line, TensorBoard, metrics.jsonl. Only process 0 of a multi-host run reports

STARVED = 0.9
"""Share of the time spent waiting for batches above which the user is warned that the devices are idle."""


class RunLog:
    """Reports the progress of a run of a stage; `clock` times the updates. Not `enabled` (all processes but one), it writes nothing."""

    def __init__(self, stage: Stage, steps: int, *, enabled: bool = True):
        self.clock = Clock()
        self._stage = stage
        self._null = None if enabled else open(os.devnull, "w", encoding="utf-8")
        self._progress = Progress(stage.config.stage, steps, stage.unit, self._null)
        self._summaries: Summaries | None = None
        self._waited = 0.0
        self._starvation_reported = False

    def say(self, text: str) -> None:
        """Prints a permanent line."""
        self._progress.say(text)

    def open(self, workdir: Path, step: int, config: ConfigDict) -> None:
        """Opens TensorBoard and metrics.jsonl; what an interrupted run wrote beyond `step` is dropped."""
        if self._null is None:
            self._summaries = Summaries(workdir, step, self._stage.charts)
            self._summaries.config(config, step)

    def stalled(self, step: int, seconds: float) -> None:
        """Reports that the batch of a step is late."""
        self.say(f"the batch of step {step + 1} has not come for {seconds:.0f} s: the data is slow, or its disk hangs")

    def means(self, step: int, means: Mapping[str, float], waited: float) -> None:
        """Logs the metrics since the last log, speed, memory, and the share of the time spent waiting for batches; `waited`: seconds waited
        since the run began."""
        seconds = self.clock.seconds()
        rate = self.clock.rate()
        share, self._waited = (waited - self._waited) / seconds if seconds else 0.0, waited
        if share > STARVED and not self._starvation_reported:
            self._starvation_reported = True
            self.say(f"{share:.0%} of the time goes into waiting for data, the devices are idle: use faster storage or more CPU cores")
        items = rate * self._stage.items_per_step
        speed = {"steps_per_second": rate, f"{self._stage.unit}_per_second": items} if rate else {}
        if self._summaries is not None:
            system = {"input_wait_share": share, **_host_memory(), **devices.memory()}
            self._summaries.scalars(step, {**{f"tr/{tag}": value for tag, value in means.items()}, **speed, **system})
        tags = sorted(means, key=lambda tag: tag.endswith("_norm"))  # losses first, as the line shows only a few
        self._progress.update(step, {tag: means[tag] for tag in tags}, rate, items)

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Logs an evaluation."""
        if self._summaries is not None:
            self._summaries.evaluation(step, result)
        self.say(f"step {step}: " + "  ".join(f"{tag} {value:.4g}" for tag, value in result.scalars.items()))

    def finish(self, config: ConfigDict, metrics: Mapping[str, float]) -> None:
        """Logs the run's config with its final metrics, for comparison with other runs."""
        if self._summaries is not None:
            self._summaries.hparams(config, metrics)

    def close(self) -> None:
        """Flushes and closes everything."""
        if self._summaries is not None:
            self._summaries.close()
        self._progress.close()
        if self._null is not None:
            self._null.close()


def _host_memory() -> dict[str, float]:
    """Peak memory of this process; empty on Windows, where Python has no `resource` module."""
    try:
        import resource
    except ImportError:
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory/host_peak_gb": peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9}


# -------- Profiler traces of a few updates, for TensorBoard's profile tab and Perfetto

PROFILE_FOLDER = "profile"
SKIPPED = 3
"""Updates before the recording, in which compilation and first memory allocations would distort it."""


class Profile:
    """Records `steps` consecutive updates of a run that begins at update `first` into `workdir/profile`; 0 records none."""

    def __init__(self, workdir: str | os.PathLike, steps: int, first: int):
        self._folder = Path(workdir) / PROFILE_FOLDER
        self._begin, self._end = (first + SKIPPED, first + SKIPPED + steps) if steps > 0 else (-1, -1)
        self._recording = False

    def before(self, step: int) -> None:
        """Must be called before every update."""
        if step == self._begin:
            jax.profiler.start_trace(str(self._folder))
            self._recording = True

    def after(self, step: int, metrics: Any) -> str | None:
        """Must be called after every update, with its metrics; returns a sentence when the recording is done."""
        if not self._recording or step + 1 < self._end:
            return None
        jax.block_until_ready(metrics)
        self.close()
        return f"steps {self._begin + 1} to {step + 1} are recorded in {self._folder}: tensorboard --logdir {self._folder}"

    def close(self) -> None:
        """Ends the recording, if one is running."""
        if self._recording:
            jax.profiler.stop_trace()
        self._recording = False


# -------- Charts as PNG, drawn with Pillow: small line charts on a grid, with one step marked in all of them

_PAPER, _INK, _GRID, _MARK = (250, 249, 246), (38, 50, 66), (216, 214, 208), (196, 92, 92)
_SERIES = ((38, 98, 152), (214, 130, 34), (92, 140, 74))
_SIZE = (560, 250)
_MARGIN = {"left": 64, "right": 16, "top": 52, "bottom": 30}
_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Chart:
    """One line chart.

    Attributes:
      title: printed above it.
      series: name -> points (step, value), sorted by step; at most three.
      guides: values of dashed horizontal lines, where the curves should be.
    """

    title: str
    series: Mapping[str, Sequence[tuple[int, float]]]
    guides: tuple[float, ...] = ()


def draw_curves(charts: Sequence[Chart], marked: int, heading: str) -> Image.Image:
    """Draws the charts that have points, two per row, with a vertical line at the step `marked`."""
    charts = [chart for chart in charts if any(chart.series.values())]
    width, height = _SIZE
    top = 44
    canvas = Image.new("RGB", (_COLUMNS * width, top + math.ceil(len(charts) / _COLUMNS) * height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN["left"], 14), heading, fill=_INK, font=_font(18))
    steps = [step for chart in charts for points in chart.series.values() for step, _ in points]
    span = (min(steps), max(max(steps), min(steps) + 1))
    for i, chart in enumerate(charts):
        _draw(pen, chart, (i % _COLUMNS * width, top + i // _COLUMNS * height), span, marked)
    return canvas


def save_png(image: Image.Image, path: str | os.PathLike) -> Path:
    """Writes a picture under a temporary name and renames it; returns the path."""
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")
    return Path(path)


def _draw(pen: ImageDraw.ImageDraw, chart: Chart, corner: tuple[int, int], span: tuple[int, int], marked: int) -> None:
    left, right = corner[0] + _MARGIN["left"], corner[0] + _SIZE[0] - _MARGIN["right"]
    top, bottom = corner[1] + _MARGIN["top"], corner[1] + _SIZE[1] - _MARGIN["bottom"]
    values = [value for points in chart.series.values() for _, value in points] + list(chart.guides)
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)

    def x(step: float) -> float:
        return left + (step - span[0]) / (span[1] - span[0]) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    pen.text((left, corner[1] + 6), chart.title, fill=_INK, font=_font(15))
    for tick in ticks:
        pen.line([(left, y(tick)), (right, y(tick))], fill=_GRID)
        pen.text((left - 8, y(tick)), f"{tick:g}", fill=_INK, font=_font(12), anchor="rm")
    for step, anchor in ((span[0], "la"), (span[1], "ra")):
        pen.text((x(step), bottom + 6), str(step), fill=_INK, font=_font(12), anchor=anchor)
    for guide in chart.guides:
        for start in range(left, right, 10):
            pen.line([(start, y(guide)), (start + 5, y(guide))], fill=_INK)
    if span[0] <= marked <= span[1]:
        pen.line([(x(marked), top), (x(marked), bottom)], fill=_MARK, width=2)
        pen.text((x(marked), bottom + 6), str(marked), fill=_MARK, font=_font(12), anchor="ma")
    label = left
    for (name, points), color in zip(chart.series.items(), _SERIES, strict=False):
        if not points:
            continue
        pixels = [(x(step), y(value)) for step, value in points]
        pen.line(pixels, fill=color, width=3, joint="curve")
        for px, py in pixels if len(pixels) <= 40 else ():
            pen.ellipse([px - 3, py - 3, px + 3, py + 3], fill=color)
        pen.rectangle([label, corner[1] + 33, label + 12, corner[1] + 37], fill=color)
        pen.text((label + 18, corner[1] + 28), name, fill=_INK, font=_font(12))
        label += 36 + int(pen.textlength(name, font=_font(12)))


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that span [low, high]."""
    spread = max(high - low, 1e-3 * max(abs(high), 1e-3))
    unit = 10.0 ** math.floor(math.log10(spread / 3.0))
    step = next(unit * factor for factor in (1, 2, 5, 10) if spread / (unit * factor) <= 4.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * n, 10) for n in range(first, max(last, first + 1) + 1)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
