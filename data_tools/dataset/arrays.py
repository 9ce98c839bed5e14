"""The arrays of a dataset (arrays.npz) from landmarks, poses and audio; detection of head jumps."""

import numpy as np
from scipy.spatial.transform import Rotation

from data_tools import landmarks68
from data_tools.audio.sound import AudioFeatures
from data_tools.dataset.settings import Settings
from data_tools.face.bfm import CAMERA_DISTANCE, fit_face_model, load_face_model
from data_tools.face.pose import HeadPose, camera_matrices, canonical_landmarks

# -------- Contents of arrays.npz


def n_train_frames(n_frames: int) -> int:
    """Number of leading frames used for training; the last eleventh is held out."""
    return n_frames * 10 // 11


def make_arrays(
    landmarks: np.ndarray, found: np.ndarray, pose: HeadPose, samples: np.ndarray, size: int, audio: AudioFeatures
) -> dict[str, np.ndarray]:
    """All arrays of `arrays.npz` (docs/file-formats.md).

    Args:
      landmarks: [T, 478, 3] pixels, without gaps.
      found: [T] bool, False where the landmarks were interpolated.
      pose: head poses of the T frames.
      samples: [n] float32 audio at 16 kHz.
      size: pixels of the crop.
      audio: the audio features to compute.
    """
    n_frames = len(landmarks)
    features, f0 = audio.compute(samples, n_frames)
    points = canonical_landmarks(landmarks, pose, size)
    motion = landmarks68.motion_from_landmarks(points)
    landmarks_2d = landmarks68.pick_68(landmarks)[..., :2].astype(np.float32)
    return {
        "audio_features": features.astype(np.float32),
        "f0": f0.astype(np.float32),
        "motion": motion,
        **_statistics(motion),
        "mean_face": landmarks68.mean_face(),
        "landmarks_2d": landmarks_2d,
        "landmarks_mediapipe": landmarks.astype(np.float32),
        "cameras": camera_matrices(pose.rotation, pose.translation),
        "eye_openness": landmarks68.eye_openness(points),
        "face_box": landmarks68.face_box(landmarks_2d, size),
        "lip_box": landmarks68.lip_box(landmarks_2d, size),
        "interpolated": ~found,
    }


def with_face_model(arrays: dict[str, np.ndarray], settings: Settings) -> dict[str, np.ndarray]:
    """Replaces motion and cameras of `make_arrays` by those of the Basel face model fitted to the clip (files in `settings.bfm_folder`).

    As in GeneFace++, motion is ten times the displacement of the model's 68 points by identity and expression, and `mean_face` is the
    model's mean.

    Raises:
      InputError: the model's files can't be read.
    """
    model = load_face_model(settings.bfm_folder)
    fit = fit_face_model(arrays["landmarks_mediapipe"], settings.size, model)
    basis, offset = 10.0 * model.expression[landmarks68.LANDMARKS_68], 10.0 * model.identity[landmarks68.LANDMARKS_68] @ fit.identity
    motion = (np.einsum("pce,te->tpc", basis, fit.expression) + offset).astype(np.float32)
    mean = model.mean[landmarks68.LANDMARKS_68].astype(np.float32)
    rotation = Rotation.from_euler("xyz", fit.euler).as_matrix()
    translation = fit.translation.astype(np.float64) - [0.0, 0.0, CAMERA_DISTANCE]
    return arrays | {
        "motion": motion,
        **_statistics(motion),
        "mean_face": mean,
        "cameras": camera_matrices(rotation, translation),
        "eye_openness": landmarks68.eye_openness(motion / 10.0 + mean),
        "expression_basis": np.moveaxis(basis, -1, 0).astype(np.float32),
        "expression_offset": offset.astype(np.float32),
    }


def _statistics(motion: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and standard deviation over the training frames."""
    train = motion[: n_train_frames(len(motion))]
    return {"motion_mean": train.mean(0).astype(np.float32), "motion_std": train.std(0).astype(np.float32)}


# -------- Jump cuts within one scene, seen as jumps of the head. (Cuts to another scene are found by `data_tools.video`.)

JUMP = 0.1
"""A jump is a movement in one frame, above the local median, of this many face heights."""

NEIGHBORHOOD = 6
"""Frames to each side of the local median: a head that turns moves in every frame, a cut moves it in one."""


def excess_change(change: np.ndarray) -> np.ndarray:
    """[T - 1] frame-to-frame change -> [T - 1] by how much each exceeds the median of its neighborhood.

    A moving camera or head changes every frame; a cut changes one.
    """
    if len(change) == 0:
        return np.zeros(0)
    padded = np.pad(np.asarray(change, np.float64), NEIGHBORHOOD, mode="reflect" if len(change) > NEIGHBORHOOD else "edge")
    return change - np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBORHOOD + 1), axis=1)


def describe_jumps(landmarks: np.ndarray, fps: float, start: float = 0.0) -> list[str]:
    """A note if the head jumps, as at a jump cut; `landmarks` [T, 478, 2+] pixels, `start` seconds of the source at frame 0."""
    height = float(np.median(np.linalg.norm(landmarks[:, landmarks68.FOREHEAD, :2] - landmarks[:, landmarks68.CHIN, :2], axis=-1)))
    center = landmarks[:, landmarks68.RIGID, :2].mean(1)
    jumps = np.flatnonzero(excess_change(np.linalg.norm(np.diff(center, axis=0), axis=-1) / max(height, 1e-6)) > JUMP) + 1
    if not len(jumps):
        return []
    times = ", ".join(f"{start + jump / fps:.2f} s" for jump in jumps[:5]) + (" and more" if len(jumps) > 5 else "")
    return [f"the head jumps at {times}, as if a piece had been cut out there"]
