"""Bringing two datasets of one person into the same head frame.

Each dataset's canonical head frame is fitted to its own clip, so two clips of one person agree only up to a few degrees, millimetres and a
per cent of scale. That is nothing to a model trained on one of them, but a picture rendered with the other's cameras is off by as much.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_tools.face.similarity import similarity
from geneface_jax.data.subject import Subject

STEADY = slice(0, 48)
"""Of the 68 points, all but the mouth: averaged over a clip, even jaw and brows say more about the frame than about the expression."""


def in_head_frame_of(subject: Subject, reference: Subject) -> Subject:
    """`subject` with cameras and motion expressed in the head frame of `reference` (another clip of the same person)."""
    landmarks = subject.mean_face + subject.motion / 10.0
    wanted = reference.mean_face + reference.motion / 10.0
    scale, rotation, shift = similarity(landmarks[:, STEADY].mean(0), wanted[:, STEADY].mean(0))
    moved = scale * landmarks @ rotation.T + shift
    cameras = subject.cameras.astype(np.float64)
    cameras[:, :3, :3] = rotation @ cameras[:, :3, :3]
    # Landmarks are in decimetres, cameras in metres.
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ rotation.T + shift / 10.0
    return dataclasses.replace(subject, motion=(10.0 * (moved - subject.mean_face)).astype(np.float32), cameras=cameras.astype(np.float32))
