"""Audio features by name: `mel_f0` needs nothing, `hubert` a model folder that the user has; this is the one place that looks for it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.features import MEL_F0, AudioFeatures, features_for_frames
from data_tools.errors import InputError

AUDIO_MODELS = ("mel_f0", "hubert")
HUBERT_VARIABLE = "GENEFACE_HUBERT"
"""Environment variable that names the folder of HuBERT's weights."""


def hubert_folder(folder: str | os.PathLike | None = None) -> Path:
    """Where HuBERT's config.json and weights are: `folder`, else $GENEFACE_HUBERT, else ~/.cache/geneface_jax/hubert.

    Raises:
      InputError: no model is there; says where to get one.
    """
    default = Path("~/.cache/geneface_jax/hubert").expanduser()
    named = folder or os.environ.get(HUBERT_VARIABLE)
    found = Path(named).expanduser() if named else default
    if not (found / "config.json").is_file():
        raise InputError(
            f"HuBERT is not in {found} (no config.json): download config.json and model.safetensors (or pytorch_model.bin) of "
            f"facebook/hubert-large-ls960-ft from huggingface.co, under its own licence, into {default}, or name its folder in the "
            f"environment variable {HUBERT_VARIABLE}; or use --audio mel_f0, which needs no download."
        )
    return found


def audio_features(audio_model: str, hubert: str | os.PathLike | None = None) -> AudioFeatures:
    """The audio features of a name.

    Args:
      audio_model: one of `AUDIO_MODELS`.
      hubert: folder of HuBERT's weights, see `hubert_folder`; not read for other features.

    Raises:
      InputError: there is no such kind, or HuBERT's weights are missing or damaged.
    """
    if audio_model == "mel_f0":
        return MEL_F0
    if audio_model == "hubert":
        return _hubert(hubert_folder(hubert).resolve())
    raise InputError(f"there are no audio features {audio_model!r}: choose {' or '.join(AUDIO_MODELS)}.")


def audio_features_of(meta: Mapping[str, Any], name: str) -> AudioFeatures:
    """The audio features that a dataset was made with.

    Args:
      meta: the dataset's meta.json.
      name: what it is and where, for people ("the dataset DIR").

    Raises:
      InputError: as `audio_features`, or HuBERT's weights are others than the dataset's.
    """
    features = audio_features(meta["audio_model"])
    wanted = meta.get("audio_weights", features.weights)
    if wanted != features.weights:
        raise InputError(
            f"{name} was made with the HuBERT weights {wanted}, but {hubert_folder()} holds {features.weights}: name the folder of the "
            f"first in {HUBERT_VARIABLE}, or make the dataset again with `geneface prepare --audio hubert`."
        )
    return features


@functools.lru_cache(maxsize=1)
def _hubert(folder: Path) -> AudioFeatures:
    """Reads the weights (1.3 GB for the large model), once in a process."""
    from geneface_jax.convert.hubert import load_hubert
    from geneface_jax.inference.hubert_features import extract_for_frames, weights_fingerprint

    module, variables = load_hubert(folder)
    weights = weights_fingerprint(variables)
    variables = jax.device_put(variables)

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return extract_for_frames(module, variables, samples, n_frames), features_for_frames(samples, n_frames)[1]

    return AudioFeatures("hubert", compute, weights)
