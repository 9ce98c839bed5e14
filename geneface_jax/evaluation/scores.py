"""Scores of a clip (pixels, landmarks, speed, pose jitter), and of a finished video against the true one or its own sound."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.sound import FPS, load_audio
from data_tools.errors import InputError
from data_tools.face import pose as face_pose
from data_tools.face.track import FACE_LANDMARKER, mediapipe_image, open_task, verified_path
from data_tools.io import read_npz
from data_tools.landmarks68 import eye_openness
from data_tools.video import read_video
from geneface_jax.data.motion import count_blinks, mouth_opening, pearson
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation import metrics
from geneface_jax.evaluation.metrics import (
    Perceptual,
    best_lag,
    envelope_correlation,
    face_hull_mask,
    from_mediapipe,
    jitter,
    lmd,
    pose_jitter,
    psnr,
    ssim_map,
)
from geneface_jax.inference.pictures import resize
from geneface_jax.typing import Bool, Float, Float32, UInt8

# -------- MediaPipe landmarks of finished frames, and the scores that compare two videos' landmarks

N_POINTS = 478


class LandmarkTrack:
    """Collects the landmarks of one video, frame by frame, from a MediaPipe landmarker in video mode at 25 frames per second."""

    def __init__(self, landmarker: Any) -> None:
        self._landmarker = landmarker
        self._points: list[np.ndarray | None] = []

    def add(self, frame: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "478 3"] | None:
        """Finds the largest face in the next frame; returns its landmarks in pixels, or None without a face."""
        result = self._landmarker.detect_for_video(mediapipe_image(frame), 40 * len(self._points))
        height, width = frame.shape[:2]
        scale = np.array([width, height, width], np.float32)  # MediaPipe gives z in the unit of x
        faces = [np.array([(p.x, p.y, p.z) for p in face], np.float32) * scale for face in result.face_landmarks]
        points = max(faces, key=lambda face: np.ptp(face[:, 1]), default=None)
        self._points.append(points)
        return points

    @property
    def found(self) -> Bool[np.ndarray, " T"]:
        """Whether the frame has a face."""
        return np.array([points is not None for points in self._points], bool)

    @property
    def points(self) -> Float[np.ndarray, "T 478 3"]:
        """Pixels; zeros where no face was found."""
        missing = np.zeros((N_POINTS, 3), np.float32)
        return np.array([missing if points is None else points for points in self._points]).reshape(-1, N_POINTS, 3)

    @property
    def landmarks(self) -> Float[np.ndarray, "T 68 3"]:
        """`points` in the 68-point convention."""
        return from_mediapipe(self.points)


@contextmanager
def landmark_tracks(count: int, *, filtered: bool = False) -> Iterator[list[LandmarkTrack]]:
    """Opens one track per video, each with its own landmarker, since MediaPipe tracks a face from frame to frame.

    Args:
      count: number of videos.
      filtered: request one face, in which mode MediaPipe smooths the landmarks over time with a filter that lags. By default two faces are
        requested, which turns the filter off: mouths are compared unfiltered.

    Raises:
      InputError: MediaPipe or the system libraries it needs are missing.
    """

    def create() -> Any:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=verified_path(FACE_LANDMARKER)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=1 if filtered else 2,
        )
        return vision.FaceLandmarker.create_from_options(options)

    with ExitStack() as stack:
        yield [LandmarkTrack(stack.enter_context(open_task(create))) for _ in range(count)]


# -------- Pixel scores: PSNR, SSIM and LPIPS per region


class PixelScores:
    """Collects PSNR, SSIM and LPIPS per frame and region; a clip's score is the mean over its frames. LPIPS is omitted when None."""

    def __init__(self, perceptual: Perceptual | None = None) -> None:
        self._perceptual = perceptual
        self._frames: dict[str, list[tuple[float, ...]]] = {}

    def add(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        truth: UInt8[np.ndarray, "H W 3"],
        regions: Mapping[str, Bool[np.ndarray, "H W"] | None],
    ) -> None:
        """Scores one frame. `regions` are masks by name, None for the whole frame; a frame whose region is empty does not count for it."""
        similarity = ssim_map(image, truth)
        for name, mask in regions.items():
            count = image.shape[0] * image.shape[1] if mask is None else int(mask.sum())
            if count:
                ssim = float((similarity if mask is None else similarity[mask]).mean())
                lpips = () if self._perceptual is None else (self._perceptual.distance(image, truth, mask),)
                self._frames.setdefault(name, []).append((psnr(image, truth, mask), ssim, count, *lpips))

    def summary(self) -> dict[str, dict[str, float]]:
        """Region -> {"psnr" (dB), "ssim", "pixels" (mean number per frame), "frames"}, and "lpips" if it was measured."""
        out = {}
        for name, rows in self._frames.items():
            means = np.mean(np.array(rows, np.float64), axis=0)
            out[name] = {"psnr": float(means[0]), "ssim": float(means[1]), "pixels": float(means[2]), "frames": len(rows)}
            if self._perceptual is not None:
                out[name]["lpips"] = float(means[3])
        return out


