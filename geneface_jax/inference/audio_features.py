"""Audio features by name: `mel_f0`, or `hubert` computed in chunks with the user's weights."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.features import MEL_F0, AudioFeatures, features_for_frames
from data_tools.errors import InputError
from geneface_jax.models.hubert import Hubert, hop, receptive_field

# ----------------------------------------------------------------------------------------------------
# HuBERT features of whole recordings, cut into chunks as GeneFace cuts them.

CHUNK = 1000
"""Frames (20 s) that are seen at once; a chunk knows nothing of its neighbours."""

BUCKET = 250
"""Frames: the last chunk is padded to a multiple of it, so that few lengths are ever compiled. The network leaves the padding out."""

FRAMES_PER_VIDEO_FRAME = 2
SAMPLES_PER_VIDEO_FRAME = 640


def normalize_sound(samples: np.ndarray) -> np.ndarray:
    """[n] sound -> mean 0, variance 1 over the whole recording, float32 (transformers' Wav2Vec2Processor)."""
    samples = np.asarray(samples, np.float64)
    return ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)


def extract(module: Hubert, variables: Mapping[str, Any], samples: np.ndarray) -> np.ndarray:
    """The last hidden states of a recording, as GeneFace computes them.

    The recording is normalised as a whole, then seen in chunks of 1000 frames without overlap; a rest shorter than one frame's view
    (400 samples) is left out.

    Args:
      module, variables: the network.
      samples: [n] sound at 16 kHz; of [n, channels] the first channel is heard.

    Returns:
      [A, C] float32, A = (n - 80) // 320 with the published sizes (0 for fewer than 400 samples). Frame a sees the samples
      [320 a, 320 a + 400).
    """
    samples = np.asarray(samples)
    samples = samples[:, 0] if samples.ndim == 2 else samples
    step, field = hop(module.conv_strides), receptive_field(module.conv_kernels, module.conv_strides)
    if len(samples) < field:
        return np.zeros((0, module.width), np.float32)
    samples = normalize_sound(samples)
    chunks = (samples[start : start + (CHUNK - 1) * step + field] for start in range(0, len(samples), CHUNK * step))
    return np.concatenate([_chunk(module, variables, chunk, step, field) for chunk in chunks if len(chunk) >= field])


def extract_for_frames(module: Hubert, variables: Mapping[str, Any], samples: np.ndarray, n_frames: int) -> np.ndarray:
    """Features of exactly `n_frames` video frames: [2 * n_frames, C].

    The recording is cut, or padded with silence, to the length of the picture. `extract` gives one frame less than twice its frames then,
    as the last one would look 80 samples beyond the end; it is the one before again.

    Raises:
      InputError: there is no video frame.
    """
    if n_frames < 1:
        raise InputError("the recording is shorter than one video frame (40 ms): use a longer one.")
    n_samples = n_frames * SAMPLES_PER_VIDEO_FRAME
    samples = np.asarray(samples, np.float32)[:n_samples]
    features = extract(module, variables, np.pad(samples, (0, n_samples - len(samples))))
    return np.pad(features, ((0, FRAMES_PER_VIDEO_FRAME * n_frames - len(features)), (0, 0)), mode="edge")


def weights_fingerprint(variables: Mapping[str, Any]) -> str:
    """16 hex digits of a sha256 over names and values of all weights, whatever file they came from."""
    digest = hashlib.sha256()
    for path, value in sorted((jax.tree_util.keystr(path), value) for path, value in jax.tree_util.tree_leaves_with_path(variables)):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(value, np.float32))
    return digest.hexdigest()[:16]


def _chunk(module: Hubert, variables: Mapping[str, Any], samples: np.ndarray, step: int, field: int) -> np.ndarray:
    """Features of one chunk of normalised samples [n], n >= field."""
    n_frames = (len(samples) - field) // step + 1
    padded = (-(-n_frames // BUCKET) * BUCKET - 1) * step + field
    batch = np.pad(samples[:padded], (0, max(padded - len(samples), 0)))[None]
    length = np.array([len(samples)], np.int32)
    return np.asarray(_apply(module, variables, batch, length)[0, :n_frames])


@functools.partial(jax.jit, static_argnums=0)
def _apply(module: Hubert, variables: Mapping[str, Any], samples: jax.Array, length: jax.Array) -> jax.Array:
    return module.apply(variables, samples, length)


# ----------------------------------------------------------------------------------------------------
# Audio features by name: `mel_f0` needs nothing, `hubert` a model folder that the user has; this is the one place that looks for it.

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
    from geneface_jax.convert.pretrained import load_hubert

    module, variables = load_hubert(folder)
    weights = weights_fingerprint(variables)
    variables = jax.device_put(variables)

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return extract_for_frames(module, variables, samples, n_frames), features_for_frames(samples, n_frames)[1]

    return AudioFeatures("hubert", compute, weights)
