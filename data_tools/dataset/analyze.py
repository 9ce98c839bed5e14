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
from data_tools.face.align import LOOK_SIZE
from data_tools.face.track import MAX_FACES, FaceTrack, check_gaps, fill, find_faces, follow
from data_tools.ffmpeg import probe
from data_tools.io import read_npz, write_npz
from data_tools.jobs import run_jobs
from data_tools.masks.plates import BackgroundPlate
from data_tools.masks.segmenters import NETWORK_SIZE, SegmenterChoice, open_segmenter
from data_tools.video.read import FPS

# ----------------------------------------------------------------------------------------------------
# The pass of the two networks over the cropped clip, chunk by chunk: faces, mask layers, and the background on the way.

ANALYSIS_SIZE = LOOK_SIZE
"""Pixels of the picture the landmarker sees, whatever the dataset's size: fewer cost precision."""

TRACKER_PREROLL = 10
"""Frames a chunk's new tracker is shown before the chunk begins."""

PLATE_EVERY = 12
"""Every so many frames the background is gathered from: two pictures a second."""


@dataclasses.dataclass(frozen=True)
class AnalysisJob:
    """One chunk to analyse: `source` decodes at `ANALYSIS_SIZE`, `size` is the dataset's, the result goes to `folder`/%05d.npz."""

    source: FrameSource
    chunk: Chunk
    size: int
    segmenter: SegmenterChoice
    folder: Path

    @property
    def result(self) -> Path:
        """The chunk's file."""
        return self.folder / f"{self.chunk.index:05d}.npz"


def analyze_chunk(job: AnalysisJob, tick: Callable[[int], None] = lambda frames: None) -> None:
    """Runs landmarker and segmenter over a chunk and writes its file.

    The file holds `faces` [n, 2, 478, 3] float32 in fractions of the picture (NaN where there is none), `layers` [n, L, 256, 256] uint8,
    `plate` [size, size, 3] uint8 and `plate_distance` [size, size] float32; n is less than the chunk's length where the video ends early.

    Args:
      job: what to do.
      tick: called with the number of frames done since the last call.
    """
    count = len(job.chunk)
    plate = BackgroundPlate(job.size)
    layers = np.zeros((count, job.segmenter.n_layers, NETWORK_SIZE, NETWORK_SIZE), np.uint8)
    waiting: list[Future] = []

    def look(frame: np.ndarray, number: int) -> None:
        # The network's floats are not always the same to the last bit; what is made of them is, after they were rounded.
        layer = layers[number - job.chunk.first]
        layer[:] = np.round(segmenter(cv2.resize(frame, (NETWORK_SIZE, NETWORK_SIZE), interpolation=cv2.INTER_AREA)) * 255.0)
        if number % PLATE_EVERY == 0:
            picture = cv2.resize(frame, (job.size, job.size), interpolation=cv2.INTER_AREA)
            person = cv2.resize(layer[0], (job.size, job.size), interpolation=cv2.INTER_LINEAR)
            plate.add(picture, person.astype(np.float32) / 255.0)
        tick(1)

    # One thread segments while this one finds landmarks: both networks run outside the interpreter lock.
    with open_segmenter(job.segmenter) as segmenter, ThreadPoolExecutor(1) as pool:

        def stream():
            for number, frame in chunk_frames(job.source, job.chunk, TRACKER_PREROLL):
                if number >= job.chunk.first:
                    waiting.append(pool.submit(look, frame, number))
                    if len(waiting) > 8:
                        waiting[-9].result()
                yield frame

        found = find_faces(stream(), FPS)
        for future in waiting:
            future.result()
    n = len(waiting)
    faces = np.full((n, MAX_FACES, 478, 3), np.nan, np.float32)
    for i, points in enumerate(found[len(found) - n :]):
        faces[i, : len(points)] = points
    color, distance = plate.state
    write_npz(job.result, faces=faces, layers=layers[:n], plate=color, plate_distance=distance)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The chunks' files of a clip, read one at a time.

    Attributes:
      paths: files of `analyse_chunk`, in order.
      chunks: the frames each of them holds; those after the end of a video that is shorter than it says are left out.
    """

    paths: list[Path]
    chunks: list[Chunk]

    @classmethod
    def of(cls, jobs: Sequence[AnalysisJob]) -> Analysis:
        """Reads which frames there really are."""
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
        """Frames in all."""
        return self.chunks[-1].end if self.chunks else 0

    def track(self) -> FaceTrack:
        """Follows one face through the whole clip."""
        faces = []
        for path in self.paths:
            with np.load(path, allow_pickle=False) as archive:
                faces += [points[np.isfinite(points[:, 0, 0])] for points in archive["faces"]]
        return follow(faces)

    def background(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3]: the chunks' plates put together, never seen pixels filled."""
        plate = BackgroundPlate(size)
        for path in self.paths:
            with np.load(path, allow_pickle=False) as archive:
                plate.merge(archive["plate"], archive["plate_distance"])
        return plate.finish()

    def layers(self, position: int) -> np.ndarray:
        """[n + 2, L, 256, 256] uint8: the mask layers of chunk number `position`, with the frame before and after it (repeated at the
        clip's ends), for smoothing in time."""
        own = read_npz(self.paths[position])["layers"]
        before = read_npz(self.paths[position - 1])["layers"][-1:] if position else own[:1]
        after = read_npz(self.paths[position + 1])["layers"][:1] if position + 1 < len(self.paths) else own[-1:]
        return np.concatenate([before, own, after])


# ----------------------------------------------------------------------------------------------------
# A video's faces, masks and background without making a dataset: what the single steps' command lines share.


@dataclasses.dataclass(frozen=True)
class AnalyzedVideo:
    """A video after the networks' pass.

    Attributes:
      source: the crop, decoded at the size asked for.
      analysis: mask layers and background, while the block lasts.
      track: the person's face.
      landmarks: [T, 478, 3] pixels of the crop, gaps interpolated.
    """

    source: FrameSource
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
def analyzed_video(args: argparse.Namespace) -> Iterator[AnalyzedVideo]:
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
        source = FrameSource(args.video, box, span, ANALYSIS_SIZE)
        jobs = [AnalysisJob(source, chunk, args.size, segmenter, Path(temporary)) for chunk in plan(n_frames)]
        run_jobs(analyze_chunk, jobs, args.workers, bar.update)
        analysis = Analysis.of(jobs)
        track = analysis.track()
        check_gaps(track.found, FPS, span[0] if span else 0.0)
        yield AnalyzedVideo(dataclasses.replace(source, size=args.size), analysis, track, fill(track.landmarks * np.float32(args.size)))
