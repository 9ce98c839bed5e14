"""Settings of a dataset, and the first pass over a video: is it usable, who is in it, where to crop, its chunks of frames."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.audio.offset import OpeningPredictor
from data_tools.audio.sound import MEL_F0, AudioFeatures, SoundTrack
from data_tools.command_line import FACE_MODELS
from data_tools.errors import InputError
from data_tools.face.bfm import model_key
from data_tools.face.crop import choose_crop
from data_tools.face.identity import FacePictures, find_faults
from data_tools.face.track import FaceTrack, check_rivals, detect_thoroughly
from data_tools.ffmpeg import VideoInfo, probe
from data_tools.io import file_sha256, settings_fingerprint
from data_tools.masks import SegmenterChoice
from data_tools.picture import Corrections
from data_tools.video import FPS, MIN_SECONDS, Box, check_cuts, frames, with_thumbnails

# -------- Settings of a dataset, their fingerprints for the resume rules, and the validation of the options

RECIPE_VERSION = 4
"""Incremented when a step changes so that existing datasets are outdated."""

SCAN_VERSION = 1
"""Incremented when the scan finds other or more facts, so that interrupted runs scan again; finished datasets stay valid."""

MAX_AUDIO_OFFSET = 5.0
"""Seconds; a larger offset means that the audio is from another recording."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a dataset is made.

    Attributes:
      video: the file; sha256: of its bytes.
      span: seconds [a, b) used; None means all.
      size: pixels of the square pictures.
      face_model: of `FACE_MODELS`; bfm_folder: where the Basel model's files are.
      audio: the audio features.
      audio_offset: seconds by which the audio is delayed.
      segmenter: the network that makes the masks.
      track: number of the sound track, from 1; None takes the first that is not silent.
      corrections: what is done to the picture.
      fix_offset: delay the sound by as much as the predictor says.
      predictor: finds the offset of sound and picture; without one it is not reported.
    """

    video: Path
    sha256: str
    span: tuple[float, float] | None
    size: int
    face_model: str = "mediapipe"
    bfm_folder: Path | None = None
    audio: AudioFeatures = MEL_F0
    audio_offset: float = 0.0
    segmenter: SegmenterChoice = SegmenterChoice()
    track: int | None = None
    corrections: Corrections = Corrections()
    fix_offset: bool = False
    predictor: OpeningPredictor | None = None

    @property
    def scan_key(self) -> str:
        """Fingerprint of everything the crop depends on."""
        return settings_fingerprint(SCAN_VERSION, RECIPE_VERSION, self.sha256, self.span)

    @property
    def picture_key(self) -> str:
        """Fingerprint of everything pictures and landmarks depend on."""
        model = self.segmenter.model
        # Datasets without corrections keep the fingerprint that they always had.
        corrected = [vars(self.corrections)] if self.corrections != Corrections() else []
        return settings_fingerprint(RECIPE_VERSION, self.sha256, self.span, self.size, file_sha256(model) if model else None, *corrected)

    @property
    def recipe(self) -> str:
        """Fingerprint of everything the dataset depends on."""
        face_model = model_key(self.bfm_folder) if self.face_model == "bfm" else self.face_model
        chosen = () if self.track is None else (f"track {self.track}",)
        if self.fix_offset and self.predictor is not None:
            chosen = (*chosen, f"offset by {self.predictor.recipe}")
        return settings_fingerprint(self.picture_key, face_model, self.audio.recipe, self.audio_offset, *chosen)


def tool_versions() -> dict[str, str]:
    """Versions of the packages whose output a dataset or corpus holds."""
    return {package: importlib.metadata.version(package) for package in ("mediapipe", "numpy", "librosa", "scipy")}


def check_size(size: int) -> None:
    """Raises InputError when pictures of size x size can't be made."""
    if not (64 <= size <= 2048 and size % 2 == 0):
        raise InputError(f"--size {size} is not possible: choose an even number from 64 to 2048, for example 256 or 512.")


