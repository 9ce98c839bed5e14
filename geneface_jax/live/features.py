"""Whisper features for live speech: a short window for every block of video frames, with little sound after the block.

The encoder and the projection are those of `inference.whisper_features`; the windows are cut anew for every block, so that features need
`FUTURE` audio frames of sound after their block instead of half a second.
"""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.audio.sound import HOP, SAMPLES_PER_FRAME, AudioFeatures, Windows, features_for_frames
from data_tools.errors import InputError
from data_tools.io import read_npz
from geneface_jax.inference.whisper_features import ENCODER, PROJECTION, mel_filters, read_encoder, whisper_folder
from geneface_jax.models.whisper import Whisper, log_mel
from geneface_jax.typing import Array, Float, Float32

NAME = "whisper_live"
"""`audio_model` of live networks and of the corpora they are trained on."""

BLOCK = 3
"""Video frames (0.12 s) whose features come from one window."""

HOPS = 2 * BLOCK
"""Audio frames of a block."""

PAST, FUTURE = 72, 3
"""Audio frames (1.44 s and 0.06 s) before and after a block that its window also hears."""

WINDOW_SAMPLES = (PAST + HOPS + FUTURE) * HOP

MEANS = "live.npz"
"""File beside the encoder: the mean of the states at each place of a block (scripts/whisper_projection.py --live)."""

_BATCH = 8
"""Windows that are encoded at once where all of the sound is there."""

_REMEDY = "`git checkout -- checkpoints/whisper` or a reinstallation of geneface_jax brings it back"


def window_start(block: int) -> int:
    """The first sample of a block's window; negative at the beginning. The states are centered on the middles of hops, as offline."""
    return (block * HOPS - PAST) * HOP + HOP // 2


def window_end(block: int) -> int:
    """How many samples must have come for the features of a block."""
    return window_start(block) + WINDOW_SAMPLES


def live_features() -> AudioFeatures:
    """The audio features "whisper_live", [2T, components], and f0, which live networks don't use.

    Raises:
      InputError: the weights are missing or damaged.
    """
    live_encoder()
    digest = hashlib.sha256(b"".join((whisper_folder() / name).read_bytes() for name in (ENCODER, PROJECTION, MEANS)))
    return AudioFeatures(NAME, _compute, digest.hexdigest()[:16], Windows(BLOCK, PAST // 2, FUTURE // 2 + 1))


@functools.lru_cache(maxsize=1)
def live_encoder() -> dict[str, Any]:
    """The encoder's variables, mel filters, means and projection matrix, for `block_features`; read once per process.

    Raises:
      InputError: a file is missing, damaged, or holds something else.
    """
    folder = whisper_folder()
    mean = read_npz(folder / MEANS, _REMEDY, ("mean",))["mean"].astype(np.float32)
    matrix = read_npz(folder / PROJECTION, _REMEDY, ("matrix",))["matrix"].astype(np.float32)
    if mean.shape != (HOPS, Whisper.width) or matrix.ndim != 2 or len(matrix) != Whisper.width:
        raise InputError(f"{folder / MEANS} does not hold the means of live features: {_REMEDY}.")
    return {**encoder_arrays(folder), "mean": jax.device_put(mean), "matrix": jax.device_put(matrix)}


def encoder_arrays(folder: Path) -> dict[str, Any]:
    """The encoder's variables and mel filters, for `block_states`."""
    return {"encoder": jax.device_put(read_encoder(folder / ENCODER)), "filters": jax.device_put(mel_filters())}


def block_states(arrays: Mapping[str, Any], samples: Float[Array, "B N"]) -> Float[jax.Array, "B A C"]:
    """States of the blocks whose windows are `samples`, N = `WINDOW_SAMPLES`, A = `HOPS`."""
    with jax.default_matmul_precision("float32"):
        states = Whisper().apply(arrays["encoder"], log_mel(samples, arrays["filters"]))[-1]
    return states[:, PAST : PAST + HOPS]


def block_features(arrays: Mapping[str, Any], samples: Float[Array, "B N"]) -> Float[jax.Array, "B A C"]:
    """Projected features of the blocks whose windows are `samples`, N = `WINDOW_SAMPLES`, A = `HOPS`."""
    with jax.default_matmul_precision("float32"):
        return (block_states(arrays, samples) - arrays["mean"]) @ arrays["matrix"]


_states, _features = jax.jit(block_states), jax.jit(block_features)


def recording_states(arrays: Mapping[str, Any], samples: Float[np.ndarray, " N"], n_frames: int) -> Float32[np.ndarray, "A C"]:
    """States of a recording, A = 2 * n_frames; before and after it is silence."""
    return _by_blocks(functools.partial(_states, arrays), samples, n_frames)


def recording_features(samples: Float[np.ndarray, " N"], n_frames: int) -> Float32[np.ndarray, "A C"]:
    """Features of a recording, A = 2 * n_frames; before and after it is silence. Raises as `live_encoder`."""
    return _by_blocks(functools.partial(_features, live_encoder()), samples, n_frames)


def _by_blocks(encode: Any, samples: Float[np.ndarray, " N"], n_frames: int) -> Float32[np.ndarray, "A C"]:
    count = -(-n_frames // BLOCK)
    batches = max(-(-count // _BATCH), 1)
    whole = np.zeros(window_end(batches * _BATCH - 1) - window_start(0), np.float32)
    heard = np.asarray(samples[: n_frames * SAMPLES_PER_FRAME], np.float32)
    whole[-window_start(0) :][: len(heard)] = heard
    windows = np.lib.stride_tricks.sliding_window_view(whole, WINDOW_SAMPLES)[:: HOPS * HOP]
    found = [np.asarray(encode(windows[i * _BATCH : (i + 1) * _BATCH])) for i in range(batches)]
    return np.concatenate(found).reshape(-1, found[0].shape[-1])[: 2 * n_frames]


def _compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """`AudioFeatures.compute`; a function of the module, so that other processes can have it: they read the weights themselves."""
    return recording_features(samples, n_frames), features_for_frames(samples, n_frames)[1]
