"""MediaPipe's committed models, checked and opened; and the sentence for machines where it can't run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

FOLDER = Path(__file__).parent.parent
FACE_LANDMARKER = FOLDER / "face" / "models" / "face_landmarker.task"
SELFIE_SEGMENTER = FOLDER / "segmentation" / "models" / "selfie_segmenter.tflite"
SHA256 = {
    FACE_LANDMARKER.name: "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    SELFIE_SEGMENTER.name: "191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
}


START_SECONDS = 0.1
"""How long MediaPipe's threads write after a task was made (measured: a few milliseconds on an idle machine)."""


def checked(model: Path) -> str:
    """The model's path, after comparing its sha256.

    Raises:
      InputError: the file is missing or not the one this version was made with.
    """
    if not model.is_file() or hashlib.sha256(model.read_bytes()).hexdigest() != SHA256[model.name]:
        raise InputError(f"{model} is missing or damaged: bring it back with `git checkout -- {model.name}` in its folder.")
    return str(model)


def open_task(create: Callable[[], Any]) -> Any:
    """Calls `create()`, which imports MediaPipe and makes one of its tasks.

    Raises:
      InputError: MediaPipe or a system library it loads is not installed.
    """
    try:
        with _quiet_start():
            return create()
    except (ImportError, OSError) as error:
        raise InputError(
            f"MediaPipe can't start here ({str(error).splitlines()[0]}): install its system libraries with "
            "`apt-get install -y libegl1 libgles2 libgl1 libglib2.0-0`."
        ) from error


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps MediaPipe's start-up notes off the terminal: its C++ code writes them to file descriptor 2 and no setting stops it.

    An error still arrives as an exception, with its own text.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
        # The notes come from threads that the start leaves running for a moment.
        time.sleep(START_SECONDS)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def picture(frame: np.ndarray) -> Any:
    """uint8 [H, W, 3] RGB as MediaPipe's image."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
