"""A clip's true motion: what the mesh does, before any rendering. The corpus and the renderer share it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from data_tools.avatar.behaviour import Behaviour, make_behaviour
from data_tools.avatar.expression import face_vertices
from data_tools.avatar.identity import rest_vertices
from data_tools.avatar.speakers import Speaker, make_speaker
from data_tools.avatar.speech import SpeechClip
from data_tools.avatar.visemes import mouth_parameters
from data_tools.face.canonical import LANDMARKS_68, motion_from_landmarks


@dataclass(frozen=True)
class Performance:
    """A speaker saying a clip. `vertices` [T, 468, 3] cm in the canonical head frame, `mouth` [T, 8] (`visemes.PARAMETERS`)."""

    clip: SpeechClip
    speaker: Speaker
    mouth: np.ndarray
    behaviour: Behaviour
    vertices: np.ndarray

    @property
    def motion(self) -> np.ndarray:
        """[T, 68, 3] float32, ten times the displacement from the mean face in decimetres."""
        return motion_from_landmarks(self.vertices[:, LANDMARKS_68] / 10.0)


def perform(clip: SpeechClip, seed: int = 0) -> Performance:
    """Lets the clip's speaker say it; `seed` changes head movement, blinks and brows, not the speech."""
    speaker = make_speaker(clip.speaker)
    n_frames = clip.n_frames
    mouth = mouth_parameters(clip.phonemes, clip.samples, n_frames, speaker.expressiveness)
    behaviour = make_behaviour(n_frames, seed + zlib.crc32(clip.name.encode()))
    vertices = face_vertices(rest_vertices(speaker), mouth, behaviour.blink, behaviour.brow)
    return Performance(clip, speaker, mouth, behaviour, vertices)


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] landmarks -> [...] mean over both eyes of lid gap / eye width, about 0 (shut) to 0.4."""
    ratios = []
    for first in (36, 42):
        eye = landmarks[..., first : first + 6, :]
        gap = np.linalg.norm(eye[..., 1, :] - eye[..., 5, :], axis=-1) + np.linalg.norm(eye[..., 2, :] - eye[..., 4, :], axis=-1)
        ratios.append(gap / (2.0 * np.linalg.norm(eye[..., 0, :] - eye[..., 3, :], axis=-1)))
    return np.mean(ratios, axis=0).astype(np.float32)


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] landmarks -> [...] gap between the inner lips' middles / distance of the mouth's outer corners, >= 0."""
    gap = np.linalg.norm(landmarks[..., 62, :] - landmarks[..., 66, :], axis=-1)
    return (gap / np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)).astype(np.float32)
