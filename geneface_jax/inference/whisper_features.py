"""Whisper features of recordings: windows on a fixed grid of time, the states after the encoder's second layer, their projection.

A window is encoded by itself, with a margin on both sides whose states are dropped. The grid begins at time 0, so the features of a second
of speech depend on the sound around it alone: not on what comes minutes later, and not on how a stream was cut.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import numpy as np
from flax import traverse_util

from data_tools.audio.sound import HOP, SAMPLE_RATE, SAMPLES_PER_FRAME, AudioFeatures, Windows, features_for_frames
from data_tools.errors import InputError
from data_tools.io import read_npz
from geneface_jax.io.configs import shipped
from geneface_jax.models.whisper import N_FFT, N_MELS, Whisper, log_mel
from geneface_jax.typing import Array, Float, Float32

WINDOW = 24
"""Audio frames (0.48 s) whose features are taken from one window."""

PAST, FUTURE = 72, 24
"""Audio frames (1.44 s and 0.48 s) before and after them that the window also hears: a live stream waits for the latter."""

ENCODER, PROJECTION = "encoder.npz", "projection.npz"
_REMEDY = "`git checkout -- checkpoints/whisper` or a reinstallation of geneface_jax brings it back"


def whisper_folder() -> Path:
    """The shipped folder of the encoder and the projection. Raises InputError if the installation has no checkpoints."""
    return shipped("checkpoints") / "whisper"


class Encoder:
    """The encoder with its weights.

    Args of the constructor:
      folder: with `ENCODER`.

    Raises:
      InputError: the file is missing, damaged, or holds other weights.
    """

    def __init__(self, folder: Path):
        self._variables = jax.device_put(read_encoder(folder / ENCODER))

    def states(self, samples: Float[np.ndarray, " N"]) -> Float32[np.ndarray, "A C"]:
        """The states after the last layer, A = N // 320; state a is centered on sample 320 a + 160, as the frames of `mel_f0`.

        Args:
          samples: at 16 kHz, in about -1..1, from a time that is a multiple of `WINDOW`; before and after them is silence.
        """
        count = len(samples) // HOP
        windows = -(-count // WINDOW)
        step, length = WINDOW * HOP, (PAST + WINDOW + FUTURE) * HOP
        # Whisper's states are centered on the beginning of a hop, and those of `mel_f0` on its middle: windows begin half a hop later.
        padded = np.pad(np.asarray(samples, np.float32), (PAST * HOP, windows * step + length - len(samples)))[HOP // 2 :]
        states = [_encode(self._variables, mel_filters(), padded[i * step :][:length][None])[0] for i in range(windows)]
        kept = [np.asarray(state)[PAST : PAST + WINDOW] for state in states]
        return np.concatenate(kept)[:count] if kept else np.zeros((0, Whisper.width), np.float32)


@jax.jit
def _encode(variables: Mapping[str, Any], filters: Float[Array, "80 201"], samples: Float[Array, "B N"]) -> Float[jax.Array, "B A C"]:
    with jax.default_matmul_precision("float32"):
        return Whisper().apply(variables, log_mel(samples, filters))[-1]


@functools.cache
def mel_filters() -> Float32[np.ndarray, "80 201"]:
    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)


def read_encoder(path: Path) -> dict[str, Any]:
    """{"params"} of `models.whisper.Whisper`, float32.

    Raises:
      InputError: the file is missing, damaged, or holds other weights.
    """
    flat = read_npz(path, _REMEDY)
    expected = jax.eval_shape(Whisper().init, jax.random.key(0), jnp.zeros((1, 2, N_MELS)))["params"]
    shapes = {jax.tree_util.keystr(name, simple=True, separator="/"): x.shape for name, x in jax.tree_util.tree_leaves_with_path(expected)}
    if {name: value.shape for name, value in flat.items()} != shapes:
        raise InputError(f"{path} does not hold the weights of Whisper's encoder: {_REMEDY}.")
    return {"params": traverse_util.unflatten_dict({name: value.astype(np.float32) for name, value in flat.items()}, sep="/")}


def read_projection(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The projection [A, C] -> [A, components] of states that begin on the grid.

    The mean of each place in a window is taken out, since the states hold the encoder's positions; the components have about unit variance
    on the avatar's speech. scripts/whisper_projection.py says which they are.

    Raises:
      InputError: the file is missing, damaged, or holds something else.
    """
    arrays = read_npz(path, _REMEDY, ("mean", "matrix"))
    mean, matrix = (arrays[name].astype(np.float32) for name in ("mean", "matrix"))
    if mean.shape != (WINDOW, Whisper.width) or matrix.ndim != 2 or len(matrix) != Whisper.width:
        raise InputError(f"{path} does not hold the projection of Whisper's features: {_REMEDY}.")

    def project(states: np.ndarray) -> np.ndarray:
        # Window by window, since the last digits of a product depend on its size.
        whole = np.pad(states, ((0, -len(states) % WINDOW), (0, 0))).reshape(-1, *mean.shape)
        return ((whole - mean) @ matrix).reshape(-1, matrix.shape[1])[: len(states)]

    return project


@functools.lru_cache(maxsize=1)
def whisper_features() -> AudioFeatures:
    """The audio features "whisper", [2T, components], and f0. The shipped weights are read once per process.

    Raises:
      InputError: the weights are missing or damaged.
    """
    _networks()
    digest = hashlib.sha256(b"".join((whisper_folder() / name).read_bytes() for name in (ENCODER, PROJECTION)))
    # A window begins half a hop late, so the piece that is dropped is one frame longer than FUTURE.
    windows = Windows(WINDOW // 2, PAST // 2, FUTURE // 2 + 1)
    return AudioFeatures("whisper", _compute, digest.hexdigest()[:16], windows)


@functools.lru_cache(maxsize=1)
def _networks() -> tuple[Encoder, Callable[[np.ndarray], np.ndarray]]:
    folder = whisper_folder()
    return Encoder(folder), read_projection(folder / PROJECTION)


def _compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """`AudioFeatures.compute`; a function of the module, so that other processes can have it: they read the weights themselves."""
    encoder, project = _networks()
    n_samples = n_frames * SAMPLES_PER_FRAME
    whole = np.zeros(n_samples, np.float32)
    whole[: len(samples)] = samples[:n_samples]
    return project(encoder.states(whole)), features_for_frames(samples, n_frames)[1]
