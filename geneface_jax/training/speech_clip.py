"""What is heard during the validation landmark video, for TensorBoard's audio tab."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from geneface_jax.training.summaries import VIDEO_FPS

AUDIO_FILE = "audio.wav"


def speech_clip(dataset: str | os.PathLike[str], first: int, frames: int) -> dict[str, tuple[np.ndarray, int]]:
    """The sound of some frames of a subject dataset.

    Args:
      dataset: the dataset folder.
      first: index of the first frame.
      frames: how many; the recording may end before.

    Returns:
      `{"val/speech": (float32 [A] in [-1, 1], samples per second)}`, or {} where the dataset has no recording (a light or an imported
      one) or no frames are wanted.
    """
    path = Path(dataset) / AUDIO_FILE
    if not frames or not path.is_file():
        return {}
    import soundfile

    with soundfile.SoundFile(path) as recording:
        rate = recording.samplerate
        recording.seek(min(round(first * rate / VIDEO_FPS), recording.frames))
        samples = recording.read(round(frames * rate / VIDEO_FPS), dtype="float32")
    return {"val/speech": (samples, rate)} if len(samples) else {}
