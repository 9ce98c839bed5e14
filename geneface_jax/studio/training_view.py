"""What a training looks like from outside: the curves of the stage that is at work, and its latest pictures."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import STAGES
from geneface_jax.training.reporting import LOG_FOLDER, METRICS_FILE, Chart, draw_curves, read_metrics

MAX_CHARTS, MAX_PICTURES = 6, 4


def stage_at_work(folder: Path) -> str | None:
    """The stage of a person that wrote last; None before any did."""
    written = [(path.stat().st_mtime, stage) for stage in STAGES if (path := folder / stage / METRICS_FILE).is_file()]
    return max(written)[1] if written else None


def curves(folder: Path, stage: str) -> Image.Image | None:
    """The stage's curves: validation first, then training losses; None before there are two points of any."""
    rows = read_metrics(folder / stage)
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for tag, value in row.items():
            if tag != "step" and np.isfinite(value):
                points.setdefault(tag, []).append((int(row["step"]), value))
    drawable = [tag for tag, values in points.items() if len(values) > 1]
    order = sorted(drawable, key=lambda tag: (not tag.startswith("val"), not tag.startswith("tr"), tag))
    if not order:
        return None
    steps = checkpoints.steps(folder / stage)
    charts = [Chart(tag, {tag: points[tag]}) for tag in order[:MAX_CHARTS]]
    return draw_curves(charts, steps[-1] if steps else -1, f"{folder.name}: {stage}")


def sample_pictures(folder: Path, stage: str) -> list[tuple[Image.Image, str]]:
    """The newest picture of every tag that the stage wrote for TensorBoard, with its tag and step."""
    newest: dict[str, tuple[int, bytes]] = {}
    for path in sorted((folder / stage / LOG_FOLDER).glob("events.out.tfevents.*")):
        for step, tag, data in _images(path):
            newest[tag] = step, data
    found = []
    for tag, (step, data) in sorted(newest.items()):
        with Image.open(io.BytesIO(data)) as picture:
            found.append((picture.convert("RGB"), f"{tag}, step {step}"))
    return found[:MAX_PICTURES]


def _images(path: Path) -> Iterator[tuple[int, str, bytes]]:
    """(step, tag, encoded picture) of an event file; the record being written just now is left out."""
    from tensorboardX.proto.event_pb2 import Event

    with path.open("rb") as stream:
        while len(header := stream.read(12)) == 12:  # a TFRecord: length, its checksum, the data, its checksum
            (length,) = struct.unpack("<Q", header[:8])
            data = stream.read(length)
            if len(data) < length or len(stream.read(4)) < 4:
                return
            event = Event.FromString(data)
            for value in event.summary.value:
                if value.HasField("image"):
                    yield event.step, value.tag, value.image.encoded_image_string
