"""Pixels of regions: the same draws as one ray at a time, the shares of the boxes, and no draw outside of the picture."""

import numpy as np
import pytest

from geneface_jax.data.pixel_sampling import Region, draw_pixels

FRAMES, SIZE = 12, (40, 50)


def regions(*shares):
    rng = np.random.default_rng(5)
    low = rng.integers(0, 20, (len(shares), FRAMES, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 18, low.shape)], axis=-1).astype(np.int32)
    return [Region(share, box) for share, box in zip(shares, boxes, strict=True)]


def ray_by_ray(rng, frames, rays, size, regions):
    """Every ray's box is listed, the list is shuffled, and each ray draws a pixel from its box."""
    height, width = size
    boxes = [np.broadcast_to(np.array([0, 0, width, height]), (len(frames), 4))] * rays
    position = 0
    for region in regions:
        count = int(region.share * rays)
        boxes[position : position + count] = [region.boxes[frames]] * count
        position += count
    box = np.stack(boxes, axis=1)[:, rng.permutation(rays)]
    u = rng.random((len(frames), rays, 2))
    column = box[..., 0] + np.floor(u[..., 0] * np.maximum(box[..., 2] - box[..., 0], 1))
    row = box[..., 1] + np.floor(u[..., 1] * np.maximum(box[..., 3] - box[..., 1], 1))
    return np.stack([np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], axis=-1).astype(np.int32)


@pytest.mark.parametrize("shares", [(), (0.3,), (0.25, 0.5), (0.0, 0.7), (0.5, 0.5), (1.0,), (0.9, 0.4)])
def test_the_draws_are_those_of_one_ray_at_a_time(shares):
    frames = np.array([3, 3, 0, 11, 7])
    found, expected = (draw(np.random.default_rng(1), frames, 96, SIZE, regions(*shares)) for draw in (draw_pixels, ray_by_ray))
    assert found.dtype == np.int32 and found.shape == (5, 96, 2)
    np.testing.assert_array_equal(found, expected)


def test_each_region_gets_its_share_and_order_says_nothing():
    box = np.tile(np.array([30, 5, 34, 9], np.int32), (FRAMES, 1))
    pixels = draw_pixels(np.random.default_rng(2), np.arange(FRAMES), 400, SIZE, [Region(0.5, box)])
    inside = ((pixels >= [5, 30]) & (pixels < [9, 34])).all(-1)
    assert np.all(inside.sum(1) >= 200) and inside.sum(1).mean() < 205
    assert abs(inside[:, :200].mean() - inside[:, 200:].mean()) < 0.1