def landmark_summary(track: LandmarkTrack, truth: LandmarkTrack) -> dict[str, Any]:
    """Landmark scores over the frames in which MediaPipe finds both faces.

    Returns:
      `lmd` (px), `mouth_correlation` at zero lag, `mouth_best_correlation` and `mouth_best_lag` (frames), `eye_correlation` of the eye
      openness at zero lag, `blinks` and `truth_blinks`, `jitter` and `truth_jitter` (px, 68 points), `frames` used and
      `frames_without_face` of the first video.
    """
    both = track.found & truth.found
    a, b = track.landmarks, truth.landmarks
    opening, true_opening = mouth_opening(a[..., :2]), mouth_opening(b[..., :2])
    best, lag = best_lag(opening, true_opening, both)
    eyes, true_eyes = eye_openness(a[both][..., :2]), eye_openness(b[both][..., :2])
    return {
        "lmd": lmd(a[both], b[both]) if both.any() else float("nan"),
        "mouth_correlation": pearson(opening, true_opening, both),
        "mouth_best_correlation": best,
        "mouth_best_lag": lag,
        "eye_correlation": pearson(eyes, true_eyes),
        "blinks": count_blinks(eyes),
        "truth_blinks": count_blinks(true_eyes),
        "jitter": jitter(a[both][..., :2]),
        "truth_jitter": jitter(b[both][..., :2]),
        "frames": int(both.sum()),
        "frames_without_face": int((~track.found).sum()),
    }


# -------- Rendering speed

WARM_UP = 3
"""Frames before timing starts: the first one compiles, and two batches are in flight at any time."""

MIN_MEASURED = 4
"""Frames that a measurement needs."""

MEASURED = 20
"""Largest number of timed frames."""


def frames_per_second(images: Iterable[Any], warm_up: int = WARM_UP, measured: int = MEASURED) -> dict[str, Any] | None:
    """Times a lazily rendered stream of frames, of which it reads `warm_up + measured` at most.

    Returns:
      {"frames_per_second", "frames" (timed), "device", "cores"}; None if fewer than `MIN_MEASURED` frames could be timed.
    """
    started, counted = 0.0, 0
    for i, _ in enumerate(images):
        counted = i + 1 - warm_up
        if counted == 0:
            started = time.perf_counter()
        if counted == measured:
            break
    if counted < MIN_MEASURED:
        return None
    rate = counted / max(time.perf_counter() - started, 1e-9)
    device = jax.devices()[0]
    return {
        "frames_per_second": rate,
        "frames": counted,
        "device": f"{device.platform} {device.device_kind}".strip(),
        "cores": os.cpu_count(),
    }


# -------- Head pose jitter of a dataset before and after smoothing


def smoothing_report(subject: Subject) -> dict[str, dict[str, float]]:
    """Jitter of the head pose path of a full dataset: fitted frame by frame ("before"), and as stored ("after").

    Returns:
      {"before", "after"}, each {"rotation_degrees", "translation_mm" (mean second differences), "pixels" (the same of the face's rigid
      points as the poses project them, in pixels of the dataset's size)}, over the whole clip.
    """
    assert subject.landmarks_mediapipe is not None  # `heldout` refuses light datasets
    trust = np.where(subject.interpolated, 1e-3, 1.0)
    fitted = face_pose.solve_poses(subject.landmarks_mediapipe, subject.size, trust)
    before = face_pose.camera_matrices(fitted.unsmoothed_rotation, fitted.unsmoothed_translation)
    return {
        "before": _path_jitter(before, fitted.shape, subject.size),
        "after": _path_jitter(subject.cameras, fitted.shape, subject.size),
    }


