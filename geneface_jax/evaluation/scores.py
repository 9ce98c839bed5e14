"""Scores of a clip: MediaPipe landmarks of finished frames, per-frame figures and their means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from data_tools.face.track import FACE_LANDMARKER, checked, open_task, picture
from data_tools.landmarks68 import eye_openness
from geneface_jax.data.motion import count_blinks, mouth_opening, pearson
from geneface_jax.evaluation.metrics import Perceptual, best_lag, from_mediapipe, jitter, lmd, psnr, ssim_map

# ----------------------------------------------------------------------------------------------------
# MediaPipe's landmarks of finished frames, for the figures that compare two videos.

N_POINTS = 478


class LandmarkTrack:
    """Collects the landmarks of one video, frame by frame, from a MediaPipe landmarker in video mode at 25 frames per second."""

    def __init__(self, landmarker: Any) -> None:
        self._landmarker = landmarker
        self._points: list[np.ndarray | None] = []

    def add(self, frame: np.ndarray) -> np.ndarray | None:
        """Finds the largest face in the next frame (uint8 [H, W, 3]); returns its [478, 3] pixels, or None where there is none."""
        result = self._landmarker.detect_for_video(picture(frame), 40 * len(self._points))
        height, width = frame.shape[:2]
        scale = np.array([width, height, width], np.float32)  # MediaPipe gives z in the unit of x
        faces = [np.array([(p.x, p.y, p.z) for p in face], np.float32) * scale for face in result.face_landmarks]
        points = max(faces, key=lambda face: np.ptp(face[:, 1]), default=None)
        self._points.append(points)
        return points

    @property
    def found(self) -> np.ndarray:
        """[T] bool: whether the frame has a face."""
        return np.array([points is not None for points in self._points], bool)

    @property
    def points(self) -> np.ndarray:
        """[T, 478, 3] float32 pixels, zeros where no face was found."""
        nothing = np.zeros((N_POINTS, 3), np.float32)
        return np.array([nothing if points is None else points for points in self._points]).reshape(-1, N_POINTS, 3)

    @property
    def landmarks(self) -> np.ndarray:
        """[T, 68, 3] float32 pixels, zeros where no face was found."""
        return from_mediapipe(self.points)


@contextmanager
def landmark_tracks(count: int, *, filtered: bool = False) -> Iterator[list[LandmarkTrack]]:
    """Opens one track per video, each with a landmarker of its own, since MediaPipe carries a face from frame to frame.

    Args:
      count: number of videos.
      filtered: ask MediaPipe for one face, and it smooths the landmarks over time with a filter that lags; with two it does not. Mouths are
        compared unfiltered.

    Raises:
      InputError: MediaPipe or the system libraries it needs are missing.
    """

    def create() -> Any:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=checked(FACE_LANDMARKER)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=1 if filtered else 2,
        )
        return vision.FaceLandmarker.create_from_options(options)

    with ExitStack() as stack:
        yield [LandmarkTrack(stack.enter_context(open_task(create))) for _ in range(count)]


# ----------------------------------------------------------------------------------------------------
# Collecting per-frame figures and averaging them over a clip.


class PixelScores:
    """PSNR, SSIM and LPIPS per region; a clip's figure is the mean over its frames.

    Args:
      perceptual: LPIPS; None leaves it out.
    """

    def __init__(self, perceptual: Perceptual | None = None) -> None:
        self._perceptual = perceptual
        self._frames: dict[str, list[tuple[float, ...]]] = {}

    def add(self, image: np.ndarray, truth: np.ndarray, regions: Mapping[str, np.ndarray | None]) -> None:
        """Scores one frame.

        Args:
          image, truth: uint8 [H, W, 3].
          regions: name -> bool [H, W], or None for the whole frame. A frame whose region is empty does not count for it.
        """
        similarity = ssim_map(image, truth)
        for name, mask in regions.items():
            count = image.shape[0] * image.shape[1] if mask is None else int(mask.sum())
            if count:
                alike = float((similarity if mask is None else similarity[mask]).mean())
                looks = () if self._perceptual is None else (self._perceptual.distance(image, truth, mask),)
                self._frames.setdefault(name, []).append((psnr(image, truth, mask), alike, count, *looks))

    def summary(self) -> dict[str, dict[str, float]]:
        """Region -> {"psnr" (dB), "ssim", "pixels" (mean number per frame), "frames"}, and "lpips" where it was measured."""
        out = {}
        for name, rows in self._frames.items():
            means = np.mean(np.array(rows, np.float64), axis=0)
            out[name] = {"psnr": float(means[0]), "ssim": float(means[1]), "pixels": float(means[2]), "frames": len(rows)}
            if self._perceptual is not None:
                out[name]["lpips"] = float(means[3])
        return out


def landmark_summary(track: LandmarkTrack, truth: LandmarkTrack) -> dict[str, Any]:
    """Figures over the frames where MediaPipe finds both faces.

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
