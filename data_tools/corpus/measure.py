"""Measurements of one corpus clip: landmark motion, audio features, and the picture quality used by the filters."""

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np

from data_tools.audio.offset import NO_OFFSET, Offset, OpeningPredictor, estimate_offset, opening
from data_tools.audio.sound import MEL_F0, SAMPLE_RATE, SAMPLES_PER_FRAME, AudioFeatures, load_track
from data_tools.corpus.selection import MeasureSettings
from data_tools.dataset.analyze import ANALYSIS_SIZE
from data_tools.dataset.arrays import excess_change
from data_tools.dataset.settings import SCAN_FPS, scan_size
from data_tools.errors import InputError
from data_tools.face.crop import choose_crop
from data_tools.face.pose import INTERPOLATED_TRUST, canonical_landmarks, solve_poses
from data_tools.face.track import RIVAL_SIZE, FaceTrack, detect, detect_thoroughly, fill, gaps_of
from data_tools.ffmpeg import VideoInfo
from data_tools.landmarks68 import CHIN, FOREHEAD, RIGID, motion_from_landmarks
from data_tools.video import FPS, Box, frames

# -------- Picture quality: cuts, jumps of the head, blur

THUMBNAIL = 32
FACE_PIXELS = 96
"""Height to which a face is scaled down before its sharpness is measured, so that sharpness hardly depends on the face's size."""


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [32, 32, 3], for cut detection."""
    return cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)


def sharpness(frame: np.ndarray, face: tuple[int, int, int, int]) -> float:
    """Sharpness of the `face` (x0, y0, x1, y1) in a `frame` uint8 [H, W, 3]: deviation of the Laplacian over that of the gray levels.

    0 for a flat area, about 0.05 for a blurred face and 0.2 or more for a sharp one.
    """
    x0, y0, x1, y1 = face
    gray = cv2.cvtColor(np.ascontiguousarray(frame[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = FACE_PIXELS / gray.shape[0]
    if scale < 1.0:
        gray = cv2.resize(gray, (max(round(gray.shape[1] * scale), 8), FACE_PIXELS), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(gray, cv2.CV_32F).std() / max(float(gray.std()), 1.0)) / 2.0


def isolated_change(change: np.ndarray) -> float:
    """[T - 1] frame-to-frame change -> the largest excess over the local median (`excess_change`)."""
    return float(excess_change(change).max()) if len(change) else 0.0


def cut_levels(thumbnails: np.ndarray) -> float:
    """[T, 32, 32, 3] thumbnails -> the clip's strongest cut in mean absolute gray levels."""
    return isolated_change(np.abs(np.diff(thumbnails, axis=0)).mean((1, 2, 3)))


def head_jump(landmarks: np.ndarray, height: float) -> float:
    """[T, P, 2] rigid landmarks -> the largest isolated jump of their center, in face heights (`height` in the landmarks' unit)."""
    return isolated_change(np.linalg.norm(np.diff(landmarks.mean(1), axis=0), axis=-1)) / max(height, 1e-6)


# -------- Arrays and measurements of one clip

MIN_FOUND = 10
"""Minimum number of frames with a face."""

SHARPNESS_EVERY = 5
"""Frame interval of the sharpness measurement."""

Span = tuple[float, float] | None


class UnusableError(Exception):
    """A clip that can't be measured. `reason` is one of `publish.REASONS`; the message is a sentence with details."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Input of the filters.

    Attributes:
      seconds: length of the arrays.
      face_pixels: median height of the face, forehead to chin, in pixels of the video.
      gap_seconds: longest stretch without a face.
      rival_share: share of the scanned frames that show another face of at least half the size.
      cut_levels, jump: see the functions `cut_levels` and `head_jump`.
      sharpness: median over the clip.
      voiced_share: share of the audio frames with a pitch.
      offset, offset_score, offset_margin: frames by which the mouth was late, as `offset.Offset`; 0 without a predictor.
      offset_confident: whether that estimate is reliable.
      corrected: frames by which the sound was delayed; the remaining offset is offset - corrected.
    """

    seconds: float
    face_pixels: float
    gap_seconds: float
    rival_share: float
    cut_levels: float
    jump: float
    sharpness: float
    voiced_share: float
    offset: float
    offset_score: float
    offset_margin: float
    offset_confident: bool
    corrected: float


