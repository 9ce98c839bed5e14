"""The arrays of a dataset, from landmarks, poses and sound."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.audio.features import AudioFeatures
from data_tools.dataset.settings import Settings
from data_tools.face.bfm_fit import CAMERA_DISTANCE, fit_face_model
from data_tools.face.bfm_model import load_face_model
from data_tools.face.canonical import LANDMARKS_68, mean_face, motion_from_landmarks
from data_tools.face.geometry import eye_openness, face_box, lip_box, pick_68
from data_tools.face.motion import canonical_landmarks
from data_tools.face.pose import HeadPose, camera_matrices


def n_train_frames(n_frames: int) -> int:
    """The first n_train frames train, the last eleventh is held out."""
    return n_frames * 10 // 11


def make_arrays(
    landmarks: np.ndarray, found: np.ndarray, pose: HeadPose, samples: np.ndarray, size: int, audio: AudioFeatures
) -> dict[str, np.ndarray]:
    """All arrays of `arrays.npz` (docs/file-formats.md).

    Args:
      landmarks: [T, 478, 3] pixels, without gaps.
      found: [T] bool, False where the landmarks were interpolated.
      pose: the clip's poses.
      samples: [n] float32 sound at 16 kHz.
      size: pixels of the crop.
      audio: the audio features to compute.
    """
    n_frames = len(landmarks)
    features, f0 = audio.compute(samples, n_frames)
    points = canonical_landmarks(landmarks, pose, size)
    motion = motion_from_landmarks(points)
    landmarks_2d = pick_68(landmarks)[..., :2].astype(np.float32)
    return {
        "audio_features": features.astype(np.float32),
        "f0": f0.astype(np.float32),
        "motion": motion,
        **_statistics(motion),
        "mean_face": mean_face(),
        "landmarks_2d": landmarks_2d,
        "landmarks_mediapipe": landmarks.astype(np.float32),
        "cameras": camera_matrices(pose.rotation, pose.translation),
        "eye_openness": eye_openness(points),
        "face_box": face_box(landmarks_2d, size),
        "lip_box": lip_box(landmarks_2d, size),
        "interpolated": ~found,
    }


def with_face_model(arrays: dict[str, np.ndarray], settings: Settings) -> dict[str, np.ndarray]:
    """The arrays with landmarks, expression and cameras of the Basel face model, fitted to the clip.

    As in GeneFace++, motion is ten times what identity and expression move the model's 68 points by, and `mean_face` is the model's.

    Args:
      arrays: from `make_arrays`.
      settings: of the dataset; its `bfm_folder` is read.

    Raises:
      InputError: the model's files can't be read.
    """
    model = load_face_model(settings.bfm_folder)
    fit = fit_face_model(arrays["landmarks_mediapipe"], settings.size, model)
    basis, offset = 10.0 * model.expression[LANDMARKS_68], 10.0 * model.identity[LANDMARKS_68] @ fit.identity
    motion = (np.einsum("pce,te->tpc", basis, fit.expression) + offset).astype(np.float32)
    mean = model.mean[LANDMARKS_68].astype(np.float32)
    rotation = Rotation.from_euler("xyz", fit.euler).as_matrix()
    translation = fit.translation.astype(np.float64) - [0.0, 0.0, CAMERA_DISTANCE]
    return arrays | {
        "motion": motion,
        **_statistics(motion),
        "mean_face": mean,
        "cameras": camera_matrices(rotation, translation),
        "eye_openness": eye_openness(motion / 10.0 + mean),
        "expression_basis": np.moveaxis(basis, -1, 0).astype(np.float32),
        "expression_offset": offset.astype(np.float32),
    }


def _statistics(motion: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and standard deviation over the training frames."""
    train = motion[: n_train_frames(len(motion))]
    return {"motion_mean": train.mean(0).astype(np.float32), "motion_std": train.std(0).astype(np.float32)}
