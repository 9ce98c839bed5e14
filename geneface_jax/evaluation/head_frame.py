"""Bringing two datasets of one person into the same head frame.

Each dataset's canonical head frame is fitted to its own clip, so two clips of one person agree only up to a few degrees, millimetres and a
per cent of scale. That is nothing to a model trained on one of them, but a picture rendered with the other's cameras is off by as much.

Where both datasets say enough, the clip's poses are solved again with the reference's rigid shape and skin. On the demo's sentence of six
seconds, in which the head looks to one side, that is worth 2.3 dB (27.56 to 29.86 dB, the avatar's head at 256x256, 146 frames); the
landmarks' average shapes, which are used otherwise, are bent by the pose that a short clip shows most.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_tools.face.align import pose_known
from data_tools.face.motion import canonical_landmarks
from data_tools.face.pose import INTERPOLATED_TRUST, camera_matrices, similarity
from data_tools.landmarks68 import motion_from_landmarks
from geneface_jax.data.subject import Subject

STEADY = slice(0, 48)
"""Of the 68 points, all but the mouth: averaged over a clip, even jaw and brows say more about the frame than about the expression."""


def in_head_frame_of(subject: Subject, reference: Subject) -> Subject:
    """`subject` with cameras and motion expressed in the head frame of `reference` (another clip of the same person)."""
    full = subject.landmarks_mediapipe is not None and not subject.is_light
    if full and reference.known_face is not None and subject.face_model == reference.face_model:
        return _solved_again(subject, reference)
    return _moved_over(subject, reference)


def _solved_again(subject: Subject, reference: Subject) -> Subject:
    """Poses and motion from the clip's landmarks and pictures, and the reference's rigid shape and skin."""
    assert reference.known_face is not None and subject.landmarks_mediapipe is not None
    landmarks, trust = subject.landmarks_mediapipe, np.where(subject.interpolated, INTERPOLATED_TRUST, 1.0)
    frames = (subject.frames([i])[0] for i in range(subject.n_frames))
    pose = pose_known(reference.known_face, landmarks, frames, subject.size, trust)
    motion = motion_from_landmarks(canonical_landmarks(landmarks, pose, subject.size))
    return dataclasses.replace(subject, motion=motion, cameras=camera_matrices(pose.rotation, pose.translation))


def _moved_over(subject: Subject, reference: Subject) -> Subject:
    """Cameras and motion moved by the similarity between the clips' average landmarks."""
    landmarks = subject.mean_face + subject.motion / 10.0
    wanted = reference.mean_face + reference.motion / 10.0
    scale, rotation, shift = similarity(landmarks[:, STEADY].mean(0), wanted[:, STEADY].mean(0))
    moved = scale * landmarks @ rotation.T + shift
    cameras = subject.cameras.astype(np.float64)
    cameras[:, :3, :3] = rotation @ cameras[:, :3, :3]
    # Landmarks are in decimetres, cameras in metres.
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ rotation.T + shift / 10.0
    return dataclasses.replace(subject, motion=(10.0 * (moved - subject.mean_face)).astype(np.float32), cameras=cameras.astype(np.float32))
