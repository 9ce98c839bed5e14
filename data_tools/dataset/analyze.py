"""The passes over the cropped clip, chunk by chunk: landmarks, mask layers and background; then frames, head masks, torso images."""

import argparse
import collections
import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from data_tools.command_line import frames_bar
from data_tools.dataset.settings import Chunk, FrameSource, chunk_frames, parse_trim, plan, scan
from data_tools.face.align import TEXTURE_SIZE, Skin, Texture, sample_texture
from data_tools.face.track import MAX_FACES, FaceTrack, check_gaps, fill, find_faces, follow
from data_tools.ffmpeg import probe
from data_tools.io import read_npz, require_output, write_bytes, write_npz
from data_tools.jobs import run_jobs
from data_tools.masks import (
    NETWORK_SIZE,
    WORK_SIZE,
    BackgroundPlate,
    SegmenterChoice,
    disconnected,
    head_region,
    head_share,
    open_segmenter,
    refine,
    smooth_in_time,
    torso_image,
)
from data_tools.picture import corrections
from data_tools.records import ArrayFile
from data_tools.video import FPS

AGAIN = "delete it and run the same command again, which makes it again"
"""The way out of damaged work files of an interrupted run."""

logger = logging.getLogger(__name__)

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
    def of(cls, jobs: Sequence[AnalysisJob]) -> "Analysis":
        """Opens the results of finished jobs and counts the frames that were really decoded."""
        paths, chunks = [], []
        for job in jobs:
            with ArrayFile(job.result, AGAIN) as archive:
                n = archive.kind("faces")[0][0]
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
            with ArrayFile(path, AGAIN) as archive:
                faces += [points[np.isfinite(points[:, 0, 0])] for points in archive["faces"]]
        return follow(faces)

    def background(self, size: int) -> np.ndarray:
        """uint8 [size, size, 3]: the chunks' plates merged, with the pixels that were never visible filled in."""
        plate = BackgroundPlate(size)
        for path in self.paths:
            with ArrayFile(path, AGAIN) as archive:
                plate.merge(archive["plate"], archive["plate_distance"])
        return plate.finish()

    def layers(self, position: int) -> np.ndarray:
        """[n + 2, L, 256, 256] uint8: the mask layers of chunk number `position`, with the frame before and after it (repeated at the
        clip's ends), for temporal smoothing."""
        layers = read_npz(self.paths[position], AGAIN)["layers"]
        before = read_npz(self.paths[position - 1], AGAIN)["layers"][-1:] if position else layers[:1]
        after = read_npz(self.paths[position + 1], AGAIN)["layers"][:1] if position + 1 < len(self.paths) else layers[-1:]
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


@contextmanager
def analyzed_video(args: argparse.Namespace, folder: bool = False) -> Iterator[AnalyzedVideo]:
    """Crops a video to the face and runs both networks over it; the intermediate files are deleted at the end of the block.

    Args:
      args: parsed arguments of `command_line.add_video_arguments`.
      folder: whether OUT is a folder.

    Raises:
      InputError: the video can't be used, or OUT can't be written.
    """
    require_output(args.out, folder=folder, option="OUT")
    span = parse_trim(args.trim)
    info = probe(args.video)
    segmenter = SegmenterChoice.from_file(args.segmenter_model)
    for note in corrections(args.video).notes:
        logger.info("%s", note)
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


# -------- Frames, head masks and torso images of a dataset, made from the analysis of the cropped clip

KINDS = {"frames": "jpg", "head": "png", "torso": "png"}

TRACK, TEXTURE = "track.npz", "texture"
"""File with the clip-wide inputs (landmarks, poses, skin points), and folder of each chunk's skin texture samples."""

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_PNG = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Masks are flat areas: run-length encoding gives smaller files than the default strategy, in less time."""

JAW_CORNERS = (58, 288)
"""Mesh points of the jaw's corners; the neck lies between them."""

NOSE_TIP = 4


