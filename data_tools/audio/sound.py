"""Sound: decoding to 16 kHz mono, log-mel and f0 features (`mel_f0`) with a cache."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import math
import os
import re
import wave
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np

from data_tools.audio.level import loudness
from data_tools.errors import InputError
from data_tools.ffmpeg import Media, Process, describe, first_complaint, input_arguments, patience_for
from data_tools.io import atomic_path, read_npz

logger = logging.getLogger(__name__)

# -------- Reading speech from any audio or video file, and writing 16-bit wav files

SAMPLE_RATE = 16000
"""Hz, of all audio after decoding."""

SILENCE_PEAK = 1e-4
"""Peak (full scale 1) below which a recording counts as silent; about three steps of 16-bit audio."""

LOUDEST = 10.0
"""Largest sample of a recording whose scale (full scale 1) is believed: decoders overshoot by half, other scales by far more."""

QUIET_LUFS = -50.0
"""Loudness below which the predicted lips hardly move; speech is recorded at -40 and above."""

MAX_SECONDS = 3 * 3600.0
"""Longest recording that is decoded, 0.7 GB of memory: a file of 100 kB can hold days of silence."""

MAX_TRACKS = 16
"""Tracks in which sound is looked for."""

CANCELED = 0.1
"""Channels cancel each other out if their mean has less than this share of their mean power: a correlation below -0.8."""

_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class SoundTrack:
    """The sound of a media file: one of its tracks.

    Attributes:
      path: the file.
      index: of the track among the file's audio tracks, from 0.
      channel: 0 or 1 if that channel alone is used, because the two cancel each other out.
      picture: whether the file has a picture too.
    """

    path: Path
    index: int = 0
    channel: int | None = None
    picture: bool = False

    def clock(self, number: int = 0) -> list[str]:
        """A second output that makes ffmpeg count from the start of the whole file, its input `number`: for some formats (mpegts), new
        versions count from the start of the streams that are used."""
        return ["-map", f"{number}:V:0", "-c", "copy", "-f", "null", os.devnull] if self.picture else []

    def filters(self, sample_rate: int, max_samples: int, layout: str = "") -> list[str]:
        """ffmpeg's filters that put its samples where their timestamps say: silence before late sound and in gaps.

        The clock is bounded too, because ffmpeg fills a gap in its memory. No more than `max_samples` are decoded, whatever the
        timestamps say; filling gaps can double them. `layout` is "mono", "stereo" or "" for the track's own.
        """
        one = [] if self.channel is None else [f"pan=mono|c0=c{self.channel}"]
        mixed = [f"aformat=channel_layouts={layout}"] if layout else []
        bounds = [f"atrim=end_sample={max_samples}", f"asetpts=min(PTS\\,{max_samples})"]
        # rematrix_maxval averages the channels; ffmpeg's default stereo downmix adds 3 dB and may clip.
        return [*one, f"aresample={sample_rate}:rematrix_maxval=1.0", *mixed, *bounds, "aresample=async=1:first_pts=0"]


def load_audio(
    path: str | os.PathLike,
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = 0.0,
    *,
    max_seconds: float = MAX_SECONDS,
    track: int | None = None,
) -> np.ndarray:
    """Decodes the sound of any audio or video file to mono; arguments and errors are those of `load_track`.

    Returns:
      [n] float32 in about -1..1, channels averaged. Sample 0 is at the start of the file: sound that begins late is preceded by silence.
    """
    return load_track(path, sample_rate, min_seconds, max_seconds=max_seconds, track=track)[0]


def load_track(
    path: str | os.PathLike,
    sample_rate: int = SAMPLE_RATE,
    min_seconds: float = 0.0,
    *,
    span: tuple[float, float] | None = None,
    max_seconds: float = MAX_SECONDS,
    track: int | None = None,
) -> tuple[np.ndarray, SoundTrack]:
    """Decodes one track of any audio or video file to mono, by its timestamps.

    Args:
      path: file in any container and codec that ffmpeg supports.
      sample_rate: of the result, in Hz.
      min_seconds: shortest accepted length.
      span: seconds [a, b) of the file; None decodes all of it.
      max_seconds: longest accepted length. No more than that is decoded, whatever the file says.
      track: number of the track, from 1; None takes the first that is not silent.

    Returns:
      [n] float32 in about -1..1, channels averaged; and the track they are from.

    Raises:
      InputError: the file is missing, empty or not a media file, has no such track, is silent, shorter than `min_seconds`, longer than
        `max_seconds`, or holds values that are no sound.
    """
    path = _require_file(path)
    media = describe(path)
    samples, used, complaint = _first_sound(path, media, sample_rate, span, max_seconds, track)
    name = f"The audio of {path}" + (f" between {span[0]:g} and {span[1]:g} s" if span else "")
    if not samples.size:
        raise InputError(f"{name} is empty{f' ({complaint})' if complaint else ''}: record or export it again.")
    if samples.size > max_seconds * sample_rate:
        raise InputError(f"{name} is longer than {max_seconds:g} s: use a part of it.")
    check_samples(samples, name, sample_rate, min_seconds)
    _say_what_is_used(media, used, track)
    if span is None:
        _say_what_is_missing(path, media, samples.size / sample_rate, complaint)
    return samples, used


def find_sound(path: str | os.PathLike, track: int | None = None) -> SoundTrack:
    """The track that `load_track` would use, or the first if all are silent.

    Raises:
      InputError: the file is missing or not a media file, or has no such track.
    """
    path = _require_file(path)
    media = describe(path)
    sounds = _tracks(path, media, track)
    if len(sounds) == 1 and not _is_stereo(sounds[0][1]):
        return SoundTrack(path, sounds[0][0], picture=bool(media.of_kind("Video")))
    return _first_sound(path, media, SAMPLE_RATE, None, MAX_SECONDS, track)[1]


def _require_file(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file but a folder, a pipe or a device: give a file with sound.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the spelling of the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or record it again.")
    return path


def _tracks(path: Path, media: Media, track: int | None) -> list[tuple[int, str]]:
    """(index, description) of the tracks in question: all, or the one with the number `track`."""
    sounds = [stream.description for stream in media.of_kind("Audio")]
    if not sounds and media.streams:
        raise InputError(f"{path} has no audio stream: use a file with audio, or add an audio track to it.")
    if not sounds:
        why = first_complaint(media.messages, "it says no more")
        raise InputError(f"{path} is not an audio or video file that ffmpeg can read ({why}): convert it to wav, mp3 or mp4 first.")
    if track is None:
        return list(enumerate(sounds))[:MAX_TRACKS]
    if not 1 <= track <= len(sounds):
        raise InputError(f"{path} has no sound track {track}: give a number from 1 to {len(sounds)}.")
    return [(track - 1, sounds[track - 1])]


def _is_stereo(description: str) -> bool:
    return re.search(r", (stereo|2 channels)\b", description) is not None


def _first_sound(
    path: Path, media: Media, sample_rate: int, span: tuple[float, float] | None, max_seconds: float, track: int | None
) -> tuple[np.ndarray, SoundTrack, str]:
    """Samples of the first track that is not silent, that track, and ffmpeg's complaint or ""; the first track if all are silent."""
    first = None
    for index, description in _tracks(path, media, track):
        used = SoundTrack(path, index, picture=bool(media.of_kind("Video")))
        samples, channel, complaint = _decode(used, sample_rate, 2 if _is_stereo(description) else 1, span, max_seconds)
        if channel is not None:
            used = dataclasses.replace(used, channel=channel)
            samples, _, complaint = _decode(used, sample_rate, 1, span, max_seconds)
        if samples.size and not peak(samples) < SILENCE_PEAK:
            return samples, used, complaint
        first = first or (samples, used, complaint)
    return first


