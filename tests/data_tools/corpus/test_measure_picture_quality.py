"""Cuts, jumps and blur as numbers."""

import cv2
import numpy as np
import pytest

from data_tools.corpus.measure import cut_levels, head_jump, isolated_change, sharpness, thumbnail


def texture(size: int, seed: int = 0) -> np.ndarray:
    """A picture with detail at every scale."""
    rng = np.random.default_rng(seed)
    octaves = [cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) for n in (8, 32, 128)]
    gray = np.clip(128 + 25 * sum(octaves), 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def test_a_cut_stands_out_and_movement_does_not():
    first, second = texture(160, 0), texture(160, 1)
    pan = [thumbnail(first[:, 2 * i : 2 * i + 96]) for i in range(20)]
    cut = [thumbnail(first[:, :96])] * 10 + [thumbnail(second[:, :96])] * 10
    assert cut_levels(np.stack(pan)) < 5 < 15 < cut_levels(np.stack(cut))


@pytest.mark.parametrize("n_frames", [1, 2, 5, 60])
def test_a_still_picture_has_no_cut_however_short(n_frames):
    assert cut_levels(np.ones((n_frames, 32, 32, 3), np.float32)) == 0.0


def test_an_isolated_change_is_measured_above_its_neighbors():
    change = np.full(40, 2.0)
    change[17] = 9.0
    assert isolated_change(change) == pytest.approx(7.0)


def test_a_jump_is_measured_in_face_heights():
    points = np.zeros((40, 5, 2))
    points[:, :, 0] = np.arange(40)[:, None] * 0.5  # a slow turn
    points[20:, :, 1] += 30.0
    assert head_jump(points, 100.0) == pytest.approx(0.3, abs=0.01)


def test_sharpness_falls_with_blur_and_hardly_depends_on_size():
    picture = texture(192)
    whole = (0, 0, 192, 192)
    blurred = [sharpness(cv2.GaussianBlur(picture, (0, 0), sigma), whole) for sigma in (1.0, 2.0, 4.0, 8.0)]
    values = [sharpness(picture, whole), *blurred]
    assert all(b < 0.85 * a for a, b in zip(values, values[1:], strict=False))
    larger = cv2.resize(picture, (768, 768), interpolation=cv2.INTER_CUBIC)
    assert sharpness(larger, (0, 0, 768, 768)) == pytest.approx(values[0], rel=0.2)
    assert sharpness(np.full((64, 64, 3), 90, np.uint8), (0, 0, 64, 64)) == 0.0
