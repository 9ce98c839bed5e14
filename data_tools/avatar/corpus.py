"""The avatar corpus: true motion and audio features of many speakers, in the format of docs/file-formats.md."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from data_tools.audio.features import features_for_frames
from data_tools.avatar.speech import sentence_clips, voices
from data_tools.avatar.truth import perform
from data_tools.avatar.whole_folder import whole_folder
from data_tools.errors import InputError


def make_corpus(out: str | os.PathLike, seed: int = 0, sentences: int | None = None) -> dict:
    """Writes the corpus folder: one clip per sentence, two speakers wholly in "val"; nothing is rendered.

    Args:
      out: folder to make; it must not exist or be empty.
      seed: of head movement, blinks and brows.
      sentences: of each speaker, the first so many; all of them when None. PostNet needs variety, not volume.

    Returns:
      The content of `meta.json`.

    Raises:
      InputError: `out` exists and holds something.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty: remove it or name another folder.")
    arrays: dict[str, np.ndarray] = {}
    clips = []
    for speaker, split in voices().items():
        if split not in ("train", "val"):
            continue
        for clip in sentence_clips(speaker)[:sentences]:
            mel, f0 = features_for_frames(clip.samples, clip.n_frames)
            arrays[f"{clip.name}/audio_features"] = mel.astype(np.float16)
            arrays[f"{clip.name}/f0"] = f0.astype(np.float16)
            arrays[f"{clip.name}/motion"] = perform(clip, seed).motion.reshape(-1, 204).astype(np.float16)
            clips.append({"name": clip.name, "speaker": speaker, "n_frames": clip.n_frames, "split": split})
    meta = {"format": "geneface_jax.corpus", "format_version": 1, "face_model": "mediapipe", "audio_model": "mel_f0", "clips": clips}
    with whole_folder(out) as temporary:
        np.savez_compressed(temporary / "clips.npz", **arrays)
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return meta