def make_pictures(frame: np.ndarray, landmarks: np.ndarray, layers: np.ndarray, background: np.ndarray) -> dict[str, np.ndarray]:
    """Frame, head mask and torso image of one video frame.

    Args:
      frame: uint8 [H, W, 3], H = W.
      landmarks: [478, 2+] pixels.
      layers: [L, 256, 256] float32 mask layers of a segmenter (`data_tools.masks`).
      background: uint8 [H, W, 3].

    Returns:
      `frames` uint8 [H, W, 3] the person over the background, `head` uint8 [H, W], `torso` uint8 [H, W, 4].
    """
    size = frame.shape[0]
    small = landmarks * (WORK_SIZE / size)
    face = (float(small[NOSE_TIP, 0]), float(small[NOSE_TIP, 1]))
    confidence = np.where(disconnected(layers[0], face), np.float32(0.0), layers[0])
    region = head_region(small) if len(layers) == 1 else head_share(layers)
    # A shoulder that reaches above the border is not connected to the face: it stays with the torso.
    region = np.where(disconnected(confidence * region, face), np.float32(0.0), region)
    person = refine(confidence, frame)
    above_jaw = cv2.resize(region, (size, size), interpolation=cv2.INTER_LINEAR)
    composite = cv2.blendLinear(frame, background, person, 1.0 - person)
    head = np.round(255.0 * person * above_jaw).astype(np.uint8)
    left, right = (float(landmarks[corner, 0]) for corner in JAW_CORNERS)
    return {"frames": composite, "head": head, "torso": torso_image(composite, person, above_jaw, (left, right))}


def save_pictures(folder: Path, index: int, pictures: dict[str, np.ndarray]) -> None:
    """Writes frame `index` as `<kind>/%06d.<suffix>` under `folder`."""
    for kind, suffix in KINDS.items():
        path = folder / kind / f"{index:06d}.{suffix}"
        write_picture(path, pictures[kind], f".{suffix}", _JPEG if suffix == "jpg" else _PNG)


def write_picture(path: Path, picture: np.ndarray, encoding: str = ".png", options: Sequence[int] = ()) -> None:
    """Writes a gray, RGB or RGBA uint8 picture; `encoding` and `options` are OpenCV's (`cv2.imencode`)."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    write_bytes(path, cv2.imencode(encoding, picture, options)[1].tobytes())


@dataclasses.dataclass(frozen=True)
class PicturesJob:
    """One chunk of pictures to make.

    Attributes:
      source: decodes at `decode_size(size)`.
      chunk: its frames; position: its index among the clip's chunks.
      size: pixels of the dataset.
      folder: holds `TRACK` and `background.png`; `frames/`, `head/`, `torso/` and `TEXTURE` are written there.
      analysis: the clip's mask layers.
      threads: number of threads that make pictures.
    """

    source: FrameSource
    chunk: Chunk
    position: int
    size: int
    folder: Path
    analysis: Analysis
    threads: int

    @property
    def result(self) -> Path:
        """The file that is written last."""
        return self.folder / TEXTURE / f"{self.chunk.index:05d}.npz"


def decode_size(size: int) -> int:
    """Pixels at which the clip is decoded: enough for the pictures and for the skin texture."""
    return max(size, ANALYSIS_SIZE)


def make_chunk(job: PicturesJob, tick: Callable[[int], None] = lambda frames: None) -> None:
    """Makes and writes a chunk's pictures, and samples the skin texture at the estimated poses for `align_texture`.

    `tick` is called with the number of frames done since the last call.
    """
    track = read_npz(job.folder / TRACK, AGAIN)
    background = cv2.imread(str(job.folder / "background.png"))[..., ::-1]
    layers = job.analysis.layers(job.position)
    first = job.chunk.first

    def make(number: int, frame: np.ndarray) -> None:
        smoothed = smooth_in_time(layers, number - first + 1)
        save_pictures(job.folder, number, make_pictures(_scaled(frame, job.size), track["landmarks"][number], smoothed, background))

    def stream():
        with ThreadPoolExecutor(job.threads) as pool:
            pending: collections.deque = collections.deque()
            for number, frame in chunk_frames(job.source, job.chunk):
                pending.append(pool.submit(make, number, frame))
                if len(pending) > 2 * job.threads:
                    pending.popleft().result()
                yield _scaled(frame, ANALYSIS_SIZE)
                tick(1)
            for future in pending:
                future.result()

    span = slice(first, job.chunk.end)
    skin = Skin(track["skin_points"], track["skin_normals"])
    frames = stream()
    texture = sample_texture(frames, skin, track["rotation"][span], track["translation"][span], ANALYSIS_SIZE)
    collections.deque(frames, maxlen=0)  # runs the generator to its end, where the last pictures are waited for
    write_npz(job.result, **vars(texture))


def read_texture(path: Path) -> Texture:
    """The skin texture samples of one chunk."""
    return Texture(**read_npz(path, AGAIN))


def _scaled(frame: np.ndarray, size: int) -> np.ndarray:
    return frame if frame.shape[0] == size else cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
