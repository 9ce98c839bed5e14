"""Resizing, backgrounds and landmark drawings."""

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from data_tools.landmarks68 import mean_face
from geneface_jax.inference.pictures import load_background, resize
from geneface_jax.rendering.landmark_video import draw_face, landmark_frames, project

NOISE = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)


def test_whole_number_factors_are_block_means():
    small = resize(NOISE, 16, 20)
    np.testing.assert_allclose(small, NOISE.reshape(16, 3, 20, 3, 3).mean((1, 3)), atol=0.51)


@pytest.mark.parametrize("size", [(31, 47), (20, 7), (48, 60), (1, 1)])
def test_area_means_keep_the_mean_and_constants(size):
    small = resize(NOISE, *size)
    assert small.shape == (*size, 3) and abs(small.mean() - NOISE.mean()) < 1.0
    np.testing.assert_array_equal(resize(np.full_like(NOISE, 77), *size), 77)


def test_masks_and_enlarging():
    assert resize(NOISE[..., 0], 20, 30).shape == (20, 30)
    assert resize(NOISE, 96, 120).shape == (96, 120, 3)
    assert resize(NOISE, 48, 60) is NOISE


def test_backgrounds(tmp_path):
    assert load_background("original", 8) is None
    np.testing.assert_array_equal(load_background("#102030", 8), np.broadcast_to([16, 32, 48], (8, 8, 3)))
    np.testing.assert_array_equal(load_background("lime", 4)[0, 0], [0, 255, 0])
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255
    Image.fromarray(wide).save(tmp_path / "a b.png")
    assert (load_background(str(tmp_path / "a b.png"), 10) == 255).all()  # scaled to cover, cut at the center
    with pytest.raises(InputError, match="--bg 'no such thing'"):
        load_background("no such thing", 8)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match="not a picture"):
        load_background(str(tmp_path / "text.png"), 8)


def test_projection_is_upright_unmirrored_and_centered():
    face = mean_face()
    points = project(face, face, 100)
    assert points[8, 1] > points[27, 1]  # the chin is below the nose
    assert (points[36, 0] < points[45, 0]) == (face[36, 0] < face[45, 0])
    np.testing.assert_allclose((points.min(0) + points.max(0)) / 2, 50, atol=1e-3)
    assert np.ptp(points[:, 1]) == pytest.approx(72, abs=1e-3)


def test_an_open_mouth_is_dark_inside():
    face = mean_face()
    wide = face.copy()
    wide[[65, 66, 67], 1] -= 0.2
    wide[[55, 56, 57, 58, 59], 1] -= 0.2
    dark = [(draw_face(project(shape, face, 128), 128).sum(-1) < 150).sum() for shape in (face, wide)]
    assert dark[1] > dark[0] + 100


def test_panels_stand_side_by_side_and_stop_with_the_shortest():
    motion = np.zeros((4, 68, 3), np.float32)
    frames = list(landmark_frames([motion, motion[:3].reshape(3, 204)], ["a", "b"], mean_face(), 64))
    assert len(frames) == 3 and frames[0].shape == (64, 128, 3) and frames[0].dtype == np.uint8
    moved = motion.copy()
    moved[1:, 48:] += 2.0
    changed = list(landmark_frames([moved], ["a"], mean_face(), 64))
    assert (changed[0] != changed[1]).any() and (changed[1] == changed[2]).all()
