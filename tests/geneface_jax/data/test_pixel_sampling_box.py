"""AD-NeRF's sampling: pixels drawn mostly from a box."""

import numpy as np
import pytest

from geneface_jax.data.pixel_sampling import draw_box_pixels

BOX = np.array([4, 2, 14, 12])


def draw(share, rays, seed=0, size=(16, 20)):
    pixels = draw_box_pixels(np.random.default_rng(seed), BOX, share, rays, size)
    inside = (pixels[:, 0] >= 2) & (pixels[:, 0] < 12) & (pixels[:, 1] >= 4) & (pixels[:, 1] < 14)
    return pixels, inside, len(np.unique(pixels, axis=0))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
def test_the_share_lies_in_the_box_and_nothing_comes_twice(share):
    pixels, inside, distinct = draw(share, 60)
    assert pixels.shape == (60, 2) and pixels.dtype == np.int32
    assert inside.sum() == round(share * 60) and distinct == 60


def test_a_small_box_is_taken_whole_and_the_rest_fills_up():
    _, inside, distinct = draw(0.95, 200)
    assert inside.sum() == 100 and distinct == 200


def test_a_small_outside_is_taken_whole_as_well():
    _, inside, distinct = draw(0.0, 300)
    assert inside.sum() == 80 and distinct == 300


def test_more_pixels_than_the_picture_has():
    pixels, _, distinct = draw(0.9, 400)
    assert len(pixels) == 400 and distinct == 320


def test_order_is_random():
    """Devices share a batch by its order: each must see both sides."""
    _, inside, _ = draw(0.5, 100)
    assert 10 < inside[:50].sum() < 40
