"""Sound: decoding to 16 kHz mono, loudness and silence, log-mel and f0 features (`mel_f0`) with a cache."""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import subprocess
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
from scipy.signal import lfilter

from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, input_arguments

# -------- Reading speech from any audio or video file, and writing 16-bit wav files

SAMPLE_RATE = 16000
"""Hz, of all audio after decoding."""

SILENCE_PEAK = 1e-4
"""Peak (full scale 1) below which a recording counts as silent; about three steps of 16-bit audio."""

_TO_MONO = "aresample=ochl=mono:rematrix_maxval=1.0"
"""Averages the channels; ffmpeg's default stereo downmix adds 3 dB and may clip."""


def load_audio(path: str | os.PathLike, sample_rate: int = SAMPLE_RATE, min_seconds: float = 0.0) -> np.ndarray:
    """Decodes the first audio stream of any audio or video file to mono.

    Args:
      path: file in any container and codec that ffmpeg supports.
      sample_rate: of the result, in Hz.
      min_seconds: shortest accepted length.

    Returns:
      [n] float32 in about -1..1, channels averaged.

    Raises:
      InputError: the file is missing, empty or not a media file, has no audio stream, is silent, or is shorter than `min_seconds`.
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
    check_samples(samples, f"The audio of {path}", sample_rate, min_seconds)
    return samples


def check_samples(samples: np.ndarray, name: str, sample_rate: int = SAMPLE_RATE, min_seconds: float = 0.0) -> None:
    """Checks decoded audio.

    Args:
      samples: mono, full scale is -1..1.
      name: what the sentence calls it.
      sample_rate: in Hz.
      min_seconds: shortest accepted length.

    Raises:
      InputError: not [n] floating-point numbers, not finite, silent, or shorter than `min_seconds`.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"{name} is an array of {samples.dtype} of shape {samples.shape}: give one channel of floating-point numbers from -1 to 1."
        )
    if not np.isfinite(samples).all():
        raise InputError(f"{name} has values that are not finite: export it again as 16-bit wav.")
    if not samples.size or np.abs(samples).max() < SILENCE_PEAK:
        raise InputError(f"{name} is silent (peak below {SILENCE_PEAK:g} of full scale): choose a recording with speech.")
    if samples.size < min_seconds * sample_rate:
        raise InputError(f"{name} lasts {samples.size / sample_rate:.2f} s and {min_seconds:g} s are needed: use a longer recording.")


def _why_no_samples(path: Path, messages: str) -> str:
    """The error sentence for a file without samples, from ffmpeg's messages."""
    if "matches no streams" in messages:
        return f"{path} has no audio stream: use a file with audio, or add an audio track to it."
    if not messages.strip():
        return f"The audio stream of {path} is empty: record or export it again."
    return f"{path} is not an audio or video file that ffmpeg can read: convert it to wav, mp3 or mp4 first."


