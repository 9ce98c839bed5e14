"""A video's faces, masks and background without making a dataset: what the single steps' command lines share."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data_tools.dataset.analyse import ANALYSIS_SIZE, Analysis, AnalysisJob, analyse_chunk
from data_tools.dataset.chunks import Source, plan
from data_tools.dataset.scan import parse_trim, scan
from data_tools.dataset.workers import run_jobs
from data_tools.face.track import FaceTrack, check_gaps, fill
from data_tools.progress import frames_bar
from data_tools.segmentation.layers import SegmenterChoice
from data_tools.video.probe import probe
from data_tools.video.read import FPS


@dataclasses.dataclass(frozen=True)
class Looked:
    """A video after the networks' pass.

    Attributes:
      source: the crop, decoded at the size asked for.
      analysis: mask layers and background, while the block lasts.
      track: the person's face.
      landmarks: [T, 478, 3] pixels of the crop, gaps interpolated.
    """

    source: Source
    analysis: Analysis
    track: FaceTrack
    landmarks: np.ndarray


def add_video_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """The arguments that every step on a video has; `out` says what it writes."""
    parser.add_argument("video", type=Path, help="a video of one person; sound is not needed")
    parser.add_argument("out", type=Path, help=out)
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    parser.add_argument("--trim", metavar="A-B", help="use only the seconds from A to B")
    parser.add_argument(
        "--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")


@contextmanager
def looked(args: argparse.Namespace) -> Iterator[Looked]:
    """Crops to the face and runs the networks over a video; the intermediate files last as long as the block.

    Raises:
      InputError: the video can't be used.
    """
    span = parse_trim(args.trim)
    info = probe(args.video)
    segmenter = SegmenterChoice.from_file(args.segmenter_model)
    box = scan(args.video, info, span).box
    n_frames = round(((min(span[1], info.seconds) - span[0]) if span else info.seconds) * FPS)
    with tempfile.TemporaryDirectory() as temporary, frames_bar()(total=n_frames) as bar:
        source = Source(args.video, box, span, ANALYSIS_SIZE)
        jobs = [AnalysisJob(source, chunk, args.size, segmenter, Path(temporary)) for chunk in plan(n_frames)]
        run_jobs(analyse_chunk, jobs, args.workers, bar.update)
        analysis = Analysis.of(jobs)
        track = analysis.track()
        check_gaps(track.found, FPS, span[0] if span else 0.0)
        yield Looked(dataclasses.replace(source, size=args.size), analysis, track, fill(track.landmarks * np.float32(args.size)))
