"""What goes wrong in the picture, as numbers: cuts, jumps of the head, blur."""

from __future__ import annotations

import cv2
import numpy as np

NEIGHBOURHOOD = 6
"""Frames to each side that a frame's change is compared with."""

THUMBNAIL = 32
FACE_PIXELS = 96
"""Height to which a face is brought before its sharpness is taken: larger faces must not look blurred, smaller ones not sharp."""


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [32, 32, 3], all that is kept of a frame to find cuts."""
    return cv2.resize(frame, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)


def sharpness(frame: np.ndarray, face: tuple[int, int, int, int]) -> float:
    """How much fine detail a face shows: the Laplacian's standard deviation over the grey levels' own.

    Args:
      frame: uint8 [H, W, 3].
      face: x0, y0, x1, y1 in its pixels; brought to 96 pixels' height, never enlarged.

    Returns:
      0 for a flat area, about 0.05 for a smeared face and 0.2 or more for a sharp one.
    """
    x0, y0, x1, y1 = face
    grey = cv2.cvtColor(np.ascontiguousarray(frame[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = FACE_PIXELS / grey.shape[0]
    if scale < 1.0:
        grey = cv2.resize(grey, (max(round(grey.shape[1] * scale), 8), FACE_PIXELS), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(float(grey.std()), 1.0)) / 2.0


def isolated_change(change: np.ndarray) -> float:
    """[T - 1] change from each frame to the next -> how far the largest one stands out above the median of its neighbours.

    A moving camera or head changes every frame; a cut changes one.
    """
    if len(change) == 0:
        return 0.0
    padded = np.pad(np.asarray(change, np.float64), NEIGHBOURHOOD, mode="reflect" if len(change) > NEIGHBOURHOOD else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURHOOD + 1)
    return float((change - np.median(windows, axis=1)).max())


def cut_levels(thumbnails: np.ndarray) -> float:
    """[T, 32, 32, 3] thumbnails -> the clip's strongest cut in mean absolute grey levels."""
    return isolated_change(np.abs(np.diff(thumbnails, axis=0)).mean((1, 2, 3)))


def head_jump(landmarks: np.ndarray, height: float) -> float:
    """[T, P, 2] rigid landmarks -> the largest isolated jump of their centre, in face heights (`height` in the landmarks' unit)."""
    return isolated_change(np.linalg.norm(np.diff(landmarks.mean(1), axis=0), axis=-1)) / max(height, 1e-6)
