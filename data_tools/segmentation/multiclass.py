"""Hair, skin, clothes: MediaPipe's selfie multiclass segmenter, from a file that the user has (16 MB, Apache-2.0, not shipped here)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.face.mediapipe_tasks import open_task, picture

CLASSES = ("background", "hair", "body skin", "face skin", "clothes", "others")
"""The network's classes; "others" are accessories (GeneFace++ counts them with the head)."""


class MulticlassSegmenter:
    """Layers person, hair, neck and clothes of pictures. Use as a context manager.

    Args:
      model: path of `selfie_multiclass_256x256.tflite`.

    Raises:
      InputError: MediaPipe or its libraries are missing, or the file is not that model.
    """

    def __init__(self, model: Path) -> None:
        def create():
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(base_options=BaseOptions(model_asset_path=str(model)))
            return vision.ImageSegmenter.create_from_options(options)

        try:
            self._segmenter = open_task(create)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{model} is not a segmenter that MediaPipe can load: give selfie_multiclass_256x256.tflite.") from error
        self._model = model

    def __enter__(self) -> MulticlassSegmenter:
        return self

    def __exit__(self, *_) -> None:
        self._segmenter.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] RGB (give 256x256) -> [4, H, W] float32 0..1: person, hair, neck, clothes.

        Raises:
          InputError: the model has other classes.
        """
        result = self._segmenter.segment(picture(frame))  # owns the masks' memory until they are copied
        masks = result.confidence_masks
        if len(masks) != len(CLASSES):
            raise InputError(
                f"{self._model} tells {len(masks)} classes apart, not {len(CLASSES)}: give MediaPipe's selfie_multiclass_256x256.tflite."
            )
        return layers_of(np.stack([np.array(mask.numpy_view(), np.float32).reshape(frame.shape[:2]) for mask in masks]))


def layers_of(classes: np.ndarray) -> np.ndarray:
    """[6, H, W] confidences of `CLASSES` -> [4, H, W] person, hair, neck, clothes."""
    background, hair, body_skin, _, clothes, _ = classes
    return np.stack([1.0 - background, hair, body_skin, clothes]).astype(np.float32)