def save_wav(path: str | os.PathLike, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Writes [n] mono samples (-1..1, clipped) as a 16-bit wav file, atomically."""
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


# -------- Level measurement: loudness (ITU-R BS.1770-4), clipping, silence and background noise

BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1
"""Length and hop of the loudness blocks (BS.1770-4: 400 ms with 75 % overlap)."""

ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
"""Gates of the loudness blocks: in LUFS, and in LU relative to the mean of the blocks above the first gate (BS.1770-4)."""

CLIPPED = 0.99
"""Amplitude from which on a sample counts as clipped; below 1 because resampling changes clipped samples in both directions."""

FRAME_SECONDS = 0.04
"""Silence is measured in frames as long as a video frame."""

SILENCE_BELOW_LOUD_DB, SILENCE_FLOOR_DB = 35.0, -60.0
"""A frame is silent this far below the recording's loud frames (their 95th percentile), or below this level."""


@dataclasses.dataclass(frozen=True)
class SoundLevel:
    """Level of a recording.

    Attributes:
      loudness: LUFS (integrated, gated); -inf for silence. Web speech is produced at -16 to -23.
      peak: dBFS, largest sample.
      clipped: fraction of the samples at full scale, 0..1.
      silent: fraction of the recording in pauses, 0..1.
      longest_pause: seconds.
      noise: dBFS, level of the quietest tenth: the background noise.
    """

    loudness: float
    peak: float
    clipped: float
    silent: float
    longest_pause: float
    noise: float


def measure_level(samples: np.ndarray, sample_rate: int) -> SoundLevel:
    """Measures a recording: [n] float samples, mono, full scale 1."""
    samples = np.asarray(samples, np.float64)
    level = frame_levels(samples, sample_rate)
    quiet = level < max(np.percentile(level, 95) - SILENCE_BELOW_LOUD_DB, SILENCE_FLOOR_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]]))).reshape(-1, 2)
    return SoundLevel(
        loudness=loudness(samples, sample_rate),
        peak=_decibels(np.abs(samples).max(initial=0.0) ** 2),
        clipped=float(np.mean(np.abs(samples) >= CLIPPED)) if len(samples) else 0.0,
        silent=float(quiet.mean()),
        longest_pause=float((edges[:, 1] - edges[:, 0]).max(initial=0) * FRAME_SECONDS),
        noise=float(np.percentile(level, 10)),
    )


def frame_levels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """[n] samples -> [T] RMS level in dBFS of each frame of `FRAME_SECONDS`; an incomplete last frame is dropped unless it is the first."""
    length = round(FRAME_SECONDS * sample_rate)
    count = max(len(samples) // length, 1)
    padded = np.pad(samples, (0, max(length - len(samples), 0)))[: count * length]
    return 10.0 * np.log10(np.mean(padded.reshape(count, length) ** 2, axis=1) + 1e-12)


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of mono samples in LUFS (BS.1770-4); -inf if no block exceeds the absolute gate."""
    weighted = k_weighted(np.asarray(samples, np.float64), sample_rate)
    length, step = round(BLOCK_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    if len(weighted) < length:
        weighted = np.pad(weighted, (0, length - len(weighted)))
    energy = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(weighted) - length + 1, step)
    power = (energy[starts + length] - energy[starts]) / length
    power = power[_lufs(power) > ABSOLUTE_GATE]
    if not len(power):
        return -math.inf
    power = power[_lufs(power) > _lufs(power.mean()) + RELATIVE_GATE]
    return float(_lufs(power.mean()))


def k_weighted(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """K-weighting filter of BS.1770 (high shelf, then high pass), designed for any sample rate."""
    # High shelf: +4 dB above 1.7 kHz. The constants are the analog prototype of the standard's 48 kHz coefficients.
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    gain, q = 10.0 ** (3.999843853973347 / 20.0), 0.7071752369554196
    boost = gain**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = [(gain + boost * k / q + k * k) / a0, 2.0 * (k * k - gain) / a0, (gain - boost * k / q + k * k) / a0]
    samples = lfilter(shelf, [1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0], samples)
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    a0 = 1.0 + k / q + k * k
    return lfilter([1.0, -2.0, 1.0], [1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0], samples)


def _lufs(power: np.ndarray | float) -> np.ndarray:
    return -0.691 + 10.0 * np.log10(np.maximum(power, 1e-15))


def _decibels(power: float) -> float:
    return float(10.0 * np.log10(max(power, 1e-12)))


# -------- Log-mel spectrogram and f0
#
# Timing: audio frame a covers its hop, samples [320 a, 320 (a + 1)), and its windows are centered on the middle of that hop, at
# a / 50 s + 10 ms. Video frame i covers [i / 25, (i + 1) / 25) s and therefore exactly the audio frames 2i and 2i + 1, without any shift.
# (GeneFace's mel uses unpadded windows, whose centers are at a / 50 s + 16 ms.)

FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
"""Audio samples of one video frame."""
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
