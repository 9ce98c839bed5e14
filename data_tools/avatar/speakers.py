"""The avatar's speakers: appearance, recordings with phoneme times, and visemes with co-articulation."""

import functools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from data_tools.audio.sound import FPS, SAMPLE_RATE, n_frames_of
from data_tools.errors import InputError

# -------- Recordings

SPEECH_FOLDER = Path(__file__).with_name("speech")
SENTENCE_MARGIN = 0.28
"""Seconds of silence kept before and after a sentence; shorter than the pause between two sentences."""


@dataclass(frozen=True)
class Phoneme:
    """Start and end in seconds from the clip's start, and the IPA symbol."""

    start: float
    end: float
    ipa: str


@dataclass(frozen=True)
class SpeechClip:
    """Audio of one voice with its phonemes.

    `samples` is [n] float32 at 16 kHz; n is a multiple of 640, the samples of a video frame.
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
    """Speaker -> split: "train" or "val" (held-out speaker) of the corpus, or "demo" (the demo person, not in the corpus)."""
    return {voice["name"]: voice["split"] for voice in _script()}


def appearance_of(speaker: str) -> dict[str, float]:
    """Fields of `speakers.Speaker` that the script sets for a speaker instead of drawing them at random; often none."""
    return next((dict(voice.get("look", {})) for voice in _script() if voice["name"] == speaker), {})


def recording(name: str) -> SpeechClip:
    """A complete recording by speaker name, or `demo_heldout` and `demo_unseen`, sentences that the demo person's training data lacks.

    Raises:
      InputError: there is no such recording.
    """
    files = [SPEECH_FOLDER / f"{name}{suffix}" for suffix in (".ogg", ".wav")]
    found = [file for file in files if file.is_file()]
    if not found:
        raise InputError(f"The avatar has no recording {name!r}: choose one of {', '.join([*voices(), 'demo_heldout', 'demo_unseen'])}.")
    samples, rate = soundfile.read(found[0], dtype="float32")
    if rate != SAMPLE_RATE:
        raise InputError(f"{found[0]} has {rate} Hz, not {SAMPLE_RATE}: record it again with `geneface avatar record`.")
    times = json.loads((SPEECH_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    phonemes = tuple(Phoneme(*entry) for entry in times["phonemes"])
    samples = samples[: n_frames_of(samples) * SAMPLE_RATE // FPS]
    return SpeechClip(name, name.split("_")[0], samples, phonemes, " ".join(s["text"] for s in times["sentences"]))


def sentence_clips(speaker: str) -> list[SpeechClip]:
    """One clip per sentence of a speaker's recording, with `SENTENCE_MARGIN`, named `<speaker>_00`, `<speaker>_01`, ..."""
    complete = recording(speaker)
    times = json.loads((SPEECH_FOLDER / f"{speaker}.json").read_text(encoding="utf-8"))
    clips = []
    for i, sentence in enumerate(times["sentences"]):
        cut = excerpt(complete, sentence["start"] - SENTENCE_MARGIN, sentence["end"] + SENTENCE_MARGIN)
        clips.append(SpeechClip(f"{speaker}_{i:02d}", speaker, cut.samples, cut.phonemes, sentence["text"]))
    return clips


