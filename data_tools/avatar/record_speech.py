"""Synthesizes the avatar's recordings with espeak-ng: speech and phoneme times of every voice in `speech/script.json`.

espeak-ng (GPL-3.0) is loaded from the optional package espeakng-loader by this module alone; its output is not covered by its license
and is in the repository, so nothing else needs the package. Room noise and a different loudness per voice are added, so that no model
learns digital silence.
"""

import ctypes
import json
import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
import soundfile

from data_tools.audio.sound import SAMPLE_RATE, save_wav
from data_tools.avatar.speakers import SPEECH_FOLDER
from data_tools.errors import InputError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.4
"""Silence before, between and after sentences."""

COMPRESSION = 0.8
"""Vorbis compression level: 0 = best, 1 = smallest. At 0.8 a minute takes 240 kB, and the log-mel of loud frames changes by 1 dB."""

_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _UTF8 = 2, 1, 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """Wrapper of espeak-ng's C API."""

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError as error:
            raise InputError("The package espeakng-loader is missing: run `pip install espeakng-loader`.") from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        flags = _PHONEME_EVENTS | _PHONEME_IPA
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), flags)
        self._pcm: list[np.ndarray] = []
        self._phonemes: list[tuple[float, str]] = []
        # ctypes does not keep callbacks alive: the reference must be held here.
        self._callback = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave, n_samples, events) -> int:
        if n_samples > 0:
            self._pcm.append(np.ctypeslib.as_array(wave, (n_samples,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                self._phonemes.append((events[i].audio_position / 1000.0, events[i].id.string.decode("utf-8", "ignore")))
            i += 1
        return 0

    def set_voice(self, name: str, rate: int, pitch: int, pitch_range: int) -> None:
        """Selects a voice such as `en-us+m3`; rate in words per minute, pitch and range 0..100."""
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {name}: choose one that `espeak-ng --voices` lists.")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def speak(self, text: str) -> tuple[np.ndarray, list[tuple[float, str]]]:
        """Returns [n] float32 samples at `self.sample_rate` and (start in s, IPA) of each phoneme; "" is a pause."""
        self._pcm.clear()
        self._phonemes.clear()
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._pcm).astype(np.float32) / 32768.0, list(self._phonemes)


def record(espeak: Espeak, voice: dict, texts: list[str]) -> tuple[np.ndarray, dict]:
    """Synthesizes sentences in sequence: [n] samples at 16 kHz, and the content of the recording's JSON file."""
    espeak.set_voice(voice["voice"], voice["rate"], voice["pitch"], voice["range"])
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts, sentences, phonemes, position = [pause], [], [], PAUSE_SECONDS
    for text in texts:
        samples, events = espeak.speak(text)
        samples = librosa.resample(samples, orig_sr=espeak.sample_rate, target_sr=SAMPLE_RATE)
        # espeak ends a sentence with up to a second of silence, which PAUSE_SECONDS replaces.
        last = np.flatnonzero(np.abs(samples) > 1e-3)[-1] + 1
        samples, end = samples[:last], last / SAMPLE_RATE
        starts = [min(start, end) for start, _ in events] + [end]
        for (_, ipa), start, stop in zip(events, starts[:-1], starts[1:], strict=True):
            # Events such as "(en)" mark a language switch, not a phoneme.
            if ipa and stop > start and not ipa.startswith("("):
                phonemes.append([round(position + start, 3), round(position + stop, 3), ipa])
        sentences.append({"text": text, "start": round(position, 3), "end": round(position + end, 3)})
        parts += [samples, pause]
        position += (len(samples) + len(pause)) / SAMPLE_RATE
    times = {"voice": voice["voice"], "split": voice["split"], "sentences": sentences, "phonemes": phonemes}
    return _add_room_noise(np.concatenate(parts), voice["name"]), times


def _save_ogg(path: Path, samples: np.ndarray) -> None:
    """Writes Vorbis in blocks of ten seconds: libsndfile keeps a call's data on its stack, which two minutes overflow."""
    options = {"format": "OGG", "subtype": "VORBIS", "compression_level": COMPRESSION}
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, channels=1, **options) as file:
        for start in range(0, len(samples), 10 * SAMPLE_RATE):
            file.write(samples[start : start + 10 * SAMPLE_RATE])


def _add_room_noise(samples: np.ndarray, name: str) -> np.ndarray:
    """Adds approximately pink noise 50 dB below the speech and sets the voice's loudness; the name is the random seed."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    loudness = generator.uniform(0.06, 0.12) / np.sqrt(np.mean(samples**2))
    samples = samples * min(loudness, 0.9 / np.abs(samples).max())
    spectrum = np.fft.rfft(generator.standard_normal(len(samples)))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(len(samples), 1.0 / SAMPLE_RATE), 50.0))
    noise = np.fft.irfft(spectrum, len(samples))
    level = np.sqrt(np.mean(samples**2)) * 10.0 ** (-50.0 / 20.0)
    return (samples + noise * level / noise.std()).astype(np.float32)


def record_voices(out: str | os.PathLike | None = None, only: Sequence[str] = ()) -> Path:
    """Records every voice, and the demo person's held-out and unseen sentences.

    Args:
      out: folder of the recordings; the avatar's own, `SPEECH_FOLDER`, when None.
      only: names of voices; all when empty.

    Returns:
      The folder.

    Raises:
      InputError: the package espeakng-loader is missing, or `script.json` has no such voice.
    """
    out = SPEECH_FOLDER if out is None else Path(out)
    script = json.loads((SPEECH_FOLDER / "script.json").read_text(encoding="utf-8"))
    known = [voice["name"] for voice in script["voices"]]
    if unknown := [name for name in only if name not in known]:
        raise InputError(f"The avatar has no voice {unknown[0]!r}: choose from {', '.join(known)}.")
    espeak = Espeak()
    out.mkdir(parents=True, exist_ok=True)
    for voice in script["voices"]:
        if only and voice["name"] not in only:
            continue
        texts = script["texts"][voice["texts"]]
        chosen = [texts[(voice["first"] + i) % len(texts)] for i in range(voice["sentences"])]
        recordings = [(voice["name"], chosen)]
        if voice["split"] == "demo":
            recordings += [(f"{voice['name']}_{part}", script["texts"][f"demo_{part}"]) for part in ("heldout", "unseen")]
        for name, spoken in recordings:
            samples, times = record(espeak, voice, spoken)
            if name.endswith("_heldout"):
                save_wav(out / f"{name}.wav", samples)
            else:
                _save_ogg(out / f"{name}.ogg", samples)
            (out / f"{name}.json").write_text(json.dumps(times, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
            n_phonemes = len(times["phonemes"])
            logger.info("%s: %.1f s, %d sentences, %d phonemes", name, len(samples) / SAMPLE_RATE, len(spoken), n_phonemes)
    return out
