"""Person against background, from MediaPipe's selfie segmenter (the model file committed here)."""

from __future__ import annotations

import numpy as np

from data_tools.face.mediapipe_tasks import SELFIE_SEGMENTER, checked, open_task, picture

NETWORK_SIZE = 256
"""The network looks at 256x256 pixels; a larger picture gains nothing and costs time."""


class SelfieSegmenter:
    """Person confidence of pictures. Use as a context manager.

    Raises:
      InputError: MediaPipe, its libraries or the model file are missing.
    """

    def __init__(self) -> None:
        def create():
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(base_options=BaseOptions(model_asset_path=checked(SELFIE_SEGMENTER)))
            return vision.ImageSegmenter.create_from_options(options)

        self._segmenter = open_task(create)

    def __enter__(self) -> SelfieSegmenter:
        return self

    def __exit__(self, *_) -> None:
        self._segmenter.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] RGB (give about 256x256) -> [H, W] float32, 0 background .. 1 person."""
        mask = self._segmenter.segment(picture(frame)).confidence_masks[0].numpy_view()
        return np.array(mask, np.float32).reshape(frame.shape[:2])
