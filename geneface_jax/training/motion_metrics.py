"""Figures of a validation that tell whether predicted motion fits the speech, in network space or any other scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geneface_jax.data.motion import lip_distance, motion_lmd, pearson


def summarise(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], prefix: str = "val/") -> dict[str, float]:
    """Frame-weighted means over clips: `lmd`, `lmd_still` (of no motion), `lmd_ratio`, `mouth_correlation`, `mouth_amplitude`, `mse`.

    Args:
      predictions, truths: motions [T, 204], clip by clip. prefix: of the names.

    A mouth that stands still has the correlation 0.
    """
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
