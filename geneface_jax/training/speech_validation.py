"""Validation of the speech stages: motion metrics, Frechet distance to a person's motion, landmark video and audio for TensorBoard."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_tools.landmarks68 import mean_face
from geneface_jax.data.motion import lip_distance, motion_lmd, pearson
from geneface_jax.data.speech_batches import MOUTH
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.training.reporting import VIDEO_FPS

# -------- Metrics of predicted motion, in network space or at any other scale


def motion_metrics(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], prefix: str = "val/") -> dict[str, float]:
    """Frame-weighted means over clips [T, 204]: `lmd`, `lmd_still` (of no motion), `lmd_ratio`, `mouth_correlation` (0 for a mouth that
    does not move), `mouth_amplitude`, `mse`; the names begin with `prefix`."""
    frames = np.array([len(truth) for truth in truths], np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.sum(np.array(values) * frames) / frames.sum())

    pairs = list(zip(predictions, truths, strict=True))
    openings = [(lip_distance(prediction), lip_distance(truth)) for prediction, truth in pairs]
    lmd = mean([motion_lmd(prediction, truth) for prediction, truth in pairs])
    still = mean([motion_lmd(np.zeros_like(truth), truth) for truth in truths])
    return {
        f"{prefix}lmd": lmd,
        f"{prefix}lmd_still": still,
        f"{prefix}lmd_ratio": lmd / max(still, 1e-12),
        f"{prefix}mouth_correlation": mean([np.nan_to_num(pearson(*pair)) for pair in openings]),
        f"{prefix}mouth_amplitude": mean([pair[0].std() / max(pair[1].std(), 1e-12) for pair in openings]),
        f"{prefix}mse": mean([float(np.mean(np.square(prediction - truth))) for prediction, truth in pairs]),
    }


# -------- Distance to a person's motion distribution and diversity over inputs: what a GAN can lose without a larger error

COMPONENTS = 32
"""Largest number of principal components."""


@dataclasses.dataclass(frozen=True)
class MotionDistribution:
    """A person's landmarks as a Gaussian in the space of their own principal components.

    Attributes:
      center: [204] mean of the training frames. basis: [204, K] principal directions, K <= 32.
      mean, covariance: [K] and [K, K] of the held-out frames.
      mouth_variance: variance of the mouth coordinates over the training frames.
    """

    center: np.ndarray
    basis: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    mouth_variance: float

    @classmethod
    def fit(cls, train: np.ndarray, heldout: np.ndarray) -> "MotionDistribution":
        """Principal components of `train` [N, 204], Gaussian of `heldout` [M, 204]; N, M >= 2, in network space."""
        train = np.asarray(train, np.float64)
        center = train.mean(0)
        directions = np.linalg.svd(train - center, full_matrices=False)[2]
        basis = directions[: min(COMPONENTS, len(train) - 1)].T
        mean, covariance = _gaussian((heldout - center) @ basis)
        return cls(center, basis, mean, covariance, float(train[:, MOUTH].var(axis=0).mean()))

    def frechet(self, motions: Sequence[np.ndarray]) -> float:
        """Fréchet distance of the frames of `motions` (each [T, 204]) from the person's held-out frames, in squared network units."""
        mean, covariance = _gaussian((np.concatenate(motions) - self.center) @ self.basis)
        return frechet_distance(mean, covariance, self.mean, self.covariance)

    def diversity(self, motions: Sequence[np.ndarray]) -> float:
        """How much the mouth depends on the speech: its variance between inputs at the same frame, over the person's own variance.

        About 1 if every input moves the mouth differently and as far as the person does, 0 if all inputs give the same face. `motions`
        are at least two, each [T, 204], one for each input; all are cut to the shortest.
        """
        frames = min(map(len, motions))
        mouths = np.stack([np.asarray(motion[:frames, MOUTH], np.float64) for motion in motions])
        return float(mouths.var(axis=0, ddof=1).mean() / max(self.mouth_variance, 1e-12))


def frechet_distance(mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2) of two Gaussians [K], [K, K]; covariances may be singular."""
    root = _root(covariance_a)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance_b @ root), 0.0, None)).sum()
    distance = np.sum(np.square(mean_a - mean_b)) + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * cross
    return max(float(distance), 0.0)


def _gaussian(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.mean(0), np.atleast_2d(np.cov(points, rowvar=False))


def _root(matrix: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


# -------- Landmark video and audio of a validation for TensorBoard

AUDIO_FILE = "audio.wav"


def landmark_video_summary(
    truth: np.ndarray, prediction: np.ndarray, std: np.ndarray, center: np.ndarray, config: ConfigDict
) -> dict[str, np.ndarray]:
    """Draws the first frames of a validation clip: `{"val/landmarks": uint8 [frames, size, 2 * size, 3]}`, {} for no frames.

    Args:
      truth, prediction: [T, 204] in network space.
      std, center: [204]; motion = network * std + center.
      config: `frames`, the largest number drawn (0 = none), and `size` of a panel in pixels.
    """
    if not config.frames:
        return {}
    motions = [motion[: config.frames] * std + center for motion in (truth, prediction)]
    return {"val/landmarks": np.stack(list(landmark_frames(motions, ("truth", "prediction"), mean_face(), config.size)))}


def speech_audio_summary(dataset: str | os.PathLike[str], first: int, frames: int) -> dict[str, tuple[np.ndarray, int]]:
    """The audio of `frames` frames of a subject dataset from frame `first` on; the recording may end before.

    Returns:
      `{"val/speech": (float32 [A] in [-1, 1], samples per second)}`, or {} if the dataset has no recording (a light or an imported one)
      or for no frames.
    """
    path = Path(dataset) / AUDIO_FILE
    if not frames or not path.is_file():
        return {}
    import soundfile

    with soundfile.SoundFile(path) as recording:
        rate = recording.samplerate
        recording.seek(min(round(first * rate / VIDEO_FPS), recording.frames))
        samples = recording.read(round(frames * rate / VIDEO_FPS), dtype="float32")
    return {"val/speech": (samples, rate)} if len(samples) else {}
