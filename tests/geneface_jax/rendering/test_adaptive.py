"""Adaptive rays: the picture of all rays where there is detail and in boxes, and nearly that picture elsewhere, with fewer samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.rendering import adaptive
from geneface_jax.rendering.adaptive import boxes_of, render_heads_adaptively
from geneface_jax.rendering.field import render_heads
from tests.tiny_head import MARCH, tiny_head

SIZE, FRAMES = 96, 2
INTRINSICS = jnp.asarray([315.0, 315.0, SIZE / 2, SIZE / 2], jnp.float32)
NOWHERE = np.zeros((FRAMES, 1, 4), np.int32)


def arguments():
    head = tiny_head(FRAMES)
    return (
        head.model,
        head.params,
        jnp.asarray(head.occupied),
        head.poses,
        INTRINSICS,
        jnp.asarray(head.windows),
        jnp.asarray(head.eyes),
        1e-3,
    )


def whole(size=SIZE):
    model, params, occupied, poses, intrinsics, *rest = arguments()
    return render_heads(model, params, occupied, poses, intrinsics * (size / SIZE), *rest, settings=MARCH, size=(size, size))


def adaptively(boxes):
    return render_heads_adaptively(*arguments(), jnp.asarray(boxes), settings=MARCH, size=(SIZE, SIZE))


def levels(out, size=SIZE):
    return np.asarray(jnp.concatenate([out.rgb, out.alpha[..., None]], -1)).reshape(FRAMES, size, size, 4) * 255.0


@pytest.fixture(scope="module")
def full():
    picture = levels(whole())
    assert 0.1 < (picture[..., 3] > 128).mean() < 0.9 and picture[..., :3].std() > 10
    return picture


def test_a_box_over_everything_gives_the_full_picture(full):
    boxes = np.tile(np.array([0, 0, SIZE, SIZE], np.int32), (FRAMES, 1, 1))
    np.testing.assert_allclose(levels(adaptively(boxes)), full, atol=1e-2)


def test_boxes_belong_to_their_frame_and_get_all_rays(full):
    boxes = np.array([[[30, 18, 66, 45], [0, 0, 0, 0]], [[39, 51, 60, 75], [45, 12, 60, 30]]], np.int32)
    found = levels(adaptively(boxes))
    plain = levels(adaptively(NOWHERE))
    for frame in range(FRAMES):
        for x0, y0, x1, y1 in boxes[frame]:
            np.testing.assert_allclose(found[frame, y0:y1, x0:x1], full[frame, y0:y1, x0:x1], atol=1e-2)
        x0, y0, x1, y1 = boxes[frame, 0]
        assert np.abs(plain[frame, y0:y1, x0:x1] - full[frame, y0:y1, x0:x1]).max() > 0.1, "which they would not have had"
        other = boxes[1 - frame, 0]
        mine = np.s_[frame, other[1] : other[3], other[0] : other[2]]
        assert np.abs(found[mine] - full[mine]).max() > 0.1, "not in the other frame"


def test_places_with_detail_get_all_rays_and_smooth_ones_are_interpolated(full):
    coarse = levels(whole(SIZE // 2), SIZE // 2) / 255.0
    detail = np.asarray(adaptive._has_detail(jnp.asarray(coarse))).repeat(2, 1).repeat(2, 2)
    assert 0.05 < detail.mean() < 0.9 and detail[full[..., 3] == 0].mean() < 0.4
    out = adaptively(NOWHERE)
    found = levels(out)
    np.testing.assert_allclose(found[detail], full[detail], atol=1e-2)
    smooth = np.abs(found - full)[~detail]
    limit = 255.0 * adaptive.DETAIL
    errors = smooth.max(), np.percentile(smooth, 99), smooth.mean()
    assert 0.05 < errors[0] < 1.5 * limit and errors[1] < 0.5 * limit and errors[2] < 0.04 * limit, (limit, errors)
    assert found.min() >= 0.0 and found.max() <= 255.01
    assert not found[full[..., 3] == 0][:, :3].any() or np.abs(found[full[..., 3] == 0]).max() < 2.0, "no halo in the background"


def test_fewer_samples_are_evaluated_and_the_more_the_more_places_get_all_rays():
    counts = []
    for part in (0.0, 0.5, 1.0):
        boxes = np.tile(np.array([0, 0, part * SIZE, SIZE], np.int32), (FRAMES, 1, 1))
        counts.append(int(adaptively(boxes).samples) / int(whole().samples))
    assert 0.25 < counts[0] < counts[1] < counts[2], counts
    assert counts[0] < 0.95 and counts[2] == pytest.approx(1.25, abs=0.02), counts


def test_detail_is_a_difference_to_a_neighbor():
    picture = np.zeros((1, 12, 12, 4), np.float32)
    assert not np.asarray(adaptive._has_detail(jnp.asarray(picture))).any()
    picture[0, 5, 7, 3], picture[0, 5, 1, 0] = 1.01 * adaptive.OUTLINE, 0.99 * adaptive.DETAIL
    found = np.asarray(adaptive._has_detail(jnp.asarray(picture)))[0]
    assert found[4:7, 6:9].all(), "the pixel, its neighbors"
    assert not np.delete(np.delete(found, np.s_[3:8], 0), np.s_[5:10], 1).any() and found.sum() <= 25
    ramp = np.broadcast_to(np.linspace(0, 0.1, 12, dtype=np.float32)[:, None, None], (12, 12, 4))[None]
    assert not np.asarray(adaptive._has_detail(jnp.asarray(ramp))).any()


def test_boxes_of_odd_corners_are_whole():
    half = np.asarray(adaptive._in_boxes(jnp.asarray([[[3, 5, 8, 9], [0, 0, 0, 0]], [[-4, 0, 2, 1], [11, 10, 40, 40]]]), (8, 8)))
    for frame, boxes in enumerate(([(3, 5, 8, 9)], [(0, 0, 2, 1), (11, 10, 16, 16)])):
        full = half[frame].repeat(2, 0).repeat(2, 1)
        inside = np.zeros_like(full)
        for x0, y0, x1, y1 in boxes:
            inside[y0:y1, x0:x1] = True
        assert not (inside & ~full).any() and full.sum() <= inside.sum() + 30, frame


def test_enlarging_is_bicubic():
    picture = np.random.default_rng(0).random((2, 10, 12, 3), dtype=np.float32)
    found = np.asarray(adaptive.doubled(jnp.asarray(picture)))
    assert found.shape == (2, 20, 24, 3)
    theirs = np.asarray(jax.image.resize(jnp.asarray(picture), (2, 20, 24, 3), "cubic"))
    np.testing.assert_allclose(found[:, 4:-4, 4:-4], theirs[:, 4:-4, 4:-4], atol=1e-5)
    np.testing.assert_allclose(adaptive.doubled(jnp.full((1, 5, 5, 1), 0.3)), 0.3, atol=1e-6)
    rows = (np.arange(20, dtype=np.float32) + 0.5) / 2 - 0.5
    ramp = np.arange(10, dtype=np.float32)[None, :, None, None].repeat(6, 2)
    np.testing.assert_allclose(np.asarray(adaptive.doubled(jnp.asarray(ramp)))[0, 4:-4, 3, 0], rows[4:-4], atol=1e-5)


def test_boxes_around_points():
    points = np.array([[[10.0, 20.0], [30.0, 24.0]], [[-5.0, 2.0], [3.0, 6.0]]])
    np.testing.assert_array_equal(boxes_of(points, 0.25), [[5, 15, 35, 29], [-7, 0, 5, 8]])
    assert boxes_of(points, 0.0).dtype == np.int32
