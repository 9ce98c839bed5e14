"""The arrays of a dataset, from landmarks, poses and sound."""

from __future__ import annotations

import numpy as np

from data_tools.audio.features import AudioFeatures
from data_tools.face.canonical import mean_face, motion_from_landmarks
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
    train = motion[: n_train_frames(n_frames)]
    landmarks_2d = pick_68(landmarks)[..., :2].astype(np.float32)
    return {
        "audio_features": features.astype(np.float32),
        "f0": f0.astype(np.float32),
        "motion": motion,
        "motion_mean": train.mean(0).astype(np.float32),
        "motion_std": train.std(0).astype(np.float32),
        "mean_face": mean_face(),
        "landmarks_2d": landmarks_2d,
        "landmarks_mediapipe": landmarks.astype(np.float32),
        "cameras": camera_matrices(pose.rotation, pose.translation),
        "eye_openness": eye_openness(points),
        "face_box": face_box(landmarks_2d, size),
        "lip_box": lip_box(landmarks_2d, size),
        "interpolated": ~found,
    }
