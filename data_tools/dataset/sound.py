"""The clip's sound, cut to the picture and aligned with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from data_tools.audio.load import SAMPLE_RATE, SILENCE_PEAK
from data_tools.errors import InputError
from data_tools.video.ffmpeg import ffmpeg_executable, input_arguments


def clip_sound(path: Path, trim: tuple[float, float] | None) -> np.ndarray:
    """Decodes the sound of a video so that sample 0 belongs to picture 0 and gaps in the stream stay gaps.

    Args:
      path: the video.
      trim: seconds [a, b).

    Returns:
      [n] float32, 16 kHz, mono.

    Raises:
      InputError: nothing could be decoded, or the sound is silent.
    """
    seek = ["-ss", f"{trim[0]:.3f}", "-t", f"{trim[1] - trim[0]:.3f}"] if trim else []
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *seek, *input_arguments(path), "-map", "0:a:0", "-vn"]
    # first_pts=0 puts silence where the sound starts later than the picture; async=1 where packets are missing.
    command += ["-af", f"aresample={SAMPLE_RATE}:async=1:first_pts=0", "-ac", "1", "-f", "f32le", "pipe:1"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    samples = np.frombuffer(result.stdout[: len(result.stdout) // 4 * 4], np.float32).copy()
    if not samples.size or not np.isfinite(samples).all():
        raise InputError(f"the sound of {path} can't be decoded: export the video again with AAC sound.")
    if np.abs(samples).max() < SILENCE_PEAK:
        where = f" between {trim[0]:g} and {trim[1]:g} s" if trim else ""
        raise InputError(f"the sound of {path} is silent{where}: use a video in which speech can be heard.")
    return samples
