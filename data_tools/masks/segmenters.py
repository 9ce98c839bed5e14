"""Person segmentation with MediaPipe (selfie or multiclass segmenter), temporal smoothing, and refinement to full resolution."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from data_tools.errors import InputError
from data_tools.face.track import SELFIE_SEGMENTER, mediapipe_image, open_task, verified_path

# -------- The two segmenters: pictures in, mask layers out

NETWORK_SIZE = 256
"""Input size of the networks; larger pictures gain nothing and cost time."""

CLASSES = ("background", "hair", "body skin", "face skin", "clothes", "others")
"""Classes of the multiclass segmenter; "others" are accessories (GeneFace++ counts them as head)."""

BACKENDS = {"selfie": ("person",), "multiclass": ("person", "hair", "neck", "clothes")}
"""Backend -> names of its layers. The first is always the whole person."""


class Segmenter:
    """A MediaPipe segmenter, to be used as a context manager and called with pictures.

    Raises:
      InputError: MediaPipe or its libraries can't be loaded.
    """

    def __init__(self, model: str) -> None:
        def create():
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(base_options=BaseOptions(model_asset_path=model))
            return vision.ImageSegmenter.create_from_options(options)

        self._segmenter = open_task(create)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_) -> None:
        self._segmenter.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] RGB (about 256x256) -> [L, H, W] float32 0..1, the layers of `BACKENDS`."""
        raise NotImplementedError

    def _confidences(self, frame: np.ndarray) -> np.ndarray:
        """[classes, H, W] float32."""
        # `numpy_view` is a view into `result`, which must stay alive until the copy: in a one-line call it would be freed earlier, and
        # another thread might overwrite the mask's first pixels.
        result = self._segmenter.segment(mediapipe_image(frame))
        return np.stack([np.array(mask.numpy_view(), np.float32).reshape(frame.shape[:2]) for mask in result.confidence_masks])


class SelfieSegmenter(Segmenter):
    """MediaPipe's selfie segmenter (the model file is committed here): person against background."""

    def __init__(self) -> None:
        super().__init__(verified_path(SELFIE_SEGMENTER))

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return self._confidences(frame)[:1]


class MulticlassSegmenter(Segmenter):
    """MediaPipe's selfie multiclass segmenter: person, hair, neck and clothes.

    Args:
      model: path of `selfie_multiclass_256x256.tflite` (16 MB, Apache-2.0, not shipped here).

    Raises:
      InputError: MediaPipe or its libraries can't be loaded, or the file is not that model.
    """

    def __init__(self, model: Path) -> None:
        try:
            super().__init__(str(model))
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{model} is not a segmenter that MediaPipe can load: give selfie_multiclass_256x256.tflite.") from error
        self._model = model

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        confidences = self._confidences(frame)
        if len(confidences) != len(CLASSES):
            raise InputError(
                f"{self._model} has {len(confidences)} classes instead of {len(CLASSES)}: give MediaPipe's "
                "selfie_multiclass_256x256.tflite."
            )
        return layers_of(confidences)


def layers_of(classes: np.ndarray) -> np.ndarray:
    """[6, H, W] confidences of `CLASSES` -> [4, H, W] person, hair, neck, clothes."""
    background, hair, body_skin, _, clothes, _ = classes
    return np.stack([1.0 - background, hair, body_skin, clothes]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class SegmenterChoice:
    """The segmenter to use: `backend` of `BACKENDS`, and the model file of `multiclass`."""

    backend: str = "selfie"
    model: Path | None = None

    @property
    def n_layers(self) -> int:
        return len(BACKENDS[self.backend])

    @classmethod
    def from_file(cls, model: str | Path | None) -> SegmenterChoice:
        """`multiclass` with a user's file, `selfie` without one; raises InputError if the file does not exist."""
        if model is None:
            return cls()
        if not Path(model).is_file():
            raise InputError(
                f"--segmenter-model {model} does not exist: give the path of MediaPipe's selfie_multiclass_256x256.tflite, or remove the "
                "option to use the built-in person segmenter."
            )
        return cls("multiclass", Path(model).absolute())


def open_segmenter(choice: SegmenterChoice) -> Segmenter:
    """Loads the chosen segmenter; raises as the class does."""
    return MulticlassSegmenter(choice.model) if choice.model else SelfieSegmenter()


# -------- From the segmenter's 256x256 confidence to a soft person mask at the picture's size


def smooth_in_time(layers: np.ndarray, index: int) -> np.ndarray:
    """[T, ...] uint8 mask layers -> [...] float32 0..1 of frame `index`, filtered with weights 1/4, 1/2, 1/4 against flickering edges; the
    end frames are repeated."""
    last = len(layers) - 1
    before, now, after = (layers[i].astype(np.float32) for i in (max(index - 1, 0), index, min(index + 1, last)))
    return (before + 2.0 * now + after) / (4.0 * 255.0)


def refine(confidence: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Scales a confidence [h, w] up to the frame [H, W, 3] uint8 and aligns its edge with the frame's by a guided filter; float32 0..1."""
    size = frame.shape[0]
    mask = cv2.resize(confidence, (frame.shape[1], size), interpolation=cv2.INTER_LINEAR)
    # A gray guide is as good as a color guide here, and ten times faster.
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mask = cv2.ximgproc.guidedFilter(guide, mask, radius=max(size // 64, 2), eps=(0.02 * 255) ** 2)
    # The network's confidences rarely reach 0 or 1: the range 0.15 to 0.75 is stretched to the soft edge.
    return np.clip((mask - 0.15) / 0.6, 0.0, 1.0)
