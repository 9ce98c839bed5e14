"""Figures that tell whether predicted motion fits the speech, in network space or any other scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOUTH_POINTS = slice(48, 68)
UPPER_INNER_LIP, LOWER_INNER_LIP = (61, 62, 63), (67, 66, 65)


def mouth_opening(motion: np.ndarray) -> np.ndarray:
    """[T, 204] -> [T] vertical distance of the inner lips in the motion's unit, up to the mean face's own (a constant)."""
    points = motion.reshape(-1, 68, 3)
    return (points[:, UPPER_INNER_LIP, 1] - points[:, LOWER_INNER_LIP, 1]).mean(axis=-1)


def motion_lmd(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of the mouth points after subtracting each sequence's mean landmarks (the face's shape is unknowable from speech)."""
    difference = (prediction - prediction.mean(0)) - (truth - truth.mean(0))
    return float(np.linalg.norm(difference.reshape(-1, 68, 3)[:, MOUTH_POINTS], axis=-1).mean())


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; 0 when one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale > 1e-12 else 0.0


def summarise(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], prefix: str = "val/") -> dict[str, float]:
    """Frame-weighted means over clips: `lmd`, `lmd_still` (of no motion), `lmd_ratio`, `mouth_correlation`, `mouth_amplitude`, `mse`."""
    frames = np.array([len(truth) for truth in truths], np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.sum(np.array(values) * frames) / frames.sum())

    pairs = list(zip(predictions, truths, strict=True))
    openings = [(mouth_opening(prediction), mouth_opening(truth)) for prediction, truth in pairs]
    lmd = mean([motion_lmd(prediction, truth) for prediction, truth in pairs])
    still = mean([motion_lmd(np.zeros_like(truth), truth) for truth in truths])
    return {
        f"{prefix}lmd": lmd,
        f"{prefix}lmd_still": still,
        f"{prefix}lmd_ratio": lmd / max(still, 1e-12),
        f"{prefix}mouth_correlation": mean([correlation(*pair) for pair in openings]),
        f"{prefix}mouth_amplitude": mean([pair[0].std() / max(pair[1].std(), 1e-12) for pair in openings]),
        f"{prefix}mse": mean([float(np.mean(np.square(prediction - truth))) for prediction, truth in pairs]),
    }
