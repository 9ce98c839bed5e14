"""MediaPipe's landmarks of finished frames, for the figures that compare two videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from data_tools.face.track import FACE_LANDMARKER, checked, open_task, picture
from geneface_jax.evaluation.landmarks import from_mediapipe

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
