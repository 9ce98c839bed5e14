"""Audio features by name: `mel_f0`, or `hubert` computed in chunks with the user's weights."""

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.sound import MEL_F0, AudioFeatures, features_for_frames
from data_tools.errors import InputError
from geneface_jax.inference.motion_filters import SAMPLES_PER_FRAME
from geneface_jax.models.hubert import Hubert, hop, receptive_field
from geneface_jax.typing import Array, Float32, Num

# -------- HuBERT features of whole recordings, computed in chunks as in GeneFace

CHUNK = 1000
"""Frames (20 s) per forward pass; chunks share no context."""

BUCKET = 250
"""Frames: the last chunk is padded to a multiple of it, which bounds the number of compiled lengths. The network masks the padding."""

FRAMES_PER_VIDEO_FRAME = 2


def normalize_sound(samples: Num[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """Mean 0 and variance 1 over the whole recording (transformers' Wav2Vec2Processor)."""
    samples = np.asarray(samples, np.float64)
    return ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)).astype(np.float32)


def extract(module: Hubert, variables: Mapping[str, Any], samples: Num[np.ndarray, " N *channels"]) -> Float32[np.ndarray, "A C"]:
    """The last hidden states of a recording at 16 kHz (its first channel), as GeneFace computes them.

    The recording is normalized as a whole, then processed in chunks of 1000 frames without overlap; a remainder shorter than one frame's
    receptive field (400 samples) is dropped. A = (N - 80) // 320 with the published sizes (0 for fewer than 400 samples); frame a covers
    the samples [320 a, 320 a + 400).
    """
    samples = np.asarray(samples)
    samples = samples[:, 0] if samples.ndim == 2 else samples
    step, field = hop(module.conv_strides), receptive_field(module.conv_kernels, module.conv_strides)
    if len(samples) < field:
        return np.zeros((0, module.width), np.float32)
    samples = normalize_sound(samples)
    chunks = (samples[start : start + (CHUNK - 1) * step + field] for start in range(0, len(samples), CHUNK * step))
    return np.concatenate([_chunk(module, variables, chunk, step, field) for chunk in chunks if len(chunk) >= field])


def extract_for_frames(
    module: Hubert, variables: Mapping[str, Any], samples: Num[np.ndarray, " N"], n_frames: int
) -> Float32[np.ndarray, "A C"]:
    """Features of exactly `n_frames` video frames, A = 2 * n_frames.

    The recording is cut, or padded with silence, to the length of the video. `extract` then gives A - 1 frames, since the last one would
    need 80 samples beyond the end: the frame before it is repeated.

    Raises:
      InputError: `n_frames` is 0.
    """
    if n_frames < 1:
        raise InputError("The recording is shorter than one video frame (40 ms): use a longer one.")
    n_samples = n_frames * SAMPLES_PER_FRAME
    samples = np.asarray(samples, np.float32)[:n_samples]
    features = extract(module, variables, np.pad(samples, (0, n_samples - len(samples))))
    return np.pad(features, ((0, FRAMES_PER_VIDEO_FRAME * n_frames - len(features)), (0, 0)), mode="edge")


def weights_fingerprint(variables: Mapping[str, Any]) -> str:
    """16 hex digits of a sha256 over names and values of all weights, independent of their file format."""
    digest = hashlib.sha256()
    for path, value in sorted((jax.tree_util.keystr(path), value) for path, value in jax.tree_util.tree_leaves_with_path(variables)):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(value, np.float32))
    return digest.hexdigest()[:16]


def _chunk(
    module: Hubert, variables: Mapping[str, Any], samples: Float32[np.ndarray, " N"], step: int, field: int
) -> Float32[np.ndarray, "A C"]:
    """Features of one chunk of normalized samples, N >= field."""
    n_frames = (len(samples) - field) // step + 1
    padded = (-(-n_frames // BUCKET) * BUCKET - 1) * step + field
    batch = np.pad(samples[:padded], (0, max(padded - len(samples), 0)))[None]
    length = np.array([len(samples)], np.int32)
    return np.asarray(_apply(module, variables, batch, length)[0, :n_frames])


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    module: Hubert, variables: Mapping[str, Any], samples: Num[Array, "B N"], length: Num[Array, " B"]
) -> Float32[jax.Array, "B A C"]:
    return module.apply(variables, samples, length)


# -------- Audio features by name, and lookup of HuBERT's weights

AUDIO_MODELS = ("mel_f0", "hubert")
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
            f"environment variable {HUBERT_VARIABLE}; or use --audio mel_f0, which needs no download."
        )
    return found


def audio_features(audio_model: str, hubert: str | os.PathLike | None = None) -> AudioFeatures:
    """Audio features by name, one of `AUDIO_MODELS`; `hubert` is the folder of HuBERT's weights, see `hubert_folder`.

    Raises:
      InputError: unknown name, or HuBERT's weights are missing or damaged.
    """
    if audio_model == "mel_f0":
        return MEL_F0
    if audio_model == "hubert":
        return _hubert(hubert_folder(hubert).resolve())
    raise InputError(f"There are no audio features {audio_model!r}: choose {' or '.join(AUDIO_MODELS)}.")


def audio_features_of(meta: Mapping[str, Any], name: str) -> AudioFeatures:
    """The audio features of a dataset, from its meta.json; `name` stands for it in messages, such as "the dataset DIR".

    Raises:
      InputError: as `audio_features`, or HuBERT's weights differ from the dataset's.
    """
    features = audio_features(meta["audio_model"])
    wanted = meta.get("audio_weights", features.weights)
    if wanted != features.weights:
        raise InputError(
            f"The HuBERT weights of {name} are {wanted}, but {hubert_folder()} holds {features.weights}: set {HUBERT_VARIABLE} to the "
            "folder of the former, or make the dataset again with `geneface prepare --audio hubert`."
        )
    return features


@functools.lru_cache(maxsize=1)
def _hubert(folder: Path) -> AudioFeatures:
    """Reads the weights (1.3 GB for the large model) once per process."""
    from geneface_jax.convert.pretrained import load_hubert

    module, variables = load_hubert(folder)
    weights = weights_fingerprint(variables)
    variables = jax.device_put(variables)

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return extract_for_frames(module, variables, samples, n_frames), features_for_frames(samples, n_frames)[1]

    return AudioFeatures("hubert", compute, weights)
