"""A short video of landmarks for TensorBoard: the truth beside the prediction, so that a validation can be looked at."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from data_tools.landmarks68 import mean_face
from geneface_jax.rendering.landmark_video import landmark_frames


def landmark_clip(
    truth: np.ndarray, prediction: np.ndarray, std: np.ndarray, center: np.ndarray, config: ConfigDict
) -> dict[str, np.ndarray]:
    """Draws the beginning of a validation clip.

    Args:
      truth, prediction: [T, 204] in network space.
      std, center: [204]; motion = network * std + center.
      config: `frames`, the longest clip that is drawn (0 = none), and `size`, of a panel in pixels.

    Returns:
      `{"val/landmarks": uint8 [frames, size, 2 * size, 3]}`, or {} when no frames are wanted.
    """
    if not config.frames:
        return {}
    motions = [motion[: config.frames] * std + center for motion in (truth, prediction)]
    return {"val/landmarks": np.stack(list(landmark_frames(motions, ("truth", "prediction"), mean_face(), config.size)))}
