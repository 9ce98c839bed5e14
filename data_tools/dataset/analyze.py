"""Second pass over the cropped clip: face landmarks, mask layers and the background plate, chunk by chunk."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from data_tools.command_line import frames_bar
from data_tools.dataset.scan import Chunk, FrameSource, chunk_frames, parse_trim, plan, scan
from data_tools.face.align import TEXTURE_SIZE
from data_tools.face.track import MAX_FACES, FaceTrack, check_gaps, fill, find_faces, follow
from data_tools.ffmpeg import probe
from data_tools.io import read_npz, write_npz
from data_tools.jobs import run_jobs
from data_tools.masks import NETWORK_SIZE, BackgroundPlate, SegmenterChoice, open_segmenter
from data_tools.video.read import FPS

# -------- Chunk-wise inference of the face landmarker and the person segmenter

ANALYSIS_SIZE = TEXTURE_SIZE
"""Side in pixels of the landmarker's input, independent of the dataset's size: a smaller one costs precision."""

TRACKER_PREROLL = 10
"""Frames before a chunk that warm up the chunk's new face tracker."""

PLATE_EVERY = 12
"""Frame interval of the background plate: two pictures a second."""


@dataclasses.dataclass(frozen=True)
class AnalysisJob:
    """One chunk to analyze: `source` decodes at `ANALYSIS_SIZE`, `size` is the dataset's; the result is `folder`/%05d.npz."""

    source: FrameSource
    chunk: Chunk
    size: int
    segmenter: SegmenterChoice
    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / f"{self.chunk.index:05d}.npz"


def analyze_chunk(job: AnalysisJob, tick: Callable[[int], None] = lambda frames: None) -> None:
    """Runs the landmarker and the segmenter over a chunk and writes `job.result`.

    The file holds `faces` [n, 2, 478, 3] float32 in fractions of the picture (NaN where there is none), `layers` [n, L, 256, 256] uint8,
    `plate` [size, size, 3] uint8 and `plate_distance` [size, size] float32; n is less than the chunk's length where the video ends early.
    `tick` is called with the number of frames done since the last call.
    """
    count = len(job.chunk)
    plate = BackgroundPlate(job.size)
    layers = np.zeros((count, job.segmenter.n_layers, NETWORK_SIZE, NETWORK_SIZE), np.uint8)
    pending: list[Future] = []

    def segment(frame: np.ndarray, number: int) -> None:
        # The network's floats may differ in the last bits from run to run; rounding to uint8 makes the result reproducible.
        layer = layers[number - job.chunk.first]
        layer[:] = np.round(segmenter(cv2.resize(frame, (NETWORK_SIZE, NETWORK_SIZE), interpolation=cv2.INTER_AREA)) * 255.0)
        if number % PLATE_EVERY == 0:
            picture = cv2.resize(frame, (job.size, job.size), interpolation=cv2.INTER_AREA)
            person = cv2.resize(layer[0], (job.size, job.size), interpolation=cv2.INTER_LINEAR)
            plate.add(picture, person.astype(np.float32) / 255.0)
        tick(1)

    # One thread segments while this one finds landmarks: both networks release the interpreter lock (GIL).
    with open_segmenter(job.segmenter) as segmenter, ThreadPoolExecutor(1) as pool:

        def stream():
            for number, frame in chunk_frames(job.source, job.chunk, TRACKER_PREROLL):
                if number >= job.chunk.first:
                    pending.append(pool.submit(segment, frame, number))
                    if len(pending) > 8:
                        pending[-9].result()
                yield frame

        found = find_faces(stream(), FPS)
        for future in pending:
            future.result()
    n = len(pending)
    faces = np.full((n, MAX_FACES, 478, 3), np.nan, np.float32)
    for i, points in enumerate(found[len(found) - n :]):
        faces[i, : len(points)] = points
    color, distance = plate.state
    write_npz(job.result, faces=faces, layers=layers[:n], plate=color, plate_distance=distance)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The analysis files of a clip, read one chunk at a time.

    Attributes:
      paths: files written by `analyze_chunk`, in order.
      chunks: the frames each file holds; chunks past the end of a video that is shorter than its header says are left out.
    """

    paths: list[Path]
    chunks: list[Chunk]

    @classmethod
    def of(cls, jobs: Sequence[AnalysisJob]) -> Analysis:
        """Opens the results of finished jobs and counts the frames that were really decoded."""
        paths, chunks = [], []
        for job in jobs:
            with np.load(job.result, allow_pickle=False) as archive:
                n = len(archive["faces"])
            if n:
                paths.append(job.result)
                chunks.append(Chunk(job.chunk.index, job.chunk.first, job.chunk.first + n))
            if n < len(job.chunk):
                break
        return cls(paths, chunks)

    @property
    def n_frames(self) -> int:
        return self.chunks[-1].end if self.chunks else 0

    def track(self) -> FaceTrack:
        """Tracks one face through the whole clip."""
        faces = []
        for path in self.paths:
            with np.load(path, allow_pickle=False) as archive:
                faces += [points[np.isfinite(points[:, 0, 0])] for points in archive["faces"]]
        return follow(faces)

    def background(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3]: the chunks' plates merged, with the pixels that were never visible filled in."""
        plate = BackgroundPlate(size)
        for path in self.paths:
            with np.load(path, allow_pickle=False) as archive:
                plate.merge(archive["plate"], archive["plate_distance"])
        return plate.finish()

    def layers(self, position: int) -> np.ndarray:
        """[n + 2, L, 256, 256] uint8: the mask layers of chunk number `position`, with the frame before and after it (repeated at the
        clip's ends), for temporal smoothing."""
        layers = read_npz(self.paths[position])["layers"]
        before = read_npz(self.paths[position - 1])["layers"][-1:] if position else layers[:1]
        after = read_npz(self.paths[position + 1])["layers"][:1] if position + 1 < len(self.paths) else layers[-1:]
        return np.concatenate([before, layers, after])


