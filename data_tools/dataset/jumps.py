"""Jumps of the head: a piece cut out of the middle of one scene. (Cuts to another scene are found by `data_tools.video.cuts`.)"""

from __future__ import annotations

import numpy as np

from data_tools.face.geometry import CHIN, FOREHEAD, RIGID

JUMP = 0.1
"""Face heights by which the head moves in one frame, above its neighbours: a piece was cut out of the middle."""

NEIGHBOURHOOD = 6
"""Frames to each side that a movement is compared with: a head that turns moves in every frame, a cut moves it in one."""


def isolated(change: np.ndarray, threshold: float) -> np.ndarray:
    """[T - 1] change from each frame to the next -> the frames (second of the pair) whose change stands out by `threshold`."""
    if len(change) == 0:
        return np.zeros(0, int)
    padded = np.pad(np.asarray(change, np.float64), NEIGHBOURHOOD, mode="reflect" if len(change) > NEIGHBOURHOOD else "edge")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURHOOD + 1), axis=1)
    return np.flatnonzero(change - around > threshold) + 1


def told_jumps(landmarks: np.ndarray, fps: float, start: float = 0.0) -> list[str]:
    """A sentence when the head jumps, as where a piece was cut out.

    Args:
      landmarks: [T, 478, 2+] pixels.
      fps: frames per second.
      start: seconds of the source where it begins.
    """
    height = float(np.median(np.linalg.norm(landmarks[:, FOREHEAD, :2] - landmarks[:, CHIN, :2], axis=-1)))
    centre = landmarks[:, RIGID, :2].mean(1)
    jumps = isolated(np.linalg.norm(np.diff(centre, axis=0), axis=-1) / max(height, 1e-6), JUMP)
    if not len(jumps):
        return []
    times = ", ".join(f"{start + jump / fps:.2f} s" for jump in jumps[:5]) + (" and more" if len(jumps) > 5 else "")
    return [f"the head jumps at {times}, as if a piece had been cut out there"]
