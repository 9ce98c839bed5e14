"""The mesh under the parameters: what must move moves, what must stay stays, lips meet but never cross."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.avatar.geometry import INNER_LOWER_LIP, INNER_UPPER_LIP, rest_vertices, skin_triangles
from data_tools.avatar.performance import eye_openness, face_vertices, mouth_opening
from data_tools.avatar.speakers import PARAMETERS, make_speaker
from data_tools.landmarks68 import LANDMARKS_68, canonical_face

NAMES = ("demo", "bruno", "hao")


def pose(name: str = "demo", blink: float = 0.0, brow: float = 0.0, **mouth: float) -> np.ndarray:
    parameters = np.array([[mouth.get(key, 0.0) for key in PARAMETERS]], np.float32)
    return face_vertices(rest_vertices(make_speaker(name)), parameters, np.array([blink]), np.array([brow]))[0]


def opening(**mouth: float) -> float:
    return float(mouth_opening(pose(**mouth)[LANDMARKS_68]))


@pytest.mark.parametrize("name", NAMES)
def test_neutral_parameters_give_the_face_at_rest(name):
    np.testing.assert_allclose(pose(name), rest_vertices(make_speaker(name)), atol=1e-4)


def test_the_mouth_is_shut_at_rest_and_opens_with_the_jaw():
    openings = [opening(jaw=jaw) for jaw in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert openings[0] < 0.005
    assert np.all(np.diff(openings) > 0.05)


@pytest.mark.parametrize("other", [{}, {"wide": -1.0, "protrude": 1.0}, {"upper": 1.0, "lower": 1.0}, {"jaw": 0.8}])
def test_closing_shuts_the_lips_whatever_else_they_do(other):
    assert opening(**{"jaw": 0.3, "close": 1.0, **other}) < 0.03


@pytest.mark.parametrize("seed", range(5))
def test_lips_never_cross(seed):
    generator = np.random.default_rng(seed)
    mouth = {name: generator.uniform(-1.0 if name == "wide" else 0.0, 1.0) for name in PARAMETERS}
    vertices = pose(**mouth)
    gap = vertices[list(INNER_UPPER_LIP), 1] - vertices[list(INNER_LOWER_LIP), 1]
    assert gap.min() > -1e-4


def test_rounding_narrows_and_protrudes():
    rest, rounded, spread = pose(), pose(wide=-0.9, protrude=0.9), pose(wide=0.8)
    width = [abs(v[61, 0] - v[291, 0]) for v in (rounded, rest, spread)]
    assert width[0] < 0.8 * width[1] and width[2] > 1.08 * width[1]
    assert rounded[0, 2] > rest[0, 2] + 0.4


def test_a_blink_shuts_the_eyes_and_nothing_else():
    openness = [float(eye_openness(pose(blink=blink)[LANDMARKS_68])) for blink in (0.0, 0.5, 1.0)]
    assert openness[0] > 0.2 > openness[1] > openness[2] and openness[2] < 0.05
    below_nose = rest_vertices(make_speaker("demo"))[:, 1] < -1.0
    assert np.abs(pose(blink=1.0) - pose())[below_nose].max() < 0.02


def test_speech_does_not_move_eyes_and_forehead():
    moved = np.abs(pose(jaw=0.8, wide=0.5, upper=0.5, lower=0.5) - pose()).max(axis=1)
    assert moved[rest_vertices(make_speaker("demo"))[:, 1] > 1.5].max() < 0.06
    assert moved[152] > 1.0


def test_movement_is_symmetric():
    mirror = canonical_face()["vertices"] * np.array([-1, 1, 1])
    partner = np.argmin(np.linalg.norm(mirror[:, None] - canonical_face()["vertices"][None], axis=-1), axis=1)
    vertices = pose(jaw=0.6, wide=0.4, upper=0.3, lower=0.4, blink=0.5, brow=0.5)
    np.testing.assert_allclose(vertices[partner] * np.array([-1, 1, 1]), vertices, atol=0.02)


def test_no_skin_triangle_turns_over_in_speech():
    triangles = skin_triangles()

    def front(vertices: np.ndarray) -> np.ndarray:
        a, b, c = (vertices[triangles[:, i]] for i in range(3))
        return np.cross(b - a, c - a)[:, 2]

    was_front = front(pose()) > 0.01
    for mouth in ({"jaw": 0.8}, {"wide": -0.9, "protrude": 0.9, "jaw": 0.2}, {"wide": 0.8, "jaw": 0.2, "lower": 0.4}):
        assert np.mean(front(pose(**mouth))[was_front] < 0) < 0.01


def test_every_speaker_has_another_face():
    faces = [pose(name)[LANDMARKS_68] for name in NAMES]
    for i, a in enumerate(faces):
        for b in faces[i + 1 :]:
            assert np.linalg.norm(a - b, axis=-1).mean() > 0.15
    np.testing.assert_array_equal(pose("demo"), pose("demo"))
