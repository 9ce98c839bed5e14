"""From the segmenter's 256x256 confidence to a soft person mask at the picture's size."""

from __future__ import annotations

import cv2
import numpy as np


def smooth_in_time(layers: np.ndarray, index: int) -> np.ndarray:
    """[T, ...] uint8 mask layers -> [...] float32 0..1 of frame `index`: weights 1/4, 1/2, 1/4 over the neighbours, which takes the flicker
    off edges. The clip's ends count as still."""
    last = len(layers) - 1
    before, now, after = (layers[i].astype(np.float32) for i in (max(index - 1, 0), index, min(index + 1, last)))
    return (before + 2.0 * now + after) / (4.0 * 255.0)


def refine(confidence: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Scales a confidence up and lets its edge follow the picture's (guided filter).

    Args:
      confidence: [h, w] float32 0..1.
      frame: [H, W, 3] uint8.

    Returns:
      [H, W] float32 0..1, soft mask of the person.
    """
    size = frame.shape[0]
    mask = cv2.resize(confidence, (frame.shape[1], size), interpolation=cv2.INTER_LINEAR)
    # A grey guide does as well as a colour one here and is ten times faster.
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mask = cv2.ximgproc.guidedFilter(guide, mask, radius=max(size // 64, 2), eps=(0.02 * 255) ** 2)
    # The network is sure of little exactly at 0 or 1; the ramp between 0.15 and 0.75 becomes the soft edge.
    return np.clip((mask - 0.15) / 0.6, 0.0, 1.0)
