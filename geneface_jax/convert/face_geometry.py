"""What a dataset of the originals leaves to the Basel face model, recovered from the data without it.

A face model is linear: landmarks = mean + identity + basis * expression. A video shows enough frames to solve for the mean (with landmarks
seen in the picture) and for the basis (with the coefficients that the originals store beside the landmarks).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PRIOR_WEIGHT = 1e-3
"""Weight of the prior mean face against the frames' mean: depth is hardly seen in the video of a person who does not turn."""


class ExpressionBasis(NamedTuple):
    """motion = expression @ basis + offset; basis [E, 68, 3], offset [68, 3]; residual: rms error over rms deviation of the motion."""

    basis: np.ndarray
    offset: np.ndarray
    residual: float


def expression_basis(expression: np.ndarray, motion: np.ndarray) -> ExpressionBasis:
    """Solves for the landmarks of a face model's coefficients by least squares.

    Directions of expression that the frames do not show come out as zero.

    Args:
      expression: [T, E]. motion: [T, 68, 3] of the same frames and one identity.
    """
    flat = motion.reshape(len(motion), -1).astype(np.float64)
    centre, mean = expression.mean(0, dtype=np.float64), flat.mean(0)
    basis = np.linalg.lstsq(expression - centre, flat - mean, rcond=1e-6)[0]
    error = (expression - centre) @ basis - (flat - mean)
    spread = np.sqrt(np.mean((flat - mean) ** 2)) + 1e-12
    offset = mean - centre @ basis
    shape = (expression.shape[1], 68, 3)
    return ExpressionBasis(
        basis.reshape(shape).astype(np.float32), offset.reshape(68, 3).astype(np.float32), float(np.sqrt(np.mean(error**2)) / spread)
    )


def fit_mean_face(
    motion: np.ndarray, landmarks_2d: np.ndarray, cameras: np.ndarray, intrinsics: dict[str, float], prior: np.ndarray
) -> np.ndarray:
    """The mean face under which the landmarks lie where the pictures show them.

    A pixel (u, v) says that (u - cx) z = fx x and (cy - v) z = fy y for the point (x, y, -z) in the camera: linear in the point, so every
    landmark is a small linear problem over all frames, held to the prior where the frames say little.

    Args:
      motion: [T, 68, 3]. landmarks_2d: [T, 68, 2] pixels. cameras: [T, 4, 4] camera to world, metres.
      intrinsics: fx, fy, cx, cy in pixels.
      prior: [68, 3] decimetres.

    Returns:
      [68, 3] float32, decimetres.
    """
    rotation, position = cameras[:, :3, :3].astype(np.float64), cameras[:, :3, 3].astype(np.float64)
    u = (landmarks_2d[..., 0].astype(np.float64) - intrinsics["cx"]) / intrinsics["fx"]
    v = (intrinsics["cy"] - landmarks_2d[..., 1].astype(np.float64)) / intrinsics["fy"]
    # Rows of (world to camera): x, y, and depth -z; each of the two equations is a vector that the point minus the camera is orthogonal to.
    right, up, depth = rotation[:, :, 0], rotation[:, :, 1], -rotation[:, :, 2]
    across = u[..., None] * depth[:, None] - right[:, None]
    along = v[..., None] * depth[:, None] - up[:, None]
    rows = np.concatenate([across, along])
    moved = position[:, None] - motion.astype(np.float64) / 100.0
    known = np.concatenate([np.sum(across * moved, -1), np.sum(along * moved, -1)])
    normal = np.einsum("npi,npj->pij", rows, rows) / len(motion)
    right_side = np.einsum("npi,np->pi", rows, known) / len(motion)
    load = PRIOR_WEIGHT * np.eye(3)
    solved = np.linalg.solve(normal + load, (right_side + PRIOR_WEIGHT * prior / 10.0)[..., None])[..., 0]
    return (10.0 * solved).astype(np.float32)