def check_options(size: int, face_model: str, bfm_folder: Path | None, audio_offset: float, workers: int) -> None:
    """Validates options before the video is opened.

    Raises:
      InputError: an option has an invalid value; the sentence names the option and the valid values.
    """
    if face_model not in FACE_MODELS:
        raise InputError(f"--face-model {face_model} does not exist: use {' or '.join(FACE_MODELS)}.")
    if face_model == "bfm" and bfm_folder is None:
        raise InputError("--face-model bfm needs the Basel model's files: give their folder with --bfm-folder, or use mediapipe.")
    check_size(size)
    if not (math.isfinite(audio_offset) and abs(audio_offset) <= MAX_AUDIO_OFFSET):
        raise InputError(
            f"--audio-offset {audio_offset:g} is not possible: give seconds from -{MAX_AUDIO_OFFSET:g} to {MAX_AUDIO_OFFSET:g}."
        )
    if workers < 1:
        raise InputError(f"--workers {workers} is not possible: give 1 or more.")


# -------- First pass over a video: validation, face and crop selection, and the division into chunks of frames

# -------- Validation and face scan at a low frame rate

SCAN_FPS = 5.0
"""Frame rate at which the crop is chosen and other people are detected."""
SCAN_SIDE = 640
"""Longer side of those frames, pixels."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """`box` the crop; `head_fraction` head height over its side; `rival_fraction` share of frames with another face; `changes` notes;
    `faults` as `identity.find_faults`."""

    box: Box
    head_fraction: float
    rival_fraction: float
    changes: list[str]
    faults: dict[str, float | None]


def parse_trim(trim: str | tuple[float, float] | None) -> tuple[float, float] | None:
    """`"2.5-14"` or (2.5, 14.0) -> seconds (start, end), None -> None; raises InputError unless they increase."""
    if trim is None:
        return None
    try:
        start, end = (float(part) for part in (trim.split("-") if isinstance(trim, str) else trim))
    except (ValueError, TypeError) as error:
        raise InputError(f"--trim {trim} is not of the form A-B in seconds: write for example --trim 2.5-14.") from error
    if not (0.0 <= start < end < math.inf):
        raise InputError(f"--trim {trim} has no length: write the start before the end, for example --trim 2.5-14.")
    return start, end


def check_video(path: Path, trim: tuple[float, float] | None, track: int | None = None) -> tuple[VideoInfo, tuple[float, float] | None]:
    """Checks that need no decoding; returns the file's metadata and the trim clipped to its length.

    Raises:
      InputError: not a video, no sound, or too short.
    """
    info = probe(path)
    if info.audio is None:
        raise InputError(
            f"{path} has no sound: use the video with its audio track, since the model learns from speech and picture together."
        )
    if track is not None and not 1 <= track <= len(info.tracks):
        raise InputError(f"{path} has no sound track {track}: give a number from 1 to {len(info.tracks)}.")
    if trim is not None:
        trim = (trim[0], min(trim[1], info.seconds))
    length = info.seconds if trim is None else trim[1] - trim[0]
    if length < MIN_SECONDS:
        part = "after --trim " if trim else ""
        raise InputError(f"{path} lasts {part}{max(length, 0.0):.1f} s, at least {MIN_SECONDS:g} s are needed: use a longer stretch.")
    return info, trim


def scan_size(info: VideoInfo) -> tuple[int, int]:
    """Even (width, height) of the whole frame, scaled down to `SCAN_SIDE`."""
    scale = min(SCAN_SIDE / max(info.width, info.height), 1.0)
    return max(round(info.width * scale / 2) * 2, 2), max(round(info.height * scale / 2) * 2, 2)


def scan_faces(
    path: Path, info: VideoInfo, trim: tuple[float, float] | None, rate: float, progress=iter, least: float = 0.0
) -> tuple[FaceTrack, dict[str, float | None], list[str]]:
    """Tracks the face in small pictures of the whole frame, `rate` a second; arguments as in `scan`.

    Returns:
      The track, what may be wrong with the person (`identity.find_faults`), and notes.

    Raises:
      InputError: as `scan`.
    """
    thumbnails: list[np.ndarray] = []
    pictures = FacePictures()
    stream = progress(with_thumbnails(frames(path, scan_size(info), trim=trim, fps=rate), thumbnails))
    track, faces = detect_thoroughly(stream, rate, pictures)
    check_cuts(path, thumbnails, rate, trim[0] if trim else 0.0, least)
    notes = check_rivals(track)
    return track, find_faults(track, scan_size(info), pictures.of(track, faces), rate), notes


def scan(path: Path, info: VideoInfo, trim: tuple[float, float] | None, progress=iter, least: float = 0.0) -> Scan:
    """Chooses the crop from a few pictures a second of the whole frame.

    Args:
      path: the video.
      info: its metadata.
      trim: seconds to scan.
      progress: wraps the iterator of frames.
      least: seconds below which a `--trim` would not help.

    Raises:
      InputError: a cut to another scene, no face, a head that is not upright, or two people of similar size.
    """
    track, faults, changes = scan_faces(path, info, trim, SCAN_FPS, progress, least)
    faces = track.landmarks[track.found] * [info.width, info.height, info.width]
    box, fraction = choose_crop(faces, info.width, info.height)
    return Scan(box, fraction, float((track.rival > 0)[track.found].mean()), changes, faults)


def format_changes(info: VideoInfo, trim: tuple[float, float] | None, box: Box, size: int, track: SoundTrack) -> list[str]:
    """Notes about the differences between dataset and source file: trim, frame rate, crop, scale, audio track and format."""
    changes = []
    if trim is not None:
        changes.append(f"only the seconds {trim[0]:g} to {trim[1]:g} are used")
    if abs(info.fps - FPS) > 0.01:
        changes.append(f"the picture was resampled from {info.fps:g} to {FPS} fps")
    if (box.x, box.y, box.size) != (0, 0, info.width) or info.width != info.height:
        changes.append(f"cropped from {info.width}x{info.height} to the square of {box.size} at ({box.x}, {box.y})")
    if box.size != size:
        changes.append(f"scaled from {box.size}x{box.size} to {size}x{size}")
    sound = info.tracks[track.index]
    if len(info.tracks) > 1:
        changes.append(f"of {len(info.tracks)} sound tracks, number {track.index + 1} is used")
    if track.channel is not None:
        changes.append(f"the two sound channels cancel each other out, so the {('left', 'right')[track.channel]} one alone is used")
    if not ("16000 Hz" in sound and "mono" in sound):
        changes.append(f"the sound was converted to 16 kHz mono (from {', '.join(part.strip() for part in sound.split(',')[:3])})")
    return changes


# -------- Chunks of frames: the unit of work, of resuming and of memory
#
# Every chunk is decoded independently, from a second before its start. An interrupted and resumed run, a run with several workers and an
# uninterrupted one therefore see the same frames and write the same bytes.

CHUNK_FRAMES = 250
"""Ten seconds: the most work a killed run loses. A whole number of seconds, so that a seek falls on a frame of the 25 fps grid."""

PREROLL_FRAMES = 25
"""Frames decoded before a chunk, after which the frame rate converter has settled; the last of them warm up the face tracker."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Frames [first, end) of the clip."""

    index: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclasses.dataclass(frozen=True)
