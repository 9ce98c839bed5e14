"""The committed recordings: samples, phonemes and sentences of each voice, cut to whole video frames."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from data_tools.audio.features import FPS, n_frames_of
from data_tools.audio.load import SAMPLE_RATE
from data_tools.errors import InputError

SPEECH_FOLDER = Path(__file__).with_name("speech")
SENTENCE_MARGIN = 0.28
"""Seconds of silence kept on both sides of a sentence, less than the pause between two of them."""


@dataclass(frozen=True)
class Phoneme:
    """One sound: start and end in seconds from the start of its clip, and its IPA symbol."""

    start: float
    end: float
    ipa: str


@dataclass(frozen=True)
class SpeechClip:
    """A stretch of one voice.

    `samples` is [n] float32 at 16 kHz with n a whole number of video frames (640 samples each).
    """

    name: str
    speaker: str
    samples: np.ndarray
    phonemes: tuple[Phoneme, ...]
    text: str

    @property
    def n_frames(self) -> int:
        """T, video frames at 25 per second."""
        return n_frames_of(self.samples)


@functools.cache
def _script() -> list[dict]:
    return json.loads((SPEECH_FOLDER / "script.json").read_text(encoding="utf-8"))["voices"]


def voices() -> dict[str, str]:
    """Speaker -> split: "train" or "val" (held-out speaker) of the corpus, or "demo" (the demo person, in no corpus)."""
    return {voice["name"]: voice["split"] for voice in _script()}


def look(speaker: str) -> dict[str, float]:
    """Fields of `speakers.Speaker` that the script fixes for a speaker instead of leaving them to chance; often none."""
    return next((dict(voice.get("look", {})) for voice in _script() if voice["name"] == speaker), {})


def recording(name: str) -> SpeechClip:
    """A whole recording: a speaker's name, or `demo_heldout` and `demo_unseen`, what the demo person never says in training.

    Raises:
      InputError: there is no such recording.
    """
    files = [SPEECH_FOLDER / f"{name}{suffix}" for suffix in (".ogg", ".wav")]
    found = [file for file in files if file.is_file()]
    if not found:
        raise InputError(f"The avatar has no recording {name!r}: choose one of {', '.join([*voices(), 'demo_heldout', 'demo_unseen'])}.")
    samples, rate = soundfile.read(found[0], dtype="float32")
    if rate != SAMPLE_RATE:
        raise InputError(f"{found[0]} has {rate} Hz, not {SAMPLE_RATE}: make it again with data_tools.avatar.record_speech.")
    times = json.loads((SPEECH_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    phonemes = tuple(Phoneme(*entry) for entry in times["phonemes"])
    samples = samples[: n_frames_of(samples) * SAMPLE_RATE // FPS]
    return SpeechClip(name, name.split("_")[0], samples, phonemes, " ".join(s["text"] for s in times["sentences"]))


def sentence_clips(speaker: str) -> list[SpeechClip]:
    """One clip per sentence of a speaker's recording, with a little silence around it, named `<speaker>_00`, `<speaker>_01`, ..."""
    whole = recording(speaker)
    times = json.loads((SPEECH_FOLDER / f"{speaker}.json").read_text(encoding="utf-8"))
    clips = []
    for i, sentence in enumerate(times["sentences"]):
        cut = excerpt(whole, sentence["start"] - SENTENCE_MARGIN, sentence["end"] + SENTENCE_MARGIN)
        clips.append(SpeechClip(f"{speaker}_{i:02d}", speaker, cut.samples, cut.phonemes, sentence["text"]))
    return clips


def excerpt(clip: SpeechClip, start: float, end: float) -> SpeechClip:
    """The frames of `clip` that touch [start, end) seconds; phoneme times count from the new start."""
    first = max(int(start * FPS), 0)
    last = min(int(np.ceil(end * FPS)), clip.n_frames)
    offset = first / FPS
    samples = clip.samples[first * SAMPLE_RATE // FPS : last * SAMPLE_RATE // FPS]
    inside = (p for p in clip.phonemes if p.end > offset and p.start < last / FPS)
    phonemes = tuple(Phoneme(p.start - offset, p.end - offset, p.ipa) for p in inside)
    return SpeechClip(clip.name, clip.speaker, samples, phonemes, clip.text)