def _decode(
    track: SoundTrack, sample_rate: int, channels: int, span: tuple[float, float] | None, max_seconds: float
) -> tuple[np.ndarray, int | None, str]:
    """Decodes a track.

    Returns:
      [n] float32, the mean of its channels; the louder channel if the two cancel each other out, else None; ffmpeg's complaint or "".
      n is larger than max_seconds * sample_rate if the track is longer.
    """
    most = int(max_seconds * sample_rate) + 1
    seek = ["-ss", f"{span[0]:.3f}", "-t", f"{span[1] - span[0]:.3f}"] if span else []
    filters = track.filters(sample_rate, most, "stereo" if channels == 2 else "mono")
    command = [*seek, *input_arguments(track.path), "-map", f"0:a:{track.index}", "-vn"]
    command += ["-af", ",".join(filters), "-f", "f32le", "pipe:1", *track.clock()]
    # Memory of an empty array is taken when it is written, so a short recording does not pay for the longest one.
    mono, count, power, complaint = np.empty(most, np.float32), 0, np.zeros(3), ""
    with Process(command, patience=patience_for(track.path)) as process:
        while count < most and (chunk := process.read(_CHUNK_BYTES)):
            both = np.frombuffer(chunk[: len(chunk) // (4 * channels) * 4 * channels], np.float32).reshape(-1, channels)
            both = both[: most - count]
            mean = both.mean(axis=1, dtype=np.float32) if channels == 2 else both[:, 0]
            if channels == 2:
                with np.errstate(all="ignore"):  # absurd values are refused by `check_samples`
                    power += [np.square(part, dtype=np.float64).sum() for part in (both[:, 0], both[:, 1], mean)]
            mono[count : count + len(mean)] = mean
            count += len(mean)
        if count < most and not process.finish():
            complaint = process.complaint()
    mono.resize(count, refcheck=False)
    canceled = channels == 2 and np.isfinite(power).all() and power[2] < CANCELED * power[:2].mean()
    return mono, int(power[1] > power[0]) if canceled else None, complaint


def _say_what_is_missing(path: Path, media: Media, seconds: float, complaint: str) -> None:
    """Warns if the sound ends before the file's headers say so, or was not decoded to its end."""
    promised = 0.0 if media.guessed else media.seconds - max(media.start, 0.0)
    with contextlib.suppress(wave.Error, EOFError, OSError), wave.open(str(path), "rb") as header:
        # ffmpeg believes the size of a wav file, not its header. The largest size stands for one that was not known.
        if header.getnframes() * header.getsampwidth() * header.getnchannels() < 0x7FFFFF00:
            promised = header.getnframes() / max(header.getframerate(), 1)
    if seconds < 0.95 * promised - 0.5 or complaint:
        why = f" ({complaint})" if complaint else ""
        logger.warning(
            "%s says that it lasts %.1f s, but its sound ends after %.1f s%s: if that is too early, copy or record it again.",
            *(path, promised, seconds, why),
        )


def _say_what_is_used(media: Media, used: SoundTrack, track: int | None) -> None:
    count = len(media.of_kind("Audio"))
    if count > 1 and track is None:
        silent = f", since {'track 1 is' if used.index == 1 else 'the tracks before it are'} silent" if used.index else ""
        logger.warning("%s has %d sound tracks, and track %d is used%s.", used.path, count, used.index + 1, silent)
    if used.channel is not None:
        side = ("left", "right")[used.channel]
        logger.warning("The two channels of %s cancel each other out (opposite phase), so the %s one alone is used.", used.path, side)


def check_samples(samples: np.ndarray, name: str, sample_rate: int = SAMPLE_RATE, min_seconds: float = 0.0) -> None:
    """Checks decoded audio, and warns if it is very quiet.

    Args:
      samples: mono, full scale is -1..1.
      name: what the sentence calls it.
      sample_rate: in Hz.
      min_seconds: shortest accepted length.

    Raises:
      InputError: not [n] floating-point numbers, not finite, beyond `LOUDEST`, silent, or shorter than `min_seconds`.
    """
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"{name} is an array of {samples.dtype} of shape {samples.shape}: give one channel of floating-point numbers from -1 to 1."
        )
    highest = peak(samples)
    if not math.isfinite(highest):
        raise InputError(f"{name} has values that are not finite: export it again as 16-bit wav.")
    if highest > LOUDEST:
        raise InputError(
            f"{name} has values up to {highest:.3g} where full scale is 1: export it again as 16-bit wav, or divide the samples."
        )
    if highest < SILENCE_PEAK:
        raise InputError(f"{name} is silent (peak below {SILENCE_PEAK:g} of full scale): choose a recording with speech.")
    if samples.size < min_seconds * sample_rate:
        raise InputError(f"{name} lasts {samples.size / sample_rate:.2f} s and {min_seconds:g} s are needed: use a longer recording.")
    # The level is measured only if the peak allows it to be that low.
    if highest < 0.05 and (level := loudness(samples, sample_rate)) < QUIET_LUFS:
        logger.warning("%s is very quiet (%.0f LUFS), so the lips will hardly move: record it louder, or raise its volume.", name, level)


def peak(samples: np.ndarray) -> float:
    """Largest absolute value of [n] samples, without a copy of them; 0.0 of none, not finite if one of them is not."""
    return max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))