class FrameSource:
    """What to decode: a file, its crop, the seconds used, and the side of the square output pictures."""

    video: Path
    box: Box
    trim: tuple[float, float] | None
    size: int


def plan(n_frames: int) -> list[Chunk]:
    """The chunks of a clip of n_frames; the last one may be short."""
    return [Chunk(i, first, min(first + CHUNK_FRAMES, n_frames)) for i, first in enumerate(range(0, n_frames, CHUNK_FRAMES))]


def chunk_frames(source: FrameSource, chunk: Chunk, preroll: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes one chunk.

    Args:
      source: the clip.
      chunk: the frames to decode.
      preroll: number of frames before the chunk that are yielded first, at most `PREROLL_FRAMES`.

    Yields:
      (index of the frame in the clip, uint8 [size, size, 3]). A file that ends early yields fewer frames, perhaps none.

    Raises:
      InputError: the first chunk holds no frame, or ffmpeg failed in the middle of a chunk.
    """
    start, stop = source.trim or (0.0, float("inf"))
    decoded_from = max(chunk.first - PREROLL_FRAMES, 0)
    # Reads half a second more than needed, so that the frame rate converter's behavior at the end of its input never affects the chunk.
    span = (start + decoded_from / FPS, min(start + chunk.end / FPS + 0.5, stop))
    number = decoded_from
    stream = frames(source.video, (source.size, source.size), crop=source.box, trim=span)
    try:
        for frame in stream:
            if number >= chunk.end:
                return
            if number >= chunk.first - preroll:
                yield number, frame
            number += 1
    except InputError:
        if chunk.first == 0 or number > decoded_from:
            raise
    finally:
        stream.close()