def measure_clip(
    path: Path,
    info: VideoInfo,
    span: Span,
    settings: MeasureSettings,
    audio: AudioFeatures = MEL_F0,
    predictor: OpeningPredictor | None = None,
) -> tuple[dict[str, np.ndarray], Measurements]:
    """Decodes a clip twice (a few pictures a second, then every frame of the face's crop) and measures it.

    Args:
      path: the video.
      info: its metadata.
      span: seconds [a, b) of it; None means all.
      settings: see configs/corpus.py.
      audio: the audio features to compute.
      predictor: finds the offset between sound and picture; None leaves both as they are.

    Returns:
      arrays: audio_features [2T, C], f0 [2T], motion [T, 204], float32, with the offset between sound and picture corrected.
      measurements.

    Raises:
      UnusableError: no sound, silence, no face, too few frames, or the video can't be decoded.
    """
    samples = _sound(path, info, span)
    try:
        scan = _scan_faces(path, info, span)
        found = scan.landmarks[scan.found] * np.float32([info.width, info.height, info.width])
        box, _ = choose_crop(found, info.width, info.height)
        track, thumbnails, median_sharpness = _track_crop(path, box, found, span)
    except InputError as error:
        raise UnusableError("unreadable", str(error)) from error
    n_frames = min(len(track.landmarks), -(-len(samples) * FPS // SAMPLE_RATE))
    seen = track.found[:n_frames]
    if seen.sum() < MIN_FOUND:
        raise UnusableError("no_face", f"A face is visible in {seen.sum()} of {n_frames} frames.")
    landmarks = fill(track.landmarks[:n_frames] * np.float32(ANALYSIS_SIZE))
    pose = solve_poses(landmarks, ANALYSIS_SIZE, np.where(seen, 1.0, INTERPOLATED_TRUST))
    points = canonical_landmarks(landmarks, pose, ANALYSIS_SIZE)
    offset = NO_OFFSET
    if predictor is not None:
        offset = estimate_offset(opening(points), predictor.predict(samples, n_frames), settings.offset_reach)
    shift = _correction(offset, settings)
    if shift:
        points, samples = _synchronize(points, samples, shift)
    features, f0 = audio.compute(samples, len(points))
    height = np.linalg.norm(landmarks[:, FOREHEAD, :2] - landmarks[:, CHIN, :2], axis=-1)
    measurements = Measurements(
        seconds=len(points) / FPS,
        face_pixels=float(np.median(np.linalg.norm(found[:, FOREHEAD, :2] - found[:, CHIN, :2], axis=-1))),
        gap_seconds=max([b - a for a, b in gaps_of(seen)], default=0) / FPS,
        rival_share=float((scan.rival >= RIVAL_SIZE)[scan.found].mean()),
        cut_levels=cut_levels(thumbnails[:n_frames]),
        jump=head_jump(landmarks[:, RIGID, :2], float(np.median(height))),
        sharpness=median_sharpness,
        voiced_share=float((f0 > 0).mean()),
        offset=offset.lag,
        offset_score=offset.score,
        offset_margin=offset.margin,
        offset_confident=offset.confident(settings),
        corrected=shift,
    )
    motion = motion_from_landmarks(points).reshape(len(points), -1)
    return {"audio_features": features, "f0": f0, "motion": motion}, measurements


def _sound(path: Path, info: VideoInfo, span: Span) -> np.ndarray:
    if info.audio is None:
        raise UnusableError("no_sound", f"{path} has no sound.")
    try:
        return load_track(path, span=span)[0]
    except InputError as error:
        raise UnusableError("no_sound", str(error)) from error


def _scan_faces(path: Path, info: VideoInfo, span: Span) -> FaceTrack:
    """Tracks the face in a few pictures a second of the whole frame, and detects other faces."""
    track, _ = detect_thoroughly(frames(path, scan_size(info), trim=span, fps=SCAN_FPS), SCAN_FPS)
    if not track.found.any():
        raise UnusableError("no_face", f"No face was found in {path}.")
    return track


def _track_crop(path: Path, box: Box, faces: np.ndarray, span: Span) -> tuple[FaceTrack, np.ndarray, float]:
    """Landmarks of every frame of the crop, thumbnails [T, 32, 32, 3], and the median sharpness of the face."""
    area = _face_area(faces, box)
    thumbnails, sharp = [], []

    def stream():
        for index, frame in enumerate(frames(path, (ANALYSIS_SIZE, ANALYSIS_SIZE), crop=box, trim=span)):
            thumbnails.append(thumbnail(frame))
            if index % SHARPNESS_EVERY == 0:
                sharp.append(sharpness(frame, area))
            yield frame

    track = detect(stream(), FPS)
    return track, np.stack(thumbnails), float(np.median(sharp))


def _face_area(faces: np.ndarray, box: Box) -> tuple[int, int, int, int]:
    """The median face's rectangle in the crop at `ANALYSIS_SIZE`, at least 16 pixels wide and high."""
    corners = np.median(np.concatenate([faces[..., :2].min(1), faces[..., :2].max(1)], axis=1), axis=0)
    scaled = (corners - [box.x, box.y, box.x, box.y]) * ANALYSIS_SIZE / box.size
    x0, y0 = np.clip(scaled[:2], 0, ANALYSIS_SIZE - 16).astype(int)
    x1, y1 = np.clip(scaled[2:], [x0 + 16, y0 + 16], ANALYSIS_SIZE).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _correction(offset: Offset, settings: MeasureSettings) -> float:
    """Frames to correct: the offset if it is reliable, above the tolerance and not too large to correct, else 0."""
    if not offset.confident(settings) or not settings.offset_tolerance < abs(offset.lag) <= settings.offset_max_corrected:
        return 0.0
    return offset.lag


def _synchronize(points: np.ndarray, samples: np.ndarray, late: float) -> tuple[np.ndarray, np.ndarray]:
    """Delays the sound by the `late` frames that the mouth is behind, to the sample, and cuts off the ends without a counterpart."""
    n_frames, first = len(points) - math.ceil(abs(late)), math.ceil(max(late, 0.0))
    start = round((first - late) * SAMPLES_PER_FRAME)
    return points[first:][:n_frames], samples[start:][: n_frames * SAMPLES_PER_FRAME]
