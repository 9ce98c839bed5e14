"""The two segmenters behind one interface: pictures in, mask layers out.

`selfie` knows person and background; what is head and what is torso is then told by the landmarks (`head_torso`). `multiclass` knows hair,
skin and clothes as well, and is used when the user has its file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np

from data_tools.errors import InputError
from data_tools.segmentation.multiclass import MulticlassSegmenter
from data_tools.segmentation.selfie import NETWORK_SIZE, SelfieSegmenter

BACKENDS = {"selfie": ("person",), "multiclass": ("person", "hair", "neck", "clothes")}
"""Backend -> names of its layers. The first is always the whole person."""

__all__ = ["BACKENDS", "NETWORK_SIZE", "Segmenter", "SegmenterChoice", "open_segmenter"]


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
