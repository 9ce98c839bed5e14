"""Square patches of training pixels around boxes."""

import numpy as np
import pytest

from geneface_jax.data.pixel_sampling import in_boxes, patch_pixels


def test_a_patch_lies_about_its_box_row_by_row_and_is_not_transposed():
    boxes = np.array([[10, 20, 18, 24]])  # 8 wide, 4 high, centered at column 14, row 22
    patch = patch_pixels(boxes, 4, (64, 64))
    assert patch.shape == (1, 16, 2) and patch.dtype == np.int32
    np.testing.assert_array_equal(patch[0, :, 0].reshape(4, 4), np.repeat(np.arange(20, 24), 4).reshape(4, 4))
    np.testing.assert_array_equal(patch[0, :, 1].reshape(4, 4), np.tile(np.arange(12, 16), (4, 1)))
    assert in_boxes(patch, boxes).all()


@pytest.mark.parametrize("box", [[-5, -5, 3, 3], [60, 60, 70, 70], [0, 50, 2, 64]])
def test_a_patch_stays_inside_the_picture(box):
    patch = patch_pixels(np.array([box]), 16, (64, 48))
    assert patch.min() >= 0 and patch[..., 0].max() < 64 and patch[..., 1].max() < 48
    assert len({tuple(p) for p in patch[0]}) == 256
