"""A tiny synthetic corpus: noise-like speech whose loudness opens the mouth, so that there is something to learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.synthetic_subject import write_subject

SPEAKERS = {"ada": "train", "ben": "train", "cleo": "val"}


def speech_and_motion(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log10 mel [2T, 80], f0 [2T] and motion [T, 204]: the louder and brighter, the wider the mouth and the lower the jaw."""
    times = np.arange(2 * frames) / 50.0
    loud = np.clip(np.sin(2 * np.pi * (2.0 * times + rng.random())) + 0.7 * np.sin(2 * np.pi * (3.3 * times + rng.random())), 0, None)
    bright = np.sin(2 * np.pi * (0.9 * times + rng.random()))
    bands = np.linspace(-1, 1, 80)
    mel = -3.5 + 2.0 * loud[:, None] + 0.5 * loud[:, None] * bright[:, None] * bands + 0.1 * rng.normal(size=(2 * frames, 80))
    f0 = np.where(loud > 0.2, 120.0 + 20.0 * bright, 0.0)
    motion = np.zeros((frames, 68, 3))
    opening, width = loud[::2], (loud * bright)[::2]
    motion[:, 48:68, 0] += width[:, None] * np.linspace(-0.3, 0.3, 20)
    motion[:, [55, 56, 57, 58, 59, 65, 66, 67], 1] -= opening[:, None]
    motion[:, 5:12, 1] -= 0.6 * opening[:, None]
    return mel.astype(np.float32), f0.astype(np.float32), motion.reshape(frames, 204).astype(np.float32)


def write_speaker(dataset: Path, frames: int = 110) -> Path:
    """Writes a subject dataset whose motion follows its speech; returns it."""
    write_subject(dataset, frames=frames)
    arrays = dict(np.load(dataset / "arrays.npz"))
    mel, f0, motion = speech_and_motion(np.random.default_rng(5), frames)
    motion, train = motion.reshape(frames, 68, 3), slice(0, frames * 10 // 11)
    arrays.update(audio_features=mel, f0=f0, motion=motion, motion_mean=motion[train].mean(0), motion_std=motion[train].std(0))
    np.savez(dataset / "arrays.npz", **arrays)
    return dataset


def write_corpus(folder: Path, *, frames: int = 96, clips_per_speaker: int = 2, seed: int = 0, audio_model: str = "mel_f0") -> Path:
    """Writes a corpus folder as docs/file-formats.md describes it; every speaker has another resting face; returns it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, clips = {}, []
    for speaker, split in SPEAKERS.items():
        face = 0.5 * rng.normal(size=204)
        for number in range(clips_per_speaker):
            name, length = f"{speaker}_{number}", frames - 7 * number
            mel, f0, motion = speech_and_motion(rng, length)
            if audio_model != "mel_f0":  # as many numbers as Whisper features have
                mel = np.concatenate([mel, mel[:, :48]], axis=1)
            arrays[f"{name}/audio_features"], arrays[f"{name}/f0"] = mel.astype(np.float16), f0
            arrays[f"{name}/motion"] = (motion + face).astype(np.float32)
            clips.append({"name": name, "speaker": speaker, "n_frames": length, "split": split})
    np.savez(folder / "clips.npz", **arrays)
    meta = {"format": "geneface_jax.corpus", "format_version": 1, "face_model": "mediapipe", "audio_model": audio_model, "clips": clips}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder
