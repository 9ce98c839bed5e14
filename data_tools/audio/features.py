"""Audio features `mel_f0`: log-mel spectrogram and fundamental frequency at 50 frames a second, cached on disk by content."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np

from data_tools.audio.load import SAMPLE_RATE

# -------- Log-mel spectrogram and f0
#
# Timing: audio frame a covers its hop, samples [320 a, 320 (a + 1)), and its windows are centered on the middle of that hop, at
# a / 50 s + 10 ms. Video frame i covers [i / 25, (i + 1) / 25) s and therefore exactly the audio frames 2i and 2i + 1, without any shift.
# (GeneFace's mel uses unpadded windows, whose centers are at a / 50 s + 16 ms.)

FPS = 25
HOP = 320
N_FFT = 512
N_MELS = 80
MEL_RANGE_HZ = (80.0, 7600.0)
MEL_FLOOR = 1e-6
F0_RANGE_HZ = (80.0, 750.0)

F0_WINDOW = 1024
"""Samples (64 ms), slightly more than five periods at 80 Hz; YIN compares its two halves."""

PERIODICITY = 0.6
"""Smallest autocorrelation at one period of a voiced frame; Praat's voicing threshold has the same value."""

ENERGY_BELOW_LOUD_DB = 35.0
"""Largest level difference of a voiced frame to the recording's loud frames (their 95th percentile)."""

ENERGY_FLOOR_DB = -60.0
"""Smallest level of a voiced frame relative to full scale, so that a recording of pure noise has no pitch."""


def n_frames_of(samples: np.ndarray) -> int:
    """Number of complete video frames in [n] samples at 16 kHz: n * 25 // 16000."""
    return len(samples) * FPS // SAMPLE_RATE


def mel_f0(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of a recording.

    Args:
      samples: [n] float, 16 kHz, mono, about -1..1; zero-padded to a multiple of the hop.

    Returns:
      mel: [A, 80] float32, log10 of the mel magnitude (Slaney filters, 80 to 7600 Hz), >= -6. A = ceil(n / 320).
      f0: [A] float32 in Hz, 0 where the frame is unvoiced, else 80..750.
    """
    samples = np.asarray(samples, np.float32)
    n_audio_frames = -(-len(samples) // HOP)
    samples = np.pad(samples, (0, n_audio_frames * HOP - len(samples)))
    if n_audio_frames == 0:
        return np.zeros((0, N_MELS), np.float32), np.zeros(0, np.float32)
    return _log_mel(samples), _fundamental(samples)


def features_for_frames(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of exactly `n_frames` video frames: the recording's end is cut or padded with silence.

    Returns:
      mel [2 * n_frames, 80] and f0 [2 * n_frames] as from `mel_f0`; video frame i has rows 2i and 2i + 1.
    """
    n_samples = n_frames * SAMPLE_RATE // FPS
    samples = np.asarray(samples, np.float32)[:n_samples]
    return mel_f0(np.pad(samples, (0, n_samples - len(samples))))


@dataclasses.dataclass(frozen=True)
class AudioFeatures:
    """A type of audio features, passed to the data tools so that they do not depend on its network.

    Attributes:
      name: `audio_model` of meta.json.
      compute: (samples [n] at 16 kHz, number of video frames T) -> (features [2T, C] float32, f0 [2T] in Hz, 0 = unvoiced).
      weights: fingerprint of the network's weights; "" without a network.
    """

    name: str
    compute: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    weights: str = ""

    @property
    def recipe(self) -> str:
        """Identifies everything except the audio that the values depend on."""
        return f"{self.name}:{self.weights}" if self.weights else self.name


MEL_F0 = AudioFeatures("mel_f0", features_for_frames)


@functools.cache
def _mel_filters() -> np.ndarray:
    """[80, 257] float32, librosa's default (Slaney) mel filter bank."""
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS, fmin=MEL_RANGE_HZ[0], fmax=MEL_RANGE_HZ[1])


def _windows(samples: np.ndarray, length: int) -> np.ndarray:
    """[A, length] windows centered on the middle of each hop, zeros outside the recording."""
    margin = (length - HOP) // 2
    return np.lib.stride_tricks.sliding_window_view(np.pad(samples, margin), length)[::HOP]


