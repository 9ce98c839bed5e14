"""How near a set of motions is to one person's, and whether it still depends on the speech: what a GAN can lose and an error can't show."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from geneface_jax.data.speech_batches import MOUTH

COMPONENTS = 32


@dataclasses.dataclass(frozen=True)
class PersonDomain:
    """A person's landmarks as a Gaussian in the space of their own principal components.

    Attributes:
      center: [204] mean of the training frames. basis: [204, K] principal directions, K <= 32.
      mean, covariance: [K] and [K, K] of the frames that the networks haven't seen.
      mouth_variance: variance of the mouth coordinates over the training frames.
    """

    center: np.ndarray
    basis: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    mouth_variance: float

    @classmethod
    def fit(cls, train: np.ndarray, unseen: np.ndarray) -> PersonDomain:
        """Principal components of `train` [N, 204], Gaussian of `unseen` [M, 204]; N, M >= 2, in network space."""
        train = np.asarray(train, np.float64)
        center = train.mean(0)
        directions = np.linalg.svd(train - center, full_matrices=False)[2]
        basis = directions[: min(COMPONENTS, len(train) - 1)].T
        mean, covariance = _gaussian((unseen - center) @ basis)
        return cls(center, basis, mean, covariance, float(train[:, MOUTH].var(axis=0).mean()))

    def frechet(self, motions: Sequence[np.ndarray]) -> float:
        """Fréchet distance between the frames of `motions` (each [T, 204]) and the person's unseen frames, in squared network units."""
        mean, covariance = _gaussian((np.concatenate(motions) - self.center) @ self.basis)
        return frechet_distance(mean, covariance, self.mean, self.covariance)

    def diversity(self, motions: Sequence[np.ndarray]) -> float:
        """How much the mouth depends on what is heard: its variance between inputs at the same moment, over the person's own variance.

        About 1 when every input moves the mouth in its own way and as far as the person does, 0 when all inputs give the same face.

        Args:
          motions: at least two, each [T, 204], one for each input; all are cut to the shortest.
        """
        frames = min(map(len, motions))
        together = np.stack([np.asarray(motion[:frames, MOUTH], np.float64) for motion in motions])
        return float(together.var(axis=0, ddof=1).mean() / max(self.mouth_variance, 1e-12))


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
