"""Curves and pictures of a run: TensorBoard for people, metrics.jsonl for programs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from data_tools.io import write_text
from geneface_jax.io import configs
from geneface_jax.training.stage import Evaluation

METRICS_FILE = "metrics.jsonl"
FOLDER = "tensorboard"
VIDEO_FPS = 25


class Summaries:
    """Writes `tensorboard/` and `metrics.jsonl` of a work folder.

    After a resume, what an interrupted run wrote beyond the checkpoint is dropped, so every step stands once.

    Args:
      workdir: the work folder.
      step: updates done so far (0 for a new run).
      charts: title -> tags of the curves to be read in one chart (TensorBoard's custom scalars tab).
    """

    def __init__(self, workdir: str | os.PathLike, step: int, charts: Mapping[str, Sequence[str]] | None = None):
        from tensorboardX import SummaryWriter

        self._path = Path(workdir) / METRICS_FILE
        _drop_after(self._path, step)
        self._lines = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(Path(workdir) / FOLDER), purge_step=step + 1 if step else None)
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
        """Logs the run as one row of the hparams tab: every number and word of the config beside the final metrics."""
        from tensorboardX.summary import hparams

        values = {key: v if isinstance(v, (bool, int, float, str)) else str(v) for key, v in configs.leaves(config).items()}
        for summary in hparams(values, dict.fromkeys(metrics, 0.0)):
            self._board.file_writer.add_summary(summary)

    def evaluation(self, step: int, found: Evaluation) -> None:
        """Logs an evaluation's numbers, images, sounds and videos."""
        self.scalars(step, found.scalars)
        for tag, image in found.images.items():
            self._board.add_image(tag, image, step, dataformats="HWC")
        for tag, (samples, rate) in found.sounds.items():
            self._board.add_audio(tag, samples, step, sample_rate=rate)
        for tag, video in found.videos.items():
            self._video(tag, video, step)
        self._board.flush()

    def close(self) -> None:
        """Flushes and closes both."""
        self._board.close()
        self._lines.close()

    def _video(self, tag: str, video: np.ndarray, step: int) -> None:
        """An animated GIF in the images tab; tensorboardX's own `add_video` would need moviepy."""
        from tensorboardX.proto.summary_pb2 import Summary

        frames = [Image.fromarray(frame) for frame in video]
        data = io.BytesIO()
        frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=1000 // VIDEO_FPS, loop=0)
        picture = Summary.Image(encoded_image_string=data.getvalue(), colorspace=3, height=video.shape[1], width=video.shape[2])
        self._board.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`, in order; a line cut off by a kill is left out."""
    path = Path(workdir) / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _drop_after(path: Path, step: int) -> None:
    if path.is_file():
        kept = [row for row in read_metrics(path.parent) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