def _log_mel(samples: np.ndarray) -> np.ndarray:
    margin = (N_FFT - HOP) // 2
    spectrum = librosa.stft(np.pad(samples, margin), n_fft=N_FFT, hop_length=HOP, window="hann", center=False)
    return np.log10(np.maximum(_mel_filters() @ np.abs(spectrum), MEL_FLOOR)).T.astype(np.float32)


def _fundamental(samples: np.ndarray) -> np.ndarray:
    margin = (F0_WINDOW - HOP) // 2
    low, high = F0_RANGE_HZ
    f0 = librosa.yin(np.pad(samples, margin), fmin=low, fmax=high, sr=SAMPLE_RATE, frame_length=F0_WINDOW, hop_length=HOP, center=False)
    windows = _windows(samples, F0_WINDOW)
    voiced = (_periodicity(windows, SAMPLE_RATE / f0) >= PERIODICITY) & _loud_enough(windows)
    return np.where(voiced, np.clip(f0, low, high), 0.0).astype(np.float32)


def _periodicity(windows: np.ndarray, period: np.ndarray) -> np.ndarray:
    """[A] normalized autocorrelation of each window at a lag of one period (in samples, [A]), -1..1."""
    period = np.round(period).astype(np.int64)
    n_compared = F0_WINDOW - int(SAMPLE_RATE / F0_RANGE_HZ[0]) - 1
    shifted = np.take_along_axis(windows, period[:, None] + np.arange(n_compared)[None], axis=1)
    start = windows[:, :n_compared]
    power = np.sum(start**2, axis=1) * np.sum(shifted**2, axis=1)
    return np.sum(start * shifted, axis=1) / np.sqrt(np.maximum(power, 1e-12))


def _loud_enough(windows: np.ndarray) -> np.ndarray:
    """[A] bool: the middle of the window is loud relative to the recording and to full scale."""
    middle = windows[:, (F0_WINDOW - HOP) // 2 : (F0_WINDOW + HOP) // 2]
    level_db = 10.0 * np.log10(np.mean(middle**2, axis=1) + 1e-12)
    return level_db > max(np.percentile(level_db, 95) - ENERGY_BELOW_LOUD_DB, ENERGY_FLOOR_DB)


# -------- Content-addressed cache on disk, so that HuBERT processes a recording once
#
# The key is a hash of the samples, the number of frames and `AudioFeatures.recipe`, so another trim, network or an edited file is a cache
# miss. The folder may be deleted at any time. `GENEFACE_FEATURE_CACHE=off` switches the cache off.

VERSION = 1
"""To be increased when a change of the code changes the values of a feature."""

MAX_BYTES = 2 * 1024**3
"""Size above which the oldest files are removed: an hour of HuBERT features is 0.7 GB."""


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/geneface_jax/features`, by default `~/.cache/geneface_jax/features`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "geneface_jax" / "features"


def cached(audio: AudioFeatures) -> AudioFeatures:
    """`audio` with `compute` reading from and writing to the cache."""
    if os.environ.get("GENEFACE_FEATURE_CACHE") == "off":
        return audio

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        path = cache_folder() / f"{content_key(audio, samples, n_frames)}.npz"
        if (stored := _read(path)) is not None:
            return stored
        features, f0 = audio.compute(samples, n_frames)
        features, f0 = features.astype(np.float32), f0.astype(np.float32)
        # The features are valid even if they can't be cached (full or read-only home).
        with contextlib.suppress(OSError):
            _write(path, features, f0)
            _prune(path.parent)
        return features, f0

    return dataclasses.replace(audio, compute=compute)


def content_key(audio: AudioFeatures, samples: np.ndarray, n_frames: int) -> str:
    """Cache key, 32 hex digits."""
    digest = hashlib.sha256(f"{VERSION}\0{audio.recipe}\0{n_frames}\0".encode())
    digest.update(np.ascontiguousarray(samples, np.float32).tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["features"], archive["f0"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, features: np.ndarray, f0: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(temporary, features=features, f0=f0)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Removes the oldest files until the rest fits `MAX_BYTES`."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
