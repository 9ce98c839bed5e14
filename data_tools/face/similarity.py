"""The similarity between two point sets: scale, rotation and shift."""

from __future__ import annotations

import numpy as np


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale, rotation and shift that move points onto others with the least squared error (Umeyama 1991).

    Args:
      source, target: [..., P, 3], P >= 3 points that don't lie on a line.

    Returns:
      s [...], R [..., 3, 3], d [..., 3] that minimise |s R source + d - target|^2; R is a rotation, never a reflection.
    """
    centre_s, centre_t = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    a, b = source - centre_s, target - centre_t
    u, values, vt = np.linalg.svd(np.swapaxes(b, -1, -2) @ a)
    flip = np.ones_like(values)
    flip[..., -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[..., None, :]) @ vt
    scale = (values * flip).sum(-1) / (a**2).sum((-1, -2))
    shift = centre_t[..., 0, :] - scale[..., None] * np.einsum("...ij,...j->...i", rotation, centre_s[..., 0, :])
    return scale, rotation, shift
