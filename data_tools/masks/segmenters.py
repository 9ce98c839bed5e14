"""Person segmentation with MediaPipe (selfie and multiclass segmenters) behind one interface, and matting to full resolution."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from data_tools.errors import InputError
from data_tools.face.track import SELFIE_SEGMENTER, checked, open_task, picture

# ----------------------------------------------------------------------------------------------------
# Person against background, from MediaPipe's selfie segmenter (the model file committed here).

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


# ----------------------------------------------------------------------------------------------------
# Hair, skin, clothes: MediaPipe's selfie multiclass segmenter, from a file that the user has (16 MB, Apache-2.0, not shipped here).

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


# ----------------------------------------------------------------------------------------------------
# The two segmenters behind one interface: pictures in, mask layers out.
#
# `selfie` knows person and background; what is head and what is torso is then told by the landmarks (`head_torso`). `multiclass` knows
# hair, skin and clothes as well, and is used when the user has its file.

BACKENDS = {"selfie": ("person",), "multiclass": ("person", "hair", "neck", "clothes")}
"""Backend -> names of its layers. The first is always the whole person."""


class Segmenter(Protocol):
    """A context manager that is called with pictures."""

    def __enter__(self) -> Segmenter: ...

    def __exit__(self, *_) -> None: ...

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [256, 256, 3] RGB -> [L, 256, 256] float32 0..1."""
        ...


@dataclasses.dataclass(frozen=True)
class SegmenterChoice:
    """Which segmenter: `backend` of `BACKENDS`, and the model file of `multiclass`."""

    backend: str = "selfie"
    model: Path | None = None

    @property
    def n_layers(self) -> int:
        """Layers per picture."""
        return len(BACKENDS[self.backend])

    @classmethod
    def from_file(cls, model: str | Path | None) -> SegmenterChoice:
        """`multiclass` with a user's file, `selfie` without one.

        Raises:
          InputError: there is no such file.
        """
        if model is None:
            return cls()
        if not Path(model).is_file():
            raise InputError(
                f"the segmenter's file {model} does not exist: give the path of MediaPipe's selfie_multiclass_256x256.tflite, "
                "or leave --segmenter-model out to use the built-in person segmenter."
            )
        return cls("multiclass", Path(model).absolute())


def open_segmenter(choice: SegmenterChoice) -> Segmenter:
    """Loads the chosen segmenter; use the result as a context manager.

    Raises:
      InputError: MediaPipe can't run here, or the model file is not what it should be.
    """
    return MulticlassSegmenter(choice.model) if choice.model else SelfieSegmenter()


# ----------------------------------------------------------------------------------------------------
# From the segmenter's 256x256 confidence to a soft person mask at the picture's size.


def smooth_in_time(layers: np.ndarray, index: int) -> np.ndarray:
    """[T, ...] uint8 mask layers -> [...] float32 0..1 of frame `index`: weights 1/4, 1/2, 1/4 over the neighbours, which takes the flicker
    off edges. The clip's ends count as still."""
    last = len(layers) - 1
    before, now, after = (layers[i].astype(np.float32) for i in (max(index - 1, 0), index, min(index + 1, last)))
    return (before + 2.0 * now + after) / (4.0 * 255.0)


def refine(confidence: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Scales a confidence up and lets its edge follow the picture's (guided filter).

    Args:
      confidence: [h, w] float32 0..1.
      frame: [H, W, 3] uint8.

    Returns:
      [H, W] float32 0..1, soft mask of the person.
    """
    size = frame.shape[0]
    mask = cv2.resize(confidence, (frame.shape[1], size), interpolation=cv2.INTER_LINEAR)
    # A grey guide does as well as a colour one here and is ten times faster.
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mask = cv2.ximgproc.guidedFilter(guide, mask, radius=max(size // 64, 2), eps=(0.02 * 255) ** 2)
    # The network is sure of little exactly at 0 or 1; the ramp between 0.15 and 0.75 becomes the soft edge.
    return np.clip((mask - 0.15) / 0.6, 0.0, 1.0)
