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
        """uint8 [H, W, 3] RGB (give about 256x256) -> [1, H, W] float32, 0 background .. 1 person."""
        # `numpy_view` looks into the result's own memory, which must live until it is copied: the temporary of a one-line call is freed
        # before, and another thread may write over the mask's first pixels.
        result = self._segmenter.segment(picture(frame))
        mask = result.confidence_masks[0]
        return np.array(mask.numpy_view(), np.float32).reshape(1, *frame.shape[:2])
