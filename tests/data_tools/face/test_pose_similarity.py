"""The similarity that moved a point set is found again, one set or many at a time."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_tools.face.pose import similarity

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("batch", [(), (4,)])
def test_it_is_found_exactly(batch):
    source = RNG.normal(size=(*batch, 9, 3))
    turn = Rotation.random(int(np.prod(batch)), rng=RNG).as_matrix().reshape(*batch, 3, 3)
    scale, shift = RNG.uniform(0.5, 2, batch), RNG.normal(size=(*batch, 3))
    target = scale[..., None, None] * source @ np.swapaxes(turn, -1, -2) + shift[..., None, :]
    for found, wanted in zip(similarity(source, target), (scale, turn, shift), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_a_mirrored_set_is_turned_and_never_mirrored():
    source = RNG.normal(size=(9, 3))
    turn = similarity(source, source * [-1, 1, 1])[1]
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)


def test_nothing_nearby_fits_noisy_points_better():
    source = RNG.normal(size=(9, 3))
    target = source + RNG.normal(0, 0.2, (9, 3))
    scale, turn, shift = similarity(source, target)

    def error(scale, turn, shift):
        return np.sum((scale * source @ turn.T + shift - target) ** 2)

    best = error(scale, turn, shift)
    for _ in range(20):
        other = Rotation.from_rotvec(RNG.normal(0, 0.02, 3)).as_matrix() @ turn
        assert error(scale * RNG.uniform(0.97, 1.03), other, shift + RNG.normal(0, 0.02, 3)) > best
