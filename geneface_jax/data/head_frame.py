"""Bringing two datasets of one person into the same head frame.

Each dataset's canonical head frame is fitted to its own clip, so two clips of one person agree only up to a few degrees, millimetres and a
per cent of scale. That is nothing to a model trained on one of them, but a picture rendered with the other's cameras is off by as much.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from geneface_jax.data.subject import Subject

STEADY = slice(0, 48)
"""Of the 68 points, all but the mouth: averaged over a clip, even jaw and brows say more about the frame than about the expression."""


def similarity_between(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation [3, 3] and shift [3] that move points [P, 3] onto others with the least squared error (Umeyama 1991)."""
    centre_s, centre_t = source.mean(0), target.mean(0)
    u, values, vt = np.linalg.svd((target - centre_t).T @ (source - centre_s))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * signs) @ vt
    scale = float(np.sum(values * signs) / np.sum((source - centre_s) ** 2))
    return scale, rotation, centre_t - scale * rotation @ centre_s


def in_head_frame_of(subject: Subject, reference: Subject) -> Subject:
    """`subject` with cameras and motion expressed in the head frame of `reference` (another clip of the same person)."""
    landmarks = subject.mean_face + subject.motion / 10.0
    wanted = reference.mean_face + reference.motion / 10.0
    scale, rotation, shift = similarity_between(landmarks[:, STEADY].mean(0), wanted[:, STEADY].mean(0))
    moved = scale * landmarks @ rotation.T + shift
    cameras = subject.cameras.astype(np.float64)
    cameras[:, :3, :3] = rotation @ cameras[:, :3, :3]
    # Landmarks are in decimetres, cameras in metres.
    cameras[:, :3, 3] = scale * cameras[:, :3, 3] @ rotation.T + shift / 10.0
    return dataclasses.replace(subject, motion=(10.0 * (moved - subject.mean_face)).astype(np.float32), cameras=cameras.astype(np.float32))
