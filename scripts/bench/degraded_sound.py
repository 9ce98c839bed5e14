"""Measures the predicted lips on bad sound: the avatar's sentences with music, a second voice, noise, and other faults added.

    python scripts/bench/degraded_sound.py [--models checkpoints/avatar] [--speaker demo_unseen] [--seconds 60] [--json FILE]

The truth is exact, since the avatar is computed from the same phonemes. A row a fault: Pearson correlation of the mouth's opening with the
truth at its best lag, and that lag (the shipped networks are a frame early, see config.data.lead), deviation of the opening over the
truth's (0: a frozen mouth), mean opening over the truth's (a gaping mouth), share of frames with shut lips, share of p, b and m with shut
lips.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from scipy import signal

from data_tools.audio.sound import SAMPLE_RATE, SAMPLES_PER_FRAME, cached
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import SpeechClip, excerpt, recording
from data_tools.io import write_json
from data_tools.landmarks68 import landmarks_from_motion, mean_face
from geneface_jax.data.motion import mouth_opening
from geneface_jax.evaluation.evaluate import motion_report
from geneface_jax.evaluation.lips import Phone, closure, shut_share
from geneface_jax.evaluation.report import to_json
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import configs

Sound = np.ndarray


def at_ratio(samples: Sound, added: Sound, decibels: float) -> Sound:
    """Speech with another sound, which is `decibels` below it."""
    added = np.resize(added, len(samples))
    scale = np.sqrt(np.mean(samples**2) / max(np.mean(added**2), 1e-12)) * 10.0 ** (-decibels / 20.0)
    return (samples + scale * added).astype(np.float32)


def pink(length: int, seed: int = 0) -> Sound:
    """Noise whose power falls by 3 dB an octave, as in rooms and traffic."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=length))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20.0)), length)


def music(length: int) -> Sound:
    """Four chords of eight partials each with a beat, again and again."""
    seconds = np.arange(length) / SAMPLE_RATE
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9))
    sound = np.zeros(length)
    for number, chord in enumerate(chords):
        played = (seconds // 2.0).astype(int) % len(chords) == number
        for tone in chord:
            sound += played * sum(np.sin(2.0 * np.pi * tone * k * seconds) / k for k in range(1, 9))
    beat = np.exp(-12.0 * (seconds % 0.5)) * np.random.default_rng(0).normal(size=length)
    return sound + 2.0 * beat


def whispered(samples: Sound, order: int = 16, size: int = 400, hop: int = 160) -> Sound:
    """The same vocal tract (linear prediction, 25 ms every 10 ms) with noise in place of the voice."""
    rng, window, out = np.random.default_rng(0), np.hanning(size), np.zeros(len(samples) + size)
    for start in range(0, len(samples) - size, hop):
        frame = samples[start : start + size] * window
        if (level := np.sqrt(np.mean(frame**2))) < 1e-5:
            continue
        # A little noise keeps the filter of a pure tone from ringing forever.
        coefficients = librosa.lpc(frame.astype(np.float64) + 0.01 * level * rng.normal(size=size), order=order)
        breath = signal.lfilter([1.0], coefficients, rng.normal(size=size)) * window
        out[start : start + size] += breath * level / max(np.sqrt(np.mean(breath**2)), 1e-9)
    return out[: len(samples)].astype(np.float32)


def telephone(samples: Sound) -> Sound:
    """300 to 3400 Hz, 8 kHz, 8 bits of mu-law."""
    band = signal.sosfiltfilt(signal.butter(4, (300.0, 3400.0), "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    narrow = librosa.mu_compress(np.clip(band[::2], -1.0, 1.0), mu=255, quantize=True)
    return signal.resample_poly(librosa.mu_expand(narrow, mu=255, quantize=True), 2, 1)[: len(samples)].astype(np.float32)


def clipped(samples: Sound) -> Sound:
    """All beyond a tenth of the peak cut off, as by a microphone that is turned up too far."""
    limit = 0.1 * np.abs(samples).max()
    return np.clip(samples, -limit, limit).astype(np.float32)


def reverberant(samples: Sound, seconds: float = 0.8) -> Sound:
    """A hall whose sound falls by 60 dB in `seconds`, as loud as the direct sound."""
    length = round(seconds * SAMPLE_RATE)
    tail = np.random.default_rng(0).normal(size=length) * 10.0 ** (-3.0 * np.arange(length) / length)
    return at_ratio(samples, signal.fftconvolve(samples, tail)[: len(samples)], 0.0)


FAULTS: dict[str, Callable[[Sound], Sound]] = {
    "clean": lambda x: x,
    "music 5 dB below": lambda x: at_ratio(x, music(len(x)), 5.0),
    "second voice 5 dB below": lambda x: at_ratio(x, recording("bruno").samples, 5.0),
    "noise 10 dB below": lambda x: at_ratio(x, pink(len(x)), 10.0),
    "noise as loud": lambda x: at_ratio(x, pink(len(x)), 0.0),
    "whispered": whispered,
    "telephone": telephone,
    "clipped": clipped,
    "reverberation": reverberant,
}
"""Name of the row -> what is done to the sound."""


def opening_of(motion: np.ndarray) -> np.ndarray:
    """Motion [T, 68, 3] -> [T] inner-lip gap over mouth width."""
    return mouth_opening(landmarks_from_motion(motion))


def figures(motion: np.ndarray, truth: np.ndarray, clip: SpeechClip) -> dict[str, Any]:
    """The columns of a row, of predicted and true motion [T, 68, 3] of a clip with its phonemes."""
    report, opening, true_opening = motion_report(motion, truth, mean_face()), opening_of(motion), opening_of(truth)
    phones = [Phone(phoneme.start, phoneme.end, phoneme.ipa) for phoneme in clip.phonemes]
    return {
        "correlation": report["mouth_best_correlation"],
        "best_lag": report["mouth_best_lag"],
        "deviation": report["mouth_amplitude"],
        "mean_opening": float(opening.mean() / true_opening.mean()),
        "shut": shut_share(opening),
        "closure": closure(opening, phones).share,
    }


def measure(speech: AudioToMotion, name: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Figures by fault for the first `seconds` of one of the avatar's recordings."""
    clip = recording(name)
    clip = excerpt(clip, 0.0, min(seconds, len(clip.samples) / SAMPLE_RATE))
    truth = perform(clip).motion.reshape(-1, 68, 3)
    sound, still = cached(audio_features(speech.kind.audio_model)), figures(truth, truth, clip)
    rows: dict[str, dict[str, Any]] = {"truth": {name: still[name] for name in ("shut", "closure")}}
    for fault, change in FAULTS.items():
        samples = change(clip.samples)[: clip.n_frames * SAMPLES_PER_FRAME]
        features, f0 = sound.compute(samples, clip.n_frames)
        motion = speech.predict(features, f0, temperature=0.0).reshape(-1, 68, 3)
        rows[fault] = figures(motion, truth, clip)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of audio2motion/ (default: the shipped ones)")
    parser.add_argument("--speaker", default="demo_unseen", help="recording of the avatar (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of it (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file of the figures")
    args = parser.parse_args()
    models = args.models or configs.shipped("checkpoints") / "avatar"
    rows = measure(AudioToMotion.load_corpus_model(models / "audio2motion"), args.speaker, args.seconds)
    for name, row in rows.items():
        print(f"{name:24}" + "  ".join(f"{key} {value:6.3f}" for key, value in row.items()))
    if args.json:
        report = {"models": args.models.as_posix() if args.models else "shipped", "speaker": args.speaker, "rows": rows}
        write_json(args.json, to_json(report))


if __name__ == "__main__":
    main()
