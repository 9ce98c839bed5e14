"""MediaPipe's face landmarks of finished frames, for the figures that compare two videos."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

import data_tools.face
from geneface_jax.errors import InputError

MODEL = Path(data_tools.face.__file__).parent / "models" / "face_landmarker.task"


class FaceDetector:
    """Finds the face in consecutive frames of one video (MediaPipe's VIDEO mode). Use as a context manager; one detector per video.

    Raises:
      InputError: MediaPipe or the system libraries it needs are missing.
    """

    def __init__(self, fps: float = 25.0) -> None:
        try:
            import mediapipe
            from mediapipe.tasks import python
            from mediapipe.tasks.python import vision

            options = vision.FaceLandmarkerOptions(
                base_options=python.BaseOptions(model_asset_path=str(MODEL)), running_mode=vision.RunningMode.VIDEO, num_faces=1
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (ImportError, OSError) as error:
            raise InputError(
                f"MediaPipe can't run here ({error}); install it and its system libraries: apt-get install -y libegl1 libgles2 libgl1"
            ) from error
        self._image = lambda frame: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        self._period, self._count = 1000.0 / fps, 0

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._landmarker.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray | None:
        """uint8 [H, W, 3] -> [478, 3] float32 pixels (z in pixels too), or None where no face is found."""
        result = self._landmarker.detect_for_video(self._image(frame), round(self._count * self._period))
        self._count += 1
        if not result.face_landmarks:
            return None
        height, width = frame.shape[:2]
        points = np.array([(point.x, point.y, point.z) for point in result.face_landmarks[0]], np.float32)
        return points * np.array([width, height, width], np.float32)


class LandmarkTrack:
    """Collects a video's landmarks frame by frame.

    Attributes after the last frame: `landmarks` [T, 68, 3] pixels (zeros where none) and `found` [T] bool.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._points: list[np.ndarray | None] = []

    def add(self, frame: np.ndarray) -> np.ndarray | None:
        """Detects one frame; returns its [478, 3] landmarks or None."""
        points = self._detector(frame)
        self._points.append(points)
        return points

    @property
    def found(self) -> np.ndarray:
        """[T] bool."""
        return np.array([points is not None for points in self._points], bool)

    @property
    def landmarks(self) -> np.ndarray:
        """[T, 68, 3] float32."""
        from geneface_jax.evaluation.landmarks import from_mediapipe

        empty = np.zeros((478, 3), np.float32)
        stacked = np.stack([empty if points is None else points for points in self._points]) if self._points else empty[None][:0]
        return from_mediapipe(stacked)
