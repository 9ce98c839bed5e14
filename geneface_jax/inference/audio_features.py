"""Audio features by name, `mel_f0`, `hubert` or `whisper`, and lookup of HuBERT's weights."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.sound import MEL_F0, AudioFeatures, features_for_frames
from data_tools.command_line import AUDIO_MODELS
from data_tools.errors import InputError

HUBERT_VARIABLE = "GENEFACE_HUBERT"
"""Environment variable with the folder of HuBERT's weights."""


def hubert_folder(folder: str | os.PathLike | None = None) -> Path:
    """Folder of HuBERT's config.json and weights: `folder`, else $GENEFACE_HUBERT, else ~/.cache/geneface_jax/hubert.

    Raises:
      InputError: it holds no model; the sentence says where to get one.
    """
    default = Path("~/.cache/geneface_jax/hubert").expanduser()
    named = folder or os.environ.get(HUBERT_VARIABLE)
    found = Path(named).expanduser() if named else default
    if not (found / "config.json").is_file():
        raise InputError(
            f"HuBERT is not in {found} (no config.json): download config.json and model.safetensors (or pytorch_model.bin) of "
            f"facebook/hubert-large-ls960-ft from huggingface.co, under its own license, into {default}, or name its folder in the "
            f"environment variable {HUBERT_VARIABLE}; or use --features mel_f0 or whisper, which need no download."
        )
    return found


def audio_features(audio_model: str, hubert: str | os.PathLike | None = None) -> AudioFeatures:
    """Audio features by name, one of `AUDIO_MODELS`; `hubert` is the folder of HuBERT's weights, see `hubert_folder`.

    Raises:
      InputError: unknown name, or the network's weights are missing or damaged.
    """
    if audio_model == "mel_f0":
        return MEL_F0
    if audio_model == "whisper":
        from geneface_jax.inference.whisper_features import whisper_features

        return whisper_features()
    if audio_model == "hubert":
        return _hubert(hubert_folder(hubert).resolve())
    raise InputError(f"There are no audio features {audio_model!r}: choose {', '.join(AUDIO_MODELS[:-1])} or {AUDIO_MODELS[-1]}.")


def audio_features_of(meta: Mapping[str, Any], name: str) -> AudioFeatures:
    """The audio features of a dataset, from its meta.json; `name` stands for it in messages, such as "the dataset DIR".

    Raises:
      InputError: as `audio_features`, or the network's weights differ from the dataset's.
    """
    features = audio_features(meta["audio_model"])
    wanted = meta.get("audio_weights", features.weights)
    if wanted != features.weights and features.name == "hubert":
        raise InputError(
            f"The HuBERT weights of {name} are {wanted}, but {hubert_folder()} holds {features.weights}: set {HUBERT_VARIABLE} to the "
            "folder of the former, or make the dataset again with `geneface prepare --features hubert`."
        )
    if wanted != features.weights:
        raise InputError(
            f"The {features.name} features of {name} were made by the network {wanted}, but this version has {features.weights}: use the "
            f"version that made it, or make it again with `geneface prepare --features {features.name}`."
        )
    return features


@functools.lru_cache(maxsize=1)
def _hubert(folder: Path) -> AudioFeatures:
    """Reads the weights (1.3 GB for the large model) once per process."""
    import jax

    from geneface_jax.convert.pretrained import extract_for_frames, load_hubert, weights_fingerprint

    module, variables = load_hubert(folder)
    weights = weights_fingerprint(variables)
    variables = jax.device_put(variables)

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return extract_for_frames(module, variables, samples, n_frames), features_for_frames(samples, n_frames)[1]

    return AudioFeatures("hubert", compute, weights)