def _path_jitter(cameras: Float[np.ndarray, "T 4 4"], shape: Float[np.ndarray, "P 3"], size: int) -> dict[str, float]:
    degrees, millimeters = pose_jitter(cameras)
    rotation = cameras[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    # Cameras are in meters, the shape in decimeters.
    translation = -10.0 * np.einsum("tij,tj->ti", rotation, cameras[:, :3, 3].astype(np.float64))
    return {
        "rotation_degrees": degrees,
        "translation_mm": millimeters,
        "pixels": jitter(face_pose.project(shape, rotation, translation, size)),
    }


# -------- Comparison of a finished video with the true video, or with its own audio

MIN_FRAMES = 5

_LIPS = from_mediapipe(np.arange(478)[:, None])[48:60, 0]
"""MediaPipe numbers of the outer lips."""


def compare_videos(
    video: Path,
    truth: Path,
    *,
    size: int | None = None,
    head_masks: UInt8[np.ndarray, "T H W"] | None = None,
    on_frame: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> dict[str, Any]:
    """Compares two videos frame by frame at 25 frames per second, as decoded (after H.264).

    Regions come from the true video: face hull and mouth from MediaPipe, the head from `head_masks` if given. Frames of the true video
    without a face only count for the whole frame.

    Args:
      video, truth: video files of square pictures; the longer one is cut to the shorter one's length.
      size: H = W of the scored pictures; the true video's when None.
      head_masks: of the true video, 255 = head.
      on_frame: called with (truth, image) for every frame.

    Returns:
      {"pixels", "landmarks", "frames", "frames_left_out", "size"}.

    Raises:
      InputError: a file can't be read, a picture is not square, or fewer than five frames are common.
    """
    scores, count, left_out = PixelScores(), 0, 0
    with landmark_tracks(2) as (of_video, of_truth):
        for image, true_image in zip_longest(read_video(video, FPS), read_video(truth, FPS)):
            if image is None or true_image is None:
                left_out += 1
                continue
            for picture, name in ((image, video), (true_image, truth)):
                if picture.shape[0] != picture.shape[1]:
                    raise InputError(f"{name} is {picture.shape[1]}x{picture.shape[0]}, not square: compare the cropped videos.")
            size = size or true_image.shape[0]
            image, true_image = resize(image, size, size), resize(true_image, size, size)
            of_video.add(image)
            points = of_truth.add(true_image)
            mask = head_masks[count] if head_masks is not None and count < len(head_masks) else None
            scores.add(image, true_image, _regions(points, mask, size))
            if on_frame is not None:
                on_frame(true_image, image)
            count += 1
        if count < MIN_FRAMES:
            raise InputError(f"{video} and {truth} have only {count} frames in common: compare videos of at least {MIN_FRAMES} frames.")
        summary = landmark_summary(of_video, of_truth)
    return {"pixels": scores.summary(), "landmarks": summary, "frames": count, "frames_left_out": left_out, "size": size}


def video_against_audio(video: Path, audio: Path | None = None) -> dict[str, Any]:
    """Correlates the mouth opening in a video (MediaPipe, 25 frames per second) with the loudness of its audio.

    Args:
      video: a video file.
      audio: an audio file; the video's own audio when None.

    Returns:
      the fields of `metrics.EnvelopeCorrelation`, `frames`, and `frames_without_face`.

    Raises:
      InputError: a file can't be read, there is no sound, or no face is found.
    """
    samples = load_audio(audio or video)
    with landmark_tracks(1) as (track,):
        for frame in read_video(video, FPS):
            track.add(frame)
    if not track.found.any():
        raise InputError(f"No face is found in {video}: give a video of one talking face.")
    result = envelope_correlation(mouth_opening(track.landmarks[..., :2]), samples, track.found)
    return {**dataclasses.asdict(result), "frames": len(track.found), "frames_without_face": int((~track.found).sum())}


def load_head_masks(path: Path) -> UInt8[np.ndarray, "T H W"]:
    """Reads `head_mask` (255 = head) from a truth file.

    Args:
      path: npz whose `head_mask` is uint8 [T, H, W], or [T, H, W // 8] packed bits (`numpy.packbits` along the last axis).

    Raises:
      InputError: the file or the array is missing or has another shape.
    """
    mask = read_npz(path, "give the truth.npz of the avatar", ["head_mask"])["head_mask"]
    if mask.ndim == 3 and mask.shape[2] * 8 == mask.shape[1]:
        mask = np.unpackbits(mask, axis=-1) * np.uint8(255)
    if mask.ndim != 3 or mask.shape[1] != mask.shape[2] or mask.dtype != np.uint8:
        raise InputError(
            f'"head_mask" of {path} is {mask.dtype} {list(mask.shape)}, not uint8 [T, H, W]: give the truth.npz of the avatar.'
        )
    return mask


def _regions(
    points: Float[np.ndarray, "478 3"] | None, head_mask: UInt8[np.ndarray, "H W"] | None, size: int
) -> dict[str, np.ndarray | None]:
    """Masks by region in the report's order; None stands for the whole frame."""
    regions: dict[str, np.ndarray | None] = {}
    if points is not None:
        regions["face hull"] = face_hull_mask(points, size)
    if head_mask is not None:
        regions["head"] = metrics.hard_head_mask(resize(head_mask, size, size))
    if points is not None:
        regions["mouth"] = metrics.mouth_mask(_lip_box(points), size)
    return {**regions, "frame": None}


def _lip_box(points: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, " 4"]:
    """Lip box as in a dataset: a square of 1.2 times the outer lips' larger half extent."""
    lips = points[_LIPS, :2]
    low, high = lips.min(0), lips.max(0)
    center, half = (low + high) / 2, 1.2 * (high - low).max() / 2
    return np.concatenate([center - half, center + half])
