"""Reading speech from any audio or video file, and writing 16-bit wav files."""

from __future__ import annotations

import os
import subprocess
import wave
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, input_arguments

SAMPLE_RATE = 16000
"""Hz; everything after decoding works at this rate."""

SILENCE_PEAK = 1e-4
"""A recording that never gets louder than this (full scale 1) holds no speech: it is below one third of a 16-bit step's dither."""

_TO_MONO = "aresample=ochl=mono:rematrix_maxval=1.0"
"""ffmpeg's own downmix of stereo adds 3 dB and may clip; this one averages."""


def load_audio(path: str | os.PathLike, sample_rate: int = SAMPLE_RATE, min_seconds: float = 0.0) -> np.ndarray:
    """Decodes the first audio stream of any audio or video file to mono.

    Args:
      path: file in any container and codec ffmpeg reads.
      sample_rate: rate of the result in Hz.
      min_seconds: shortest length accepted.

    Returns:
      [n] float32 in about -1..1, channels averaged.

    Raises:
      InputError: the file is missing or empty, is no media file, has no audio stream, is silent, or is shorter than `min_seconds`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the spelling of the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or record it again.")
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *input_arguments(path)]
    command += ["-map", "0:a:0", "-vn", "-af", _TO_MONO, "-ar", str(sample_rate), "-f", "f32le", "pipe:1"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    samples = np.frombuffer(result.stdout[: len(result.stdout) // 4 * 4], np.float32).copy()
    if not samples.size:
        raise InputError(_why_no_samples(path, result.stderr.decode("utf-8", "replace")))
    if not np.isfinite(samples).all():
        raise InputError(f"The sound of {path} holds values that are not numbers: export it again as 16-bit wav.")
    if np.abs(samples).max() < SILENCE_PEAK:
        raise InputError(f"The sound of {path} is silent (peak below {SILENCE_PEAK:g} of full scale): choose a recording with speech.")
    if samples.size < min_seconds * sample_rate:
        raise InputError(
            f"The sound of {path} lasts {samples.size / sample_rate:.2f} s, less than the {min_seconds:g} s needed: use a longer recording."
        )
    return samples


def _why_no_samples(path: Path, messages: str) -> str:
    """The sentence for a file that gave no sample, from what ffmpeg said about it."""
    if "matches no streams" in messages:
        return f"{path} has no audio stream: use a file with sound, or put the sound into it first."
    if not messages.strip():
        return f"The audio stream of {path} is empty: record or export it again."
    return f"{path} is not an audio or video file that ffmpeg can read: convert it to wav, mp3 or mp4 first."


def save_wav(path: str | os.PathLike, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Writes [n] mono samples (-1..1, clipped) as a 16-bit wav, under a temporary name and then renamed."""
    path = Path(path)
    pcm = np.round(np.clip(np.asarray(samples, np.float64), -1.0, 1.0) * 32767.0).astype("<i2")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream, wave.open(stream, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(sample_rate)
            writer.writeframes(pcm.tobytes())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
