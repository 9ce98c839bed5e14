"""How much the head pose of a dataset trembles, before smoothing and after it."""

from __future__ import annotations

import numpy as np

from data_tools.face import pose as face_pose
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.landmarks import jitter, pose_jitter


def smoothing_report(subject: Subject) -> dict[str, dict[str, float]]:
    """Jitter of the pose path, fitted to the dataset's landmarks frame by frame, and of the path the dataset holds.

    Args:
      subject: a full dataset; its whole clip is looked at, since that is what was smoothed together.

    Returns:
      {"before", "after"}, each {"rotation_degrees", "translation_mm" (mean second differences), "pixels" (the same of the face's rigid
      points as the poses project them, in pixels of the dataset's size)}.
    """
    assert subject.landmarks_mediapipe is not None  # a light dataset is never evaluated
    trust = np.where(subject.interpolated, 1e-3, 1.0)
    fitted = face_pose.solve_poses(subject.landmarks_mediapipe, subject.size, trust)
    before = face_pose.camera_matrices(fitted.unsmoothed_rotation, fitted.unsmoothed_translation)
    return {
        "before": _figures(before, fitted.shape, subject.size),
        "after": _figures(subject.cameras, fitted.shape, subject.size),
    }


def _figures(cameras: np.ndarray, shape: np.ndarray, size: int) -> dict[str, float]:
    degrees, millimetres = pose_jitter(cameras)
    rotation = cameras[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    # Cameras are in metres, the shape in decimetres.
    translation = -10.0 * np.einsum("tij,tj->ti", rotation, cameras[:, :3, 3].astype(np.float64))
    return {
        "rotation_degrees": degrees,
        "translation_mm": millimetres,
        "pixels": jitter(face_pose.project(shape, rotation, translation, size)),
    }
