"""A drawn face for the tests of tracking and cropping."""

from __future__ import annotations

import numpy as np

from data_tools.landmarks68 import CHIN, FOREHEAD


def face(x=0.5, y=0.5, height=0.2):
    """A 478-point oval in fractions of the picture."""
    angle = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points = np.stack([x + 0.4 * height * np.sin(angle), y - 0.5 * height * np.cos(angle), 0 * angle], 1)
    points[[FOREHEAD, CHIN], :2] = [[x, y - height / 2], [x, y + height / 2]]
    return points.astype(np.float32)
