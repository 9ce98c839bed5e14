"""`--orbit` in pixels, on the shipped person: the head turns, the shoulders and the background stay."""

import numpy as np
import pytest

from geneface_jax.inference.motion import orbit, track_indices
from geneface_jax.inference.renderer import open_renderer
from geneface_jax.io import configs
from geneface_jax.io.person_folder import find_parts

SIZE = 48


@pytest.fixture(scope="module")
def frames():
    """uint8 -> int [3, 48, 48, 3]: the camera where it was, and 20 degrees to either side."""
    renderer = open_renderer(find_parts(configs.shipped("checkpoints") / "demo"))
    subject = renderer.subject
    still = subject.cameras[track_indices(subject.cameras, 8, "still")]
    chosen = [0, 2, 6]  # of a swing over eight frames: its middle and both ends
    motion, eyes = np.repeat(subject.motion_mean[None], 3, axis=0), np.full(3, np.median(subject.eye_openness), np.float32)
    pictures = renderer.render(motion, orbit(still, 20.0)[chosen], eyes, torso_cameras=still[chosen], size=SIZE)
    return np.stack(list(pictures)).astype(int)


def test_the_head_turns_to_both_sides_in_its_place(frames):
    middle, right, left = frames
    changed = [np.abs(picture - middle).max(-1) > 12 for picture in (right, left)]
    assert all(0.08 < change.mean() < 0.6 for change in changed), [change.mean() for change in changed]
    assert (np.abs(right - left).max(-1) > 12).mean() > 0.1
    columns = np.flatnonzero((changed[0] | changed[1]).any(0))
    assert abs(columns.mean() - SIZE / 2) < SIZE / 8, "it stays in its place"


def test_shoulders_and_background_stay(frames):
    for picture in frames[1:]:
        for region in (np.s_[-4:], np.s_[:6, :6], np.s_[:6, -6:]):
            np.testing.assert_array_equal(picture[region], frames[0][region])
