"""The mouth's opening from sound by a linear map: the floor that networks are compared with, and the clock of `estimate_offset`.

The map is a ridge regression from nine video frames of audio features to the opening. It is much worse than the networks at the shape of
lips but nearly as good at their timing, takes a millisecond, and can't have learned a person's or a file's delay as a network can.
"""

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_tools.audio.offset import OpeningPredictor
from data_tools.audio.sound import cached
from data_tools.errors import InputError
from data_tools.io import atomic_path
from data_tools.records import ArrayFile
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.io import configs
from geneface_jax.typing import Float, Float32

logger = logging.getLogger(__name__)

RADIUS = 4
"""Video frames on each side of the predicted one that the map sees: 0.16 s, the reach of a neighboring sound."""

RIDGE = 300.0
"""Weight of the squared coefficients against the summed squared error, for inputs of unit deviation. Ten times more or less changes the
correlation by less than 0.01."""

_REMAKE = "make it again with `python scripts/grid_corpus.py`"


@dataclasses.dataclass(frozen=True)
class OpeningMap:
    """A linear map from audio features to the mouth's opening.

    Attributes:
      weights: of the features of frames -RADIUS .. RADIUS around the predicted one.
      mean, std: of a feature.
      audio_model: the type of the features, `AudioFeatures.name`.
      audio_weights: fingerprint of the network that made them, `AudioFeatures.weights`.
    """

    weights: Float32[np.ndarray, "W C"]
    mean: Float32[np.ndarray, " C"]
    std: Float32[np.ndarray, " C"]
    audio_model: str
    audio_weights: str = ""

    def predict(self, audio_features: Float[np.ndarray, "A C"]) -> Float32[np.ndarray, " T"]:
        """Opening of T = A / 2 video frames, in deviations from the talker's mean; features before and after the recording are zero."""
        if audio_features.shape[-1] != len(self.mean):
            raise InputError(
                f"There are {audio_features.shape[-1]} audio features a frame, but the map of the opening has {len(self.mean)}: {_REMAKE}."
            )
        around = _windows((_per_frame(audio_features) - self.mean) / self.std)
        return (around @ self.weights.reshape(-1)).astype(np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a few kilobytes; equal maps give equal bytes."""
        names = {"audio_model": np.array(self.audio_model), "audio_weights": np.array(self.audio_weights)}
        with atomic_path(path, ".npz") as temporary:
            np.savez(temporary, weights=self.weights, mean=self.mean, std=self.std, **names)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> "OpeningMap":
        """Reads a map; the shipped one when `path` is None. Raises InputError if it is missing or damaged."""
        path = shipped_map() if path is None else Path(path)
        if not path.is_file():
            raise InputError(f"The map from sound to the mouth's opening is not in {path}: {_REMAKE}.")
        with ArrayFile(path, _REMAKE) as archive:
            weights, mean, std = (np.asarray(archive[name], np.float32) for name in ("weights", "mean", "std"))
            names = [str(archive[name]) for name in ("audio_model", "audio_weights")]
        if weights.shape != (2 * RADIUS + 1, len(mean)) or std.shape != mean.shape or not np.isfinite(weights).all():
            raise InputError(f"The map from sound to the mouth's opening in {path} has weights of shape {weights.shape}: {_REMAKE}.")
        return cls(weights, mean, std, *names)


def fit_opening_map(
    clips: Iterable[tuple[np.ndarray, np.ndarray, float]], audio_model: str, audio_weights: str = "", ridge: float = RIDGE
) -> OpeningMap:
    """Fits the map.

    Args:
      clips: (audio features [2T, C], opening [T] in deviations from the talker's mean, weight of a frame) of each clip.
      audio_model, audio_weights: as the map's attributes.
      ridge: see `RIDGE`.
    """
    pairs = [(_per_frame(features).astype(np.float64), np.asarray(opening, np.float64), weight) for features, opening, weight in clips]
    everything = np.concatenate([features for features, _, _ in pairs])
    mean, std = everything.mean(0), np.maximum(everything.std(0), 1e-6)
    size = (2 * RADIUS + 1) * len(mean)
    squares, products = np.zeros((size, size)), np.zeros(size)
    for features, opening, weight in pairs:
        around = _windows((features - mean) / std)
        squares += weight * around.T @ around
        products += weight * around.T @ opening
    weights = np.linalg.solve(squares + ridge * np.eye(size), products).reshape(2 * RADIUS + 1, -1)
    weights, mean, std = (x.astype(np.float32) for x in (weights, mean, std))
    return OpeningMap(weights, mean, std, audio_model, audio_weights)


def shipped_map() -> Path:
    """Where the shipped map is, unless it was left out."""
    return configs.shipped("checkpoints") / "grid" / "opening.npz"


def opening_predictor(needed: bool = True) -> OpeningPredictor | None:
    """The shipped map for the data tools; it can be sent to other processes.

    Raises:
      InputError: it is missing or damaged. If it isn't `needed`, that is logged and None is returned: the folder may be left out.
    """
    try:
        opening = OpeningMap.load()
    except InputError as error:
        if needed:
            raise
        logger.warning("The offset of sound and picture is not looked for: %s", error)
        return None
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in (opening.weights, opening.mean, opening.std)))
    return OpeningPredictor(predict_opening, f"{opening.audio_model}:{opening.audio_weights}:{digest.hexdigest()[:16]}")


def predict_opening(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """[n] samples at 16 kHz -> [n_frames] opening by the shipped map; raises as `opening_predictor`."""
    opening = OpeningMap.load()
    return opening.predict(cached(audio_features(opening.audio_model)).compute(samples, n_frames)[0])


def _per_frame(audio_features: np.ndarray) -> np.ndarray:
    """[2T, C] -> [T, C], the mean of a video frame's two."""
    return np.asarray(audio_features).reshape(-1, 2, audio_features.shape[-1]).mean(1)


def _windows(features: np.ndarray) -> np.ndarray:
    """[T, C] -> [T, W * C], each frame's neighborhood."""
    padded = np.pad(features, ((RADIUS, RADIUS), (0, 0)))
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * RADIUS + 1, axis=0)  # [T, C, W]
    return np.ascontiguousarray(around.transpose(0, 2, 1)).reshape(len(features), -1)
