"""Scores of a clip: pixel and landmark scores averaged over frames, rendering speed, head pose jitter."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from data_tools.face import pose as face_pose
from data_tools.face.track import FACE_LANDMARKER, mediapipe_image, open_task, verified_path
from data_tools.landmarks68 import eye_openness
from geneface_jax.data.motion import count_blinks, mouth_opening, pearson
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.metrics import Perceptual, best_lag, from_mediapipe, jitter, lmd, pose_jitter, psnr, ssim_map
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