# -------- Analysis of a video without a dataset, shared by the command lines of the single steps


@dataclasses.dataclass(frozen=True)
class AnalyzedVideo:
    """A video with its analysis results.

    Attributes:
      source: the crop, decoded at the requested size.
      analysis: mask layers and background; valid inside the `analyzed_video` block only.
      track: the person's face.
      landmarks: [T, 478, 3] pixels of the crop, gaps interpolated.
    """

    source: FrameSource
    analysis: Analysis
    track: FaceTrack
    landmarks: np.ndarray


def add_video_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds the arguments shared by all steps that read a video; `out` is the help text of the output argument."""
    parser.add_argument("video", type=Path, help="a video of one person; sound is not needed")
    parser.add_argument("out", type=Path, help=out)
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="height and width of the crop (default %(default)s)")
    parser.add_argument("--trim", metavar="A-B", help="use only the seconds from A to B")
    parser.add_argument(
        "--segmenter-model", type=Path, metavar="FILE", help="MediaPipe's selfie_multiclass_256x256.tflite, for finer masks"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default %(default)s)")


@contextmanager
def analyzed_video(args: argparse.Namespace) -> Iterator[AnalyzedVideo]:
    """Crops a video to the face and runs both networks over it; the intermediate files are deleted at the end of the block.

    Raises:
      InputError: the video can't be used.
    """
    span = parse_trim(args.trim)
    info = probe(args.video)
    segmenter = SegmenterChoice.from_file(args.segmenter_model)
    box = scan(args.video, info, span).box
    n_frames = round(((min(span[1], info.seconds) - span[0]) if span else info.seconds) * FPS)
    with tempfile.TemporaryDirectory() as temporary, frames_bar()(total=n_frames) as bar:
        source = FrameSource(args.video, box, span, ANALYSIS_SIZE)
        jobs = [AnalysisJob(source, chunk, args.size, segmenter, Path(temporary)) for chunk in plan(n_frames)]
        run_jobs(analyze_chunk, jobs, args.workers, bar.update)
        analysis = Analysis.of(jobs)
        track = analysis.track()
        check_gaps(track.found, FPS, span[0] if span else 0.0)
        yield AnalyzedVideo(dataclasses.replace(source, size=args.size), analysis, track, fill(track.landmarks * np.float32(args.size)))