def save_wav(path: str | os.PathLike, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Writes [n] mono samples (-1..1, clipped) as a 16-bit wav file, atomically."""
    pcm = np.round(np.clip(np.asarray(samples, np.float64), -1.0, 1.0) * 32767.0).astype("<i2")
    with atomic_path(path) as temporary, open(temporary, "wb") as stream, wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(pcm.tobytes())


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
class Windows:
    """The grid of features that are made in windows of their own, in video frames.

    Features of a piece of a recording are those of the whole, if the piece begins at a multiple of `frames`, except for the first `past`
    and the last `future` frames of the piece.
    """

    frames: int
    past: int
    future: int


@dataclasses.dataclass(frozen=True)
class AudioFeatures:
    """A type of audio features, passed to the data tools so that they do not depend on its network.

    Attributes:
      name: `audio_model` of meta.json.
      compute: (samples [n] at 16 kHz, number of video frames T) -> (features [2T, C] float32, f0 [2T] in Hz, 0 = unvoiced).
      weights: fingerprint of the network's weights; "" without a network.
      windows: their grid; None if they have none.
    """

    name: str
    compute: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
    weights: str = ""
    windows: Windows | None = None

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
        arrays = read_npz(path, names=("features", "f0"))
    except (InputError, OSError):
        return None
    return arrays["features"], arrays["f0"]


def _write(path: Path, features: np.ndarray, f0: np.ndarray) -> None:
    with atomic_path(path, ".npz") as temporary:
        np.savez(temporary, features=features, f0=f0)


def _prune(folder: Path) -> None:
    """Removes the oldest files until the rest fits `MAX_BYTES`."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)