def excerpt(clip: SpeechClip, start: float, end: float) -> SpeechClip:
    """The frames of `clip` that overlap [start, end) seconds; phoneme times are relative to the new start."""
    first = max(int(start * FPS), 0)
    last = min(int(np.ceil(end * FPS)), clip.n_frames)
    offset = first / FPS
    samples = clip.samples[first * SAMPLE_RATE // FPS : last * SAMPLE_RATE // FPS]
    inside = (p for p in clip.phonemes if p.end > offset and p.start < last / FPS)
    phonemes = tuple(Phoneme(p.start - offset, p.end - offset, p.ipa) for p in inside)
    return SpeechClip(clip.name, clip.speaker, samples, phonemes, clip.text)


# -------- Visemes with co-articulation: phonemes with times -> mouth parameters per video frame
#
# Dominance functions (Cohen and Massaro, "Modeling coarticulation in synthetic visual speech", 1993): each phoneme pulls every parameter
# towards its target, value(t) = sum_p D_p(t) target_p / sum_p D_p(t), with D_p(t) = strength_p exp(-|t - p| / FADE) and |t - p| the
# distance to the middle half of the phoneme. A weak phoneme (k, h) takes the shape of its neighbors, a strong one (the rounding of w)
# imposes its own. Lip closure (p, b, m) and lower lip to the teeth (f, v) must happen whatever the neighbors are: they are pulses that
# override the blend.

PARAMETERS = ("jaw", "wide", "protrude", "upper", "lower", "tongue", "close", "tuck")
"""jaw: 0 closed to 1 wide open. wide: -1 narrow to 1 spread. protrude, upper (raised), lower (pulled down), tongue (tip raised): 0 to 1.
close: 1 = lips pressed together. tuck: 1 = lower lip against the upper teeth."""

FADE = 0.05
"""Time constant of a phoneme's dominance in seconds."""

PULSE_RAMP = 0.045
"""Seconds of a pulse's ramp on either side of its plateau."""

PULSE_PLATEAU = 0.044
"""Shortest plateau in seconds: longer than a video frame, so that at least one frame shows the lips closed."""

REST_GAP = 0.06
"""Shortest gap between two phonemes, in seconds, that is filled with `REST`."""

LOUDNESS_RANGE = (0.72, 1.15)
"""Factor on the jaw opening for the quietest and the loudest speech of a recording."""


@dataclass(frozen=True)
class Viseme:
    """Targets of one class of phonemes, and the strengths of its mouth opening and of its lip shape."""

    jaw: float
    wide: float = 0.0
    protrude: float = 0.0
    upper: float = 0.0
    lower: float = 0.0
    tongue: float = 0.0
    pulse: str = ""
    open_strength: float = 1.0
    lip_strength: float = 1.0


REST = Viseme(jaw=0.0, open_strength=1.2, lip_strength=0.8)

_CLASSES = {
    "pbm": Viseme(jaw=0.06, pulse="close", open_strength=0.9, lip_strength=0.2),
    "fv": Viseme(jaw=0.12, upper=0.35, pulse="tuck", open_strength=1.0, lip_strength=0.5),
    "β": Viseme(jaw=0.08, lower=0.05, open_strength=1.0, lip_strength=0.5),
    "θð": Viseme(jaw=0.22, wide=0.1, lower=0.3, tongue=1.0, open_strength=0.7, lip_strength=0.4),
    "tdnlɾɲʎ": Viseme(jaw=0.2, wide=0.1, upper=0.1, lower=0.25, tongue=0.75, open_strength=0.6, lip_strength=0.25),
    "szcɕ": Viseme(jaw=0.1, wide=0.35, upper=0.3, lower=0.45, tongue=0.3, open_strength=1.0, lip_strength=0.6),
    "ʃʒʐʂ": Viseme(jaw=0.14, wide=-0.45, protrude=0.65, upper=0.4, lower=0.5, open_strength=1.0, lip_strength=1.3),
    "kɡgŋxχqhçʔɣʁ": Viseme(jaw=0.26, lower=0.1, open_strength=0.35, lip_strength=0.1),
    "ɹr": Viseme(jaw=0.2, wide=-0.4, protrude=0.45, lower=0.2, open_strength=0.7, lip_strength=0.8),
    "wʍɥ": Viseme(jaw=0.1, wide=-0.95, protrude=0.95, open_strength=1.0, lip_strength=1.8),
    "jʝ": Viseme(jaw=0.16, wide=0.45, upper=0.1, lower=0.25, open_strength=0.7, lip_strength=0.6),
    "i": Viseme(jaw=0.2, wide=0.8, upper=0.2, lower=0.35),
    "ɪeᵻ": Viseme(jaw=0.34, wide=0.5, upper=0.15, lower=0.25),
    "ɛæ": Viseme(jaw=0.62, wide=0.45, upper=0.2, lower=0.2),
    "aɑʌɐ": Viseme(jaw=0.78, wide=0.05, upper=0.15, lower=0.1, open_strength=1.2),
    "ə": Viseme(jaw=0.36, open_strength=0.7, lip_strength=0.4),
    "ɜɚ": Viseme(jaw=0.36, wide=-0.25, protrude=0.25, lip_strength=0.7),
    "ɔɒ": Viseme(jaw=0.62, wide=-0.5, protrude=0.45, lip_strength=1.2),
    "o": Viseme(jaw=0.42, wide=-0.75, protrude=0.7, lip_strength=1.3),
    "uʊʉ": Viseme(jaw=0.22, wide=-0.9, protrude=0.9, lip_strength=1.4),
    "yʏøœ": Viseme(jaw=0.24, wide=-0.8, protrude=0.85, lip_strength=1.4),
}
VISEMES = {symbol: viseme for symbols, viseme in _CLASSES.items() for symbol in symbols}
"""IPA letter -> viseme. Diphthongs and affricates are split into letters; marks (stress, length, tone, aspiration) have no entry."""

_BLENDED = ("jaw", "wide", "protrude", "upper", "lower", "tongue")
_OPENING = np.array([name in ("jaw", "tongue") for name in _BLENDED])


def segments(phonemes: Sequence[Phoneme], duration: float) -> list[tuple[float, float, Viseme]]:
    """(start, end, viseme) in seconds, with rests before, between and after the phonemes; one of k letters is split into k parts."""
    result: list[tuple[float, float, Viseme]] = []
    position = -1.0
    for phoneme in phonemes:
        letters = [VISEMES[symbol] for symbol in phoneme.ipa if symbol in VISEMES]
        if not letters:
            continue
        if phoneme.start - position >= REST_GAP:
            result.append((position, phoneme.start, REST))
        edges = np.linspace(phoneme.start, phoneme.end, len(letters) + 1)
        result += [(float(a), float(b), viseme) for a, b, viseme in zip(edges[:-1], edges[1:], letters, strict=True)]
        position = phoneme.end
    result.append((position, max(duration, position) + 1.0, REST))
    return result


def frame_times(n_frames: int) -> np.ndarray:
    """[T] seconds: the middle of each video frame, which is also the middle of its two audio frames."""
    return (np.arange(n_frames) + 0.5) / FPS


def mouth_parameters(phonemes: Sequence[Phoneme], samples: np.ndarray, n_frames: int, expressiveness: float = 1.0) -> np.ndarray:
    """Mouth parameters of a clip.

    Args:
      phonemes: with times in seconds from the clip's start.
      samples: [n] audio at 16 kHz; louder speech opens the jaw more.
      n_frames: T.
      expressiveness: the speaker's factor on all parameters except pulses, about 0.8 to 1.2.

    Returns:
      [T, 8] float32 in the order of `PARAMETERS`.
    """
    times = frame_times(n_frames)
    spans = segments(phonemes, n_frames / FPS)
    start, end = (np.array([span[i] for span in spans]) for i in (0, 1))
    target = np.array([[getattr(span[2], name) for name in _BLENDED] for span in spans])
    strength = np.array([np.where(_OPENING, span[2].open_strength, span[2].lip_strength) for span in spans])
    inner = 0.25 * (end - start)
    distance = np.maximum(np.maximum(start + inner - times[:, None], times[:, None] - (end - inner)), 0.0)  # [T, P]
    fade = np.exp(-np.minimum(distance / FADE, 60.0))
    blended = expressiveness * (fade @ (strength * target)) / (fade @ strength)
    blended[:, 0] *= _loudness_factor(samples, n_frames)
    pulses = np.stack([_pulse(times, spans, name) for name in ("close", "tuck")], axis=1)
    low = np.where([name == "wide" for name in _BLENDED], -1.0, 0.0)
    return np.concatenate([np.clip(blended, low, 1.0), pulses], axis=1).astype(np.float32)


def _pulse(times: np.ndarray, spans: list[tuple[float, float, Viseme]], name: str) -> np.ndarray:
    """[T] 0..1: trapezoids with smooth ramps around every span whose viseme has this pulse."""
    value = np.zeros(len(times))
    for start, end, viseme in spans:
        if viseme.pulse == name:
            half = max(end - start, PULSE_PLATEAU) / 2.0
            outside = np.maximum(np.abs(times - (start + end) / 2.0) - half, 0.0)
            ramp = np.clip(1.0 - outside / PULSE_RAMP, 0.0, 1.0)
            value = np.maximum(value, ramp * ramp * (3.0 - 2.0 * ramp))
    return value


def _loudness_factor(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """[T] factor on the jaw: the frame's level relative to the recording's loud speech, smoothed over 5 frames."""
    hop = SAMPLE_RATE // FPS
    padded = np.pad(np.asarray(samples, np.float64)[: n_frames * hop], (0, max(n_frames * hop - len(samples), 0)))
    level = 20.0 * np.log10(np.sqrt(np.mean(padded.reshape(n_frames, hop) ** 2, axis=1)) + 1e-5)
    loud = np.percentile(level, 95)
    relative = np.clip((level - (loud - 25.0)) / 25.0, 0.0, 1.0)
    smooth = np.convolve(np.pad(relative, 2, mode="edge"), np.array([1, 2, 3, 2, 1]) / 9.0, mode="valid")
    return LOUDNESS_RANGE[0] + (LOUDNESS_RANGE[1] - LOUDNESS_RANGE[0]) * smooth


# -------- Speaker parameters, drawn from a generator seeded by the name


@dataclass(frozen=True)
class Speaker:
    """Parameters of one person. Proportions are factors around 1 or lengths in cm around 0; colors are sRGB 0..255."""

    name: str
    seed: int
    face_width: float
    face_height: float
    jaw_width: float
    chin_length: float
    cheek: float
    nose_width: float
    nose_length: float
    eye_size: float
    eye_spacing: float
    brow_height: float
    brow_weight: float
    lip_thickness: float
    mouth_width: float
    expressiveness: float
    hair_volume: float
    hair_length: float
    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    cloth: tuple[float, float, float]
    wall: tuple[float, float, float]


# Palettes; `make_speaker` picks an entry and varies it.
_SKINS = ((226, 178, 150), (236, 196, 172), (198, 146, 112), (150, 102, 74), (214, 166, 130), (112, 76, 58), (240, 205, 185))
_HAIRS = ((58, 40, 30), (32, 26, 26), (140, 96, 54), (92, 58, 36), (176, 138, 84), (110, 104, 100), (120, 52, 30))
_DARK_SKIN = 400.0
"""Sum of a skin's three channels below which only the first, dark entries of hair and iris are used."""
_N_DARK_HAIRS, _N_DARK_IRISES = 2, 1
_IRISES = ((88, 60, 36), (70, 104, 130), (92, 112, 76), (60, 44, 34))
_CLOTHS = ((52, 74, 116), (120, 46, 52), (64, 92, 74), (70, 64, 78), (150, 118, 72), (40, 96, 108))
_WALLS = ((150, 162, 168), (176, 166, 150), (138, 152, 142), (160, 150, 166))


def make_speaker(name: str) -> Speaker:
    """The person of that name, deterministically; any string is a valid name."""
    seed = zlib.crc32(f"avatar speaker {name}".encode())
    generator = np.random.default_rng(seed)

    def near(center: float, spread: float) -> float:
        return float(np.clip(generator.normal(center, spread), center - 2 * spread, center + 2 * spread))

    def one_of(colors: tuple, spread: float) -> tuple[float, float, float]:
        # Varies mostly the brightness and hardly the hue: dark hair would turn violet.
        color = np.array(colors[generator.integers(len(colors))], float) * generator.normal(1.0, 0.01 * spread)
        red, green, blue = np.clip(color + generator.normal(0.0, 0.25 * spread, 3), 12.0, 246.0)
        return float(red), float(green), float(blue)

    proportions = {
        "face_width": near(1.0, 0.03),
        "face_height": near(1.0, 0.025),
        "jaw_width": near(0.97, 0.05),
        "chin_length": near(0.0, 0.3),
        "cheek": near(0.0, 0.25),
        "nose_width": near(1.0, 0.1),
        "nose_length": near(0.0, 0.2),
        "eye_size": near(1.08, 0.07),
        "eye_spacing": near(0.0, 0.12),
        "brow_height": near(0.0, 0.2),
        "brow_weight": near(1.0, 0.2),
        "lip_thickness": near(1.0, 0.15),
        "mouth_width": near(1.0, 0.07),
        "expressiveness": near(1.0, 0.07),
        "hair_volume": near(0.9, 0.2),
        "hair_length": float(generator.uniform(0.0, 1.0)),
    }
    skin = one_of(_SKINS, 5.0)
    lips = tuple(float(c) for c in np.clip(np.array(skin) * (0.86, 0.58, 0.60) + generator.normal(0.0, 4.0, 3), 12.0, 246.0))
    dark = sum(skin) < _DARK_SKIN
    hairs, irises = (_HAIRS[:_N_DARK_HAIRS], _IRISES[:_N_DARK_IRISES]) if dark else (_HAIRS, _IRISES)
    colors = {"hair": one_of(hairs, 5.0), "iris": one_of(irises, 6.0), "cloth": one_of(_CLOTHS, 8.0), "wall": one_of(_WALLS, 6.0)}
    speaker = Speaker(name=name, seed=seed, skin=skin, lips=lips, **proportions, **colors)
    return replace(speaker, **appearance_of(name))


def sample_speech() -> Path:
    """A recording of 5.9 s to try a person with: sentences of the avatar's voice that no shipped network was trained on."""
    return SPEECH_FOLDER / "demo_heldout.wav"
