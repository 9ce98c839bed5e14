"""LPIPS of regions, with weights drawn at random: what counts is which pixels count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.evaluation import metrics
from geneface_jax.evaluation.metrics import LPIPS_NETWORK, Perceptual, crop_around
from geneface_jax.evaluation.scores import PixelScores
from geneface_jax.models.lpips import Lpips, lpips
from tests.lowered import products

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 255, (96, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def perceptual():
    picture = jnp.zeros((1, 64, 64, 3))
    return Perceptual(Lpips(LPIPS_NETWORK).init(jax.random.key(0), picture, picture)["params"])


def box(rows, columns):
    mask = np.zeros((96, 96), bool)
    mask[rows, columns] = True
    return mask


def test_equal_pictures_are_at_distance_zero_and_more_noise_is_further(perceptual):
    assert perceptual.distance(TRUTH, TRUTH) == pytest.approx(0, abs=1e-9)
    noisy = [np.clip(TRUTH + RNG.normal(0, s, TRUTH.shape), 0, 255).astype(np.uint8) for s in (5, 40)]
    near, far = (perceptual.distance(image, TRUTH) for image in noisy)
    assert 0 < near < far


def test_it_is_measured_in_full_precision_on_every_device(perceptual, monkeypatch):
    programs = []

    def lowered(a, b, weights):
        programs.append(jax.jit(lambda a, b: lpips(a, b, weights)).lower(a, b))
        return np.zeros(1)

    monkeypatch.setattr(metrics, "lpips", lowered)
    perceptual.distance(TRUTH, TRUTH)
    found = products(programs[0])
    assert len(found) > 5 and all(product.exact for product in found)


def test_only_the_regions_pixels_make_a_difference(perceptual):
    mask = box(slice(20, 50), slice(30, 60))
    spoilt = np.where(mask[..., None], TRUTH, 255 - TRUTH)
    assert perceptual.distance(spoilt, TRUTH, mask) == pytest.approx(0, abs=1e-9)
    assert perceptual.distance(spoilt, TRUTH, ~mask) > 1e-3
    assert np.isnan(perceptual.distance(TRUTH, TRUTH, np.zeros((96, 96), bool)))
    assert np.isnan(perceptual.distance(TRUTH[:16, :16], TRUTH[:16, :16])), "too small for the network"


@pytest.mark.parametrize(("rows", "columns", "side"), [((20, 50), (30, 60), 32), ((0, 5), (90, 96), 32), ((10, 43), (0, 3), 64)])
def test_crops_are_squares_of_a_few_sizes_inside_the_frame(rows, columns, side):
    mask = box(slice(*rows), slice(*columns))
    y, x = crop_around(mask)
    assert (y.stop - y.start, x.stop - x.start) == (side, side)
    assert y.start >= 0 and x.start >= 0 and y.stop <= 96 and x.stop <= 96 and mask[y, x].sum() == mask.sum()
    whole = crop_around(np.ones((40, 40), bool))
    assert all(s == slice(0, 40) for s in whole)


def test_scores_carry_it_where_it_was_measured(perceptual):
    for judge, expected in ((perceptual, {"lpips"}), (None, set())):
        scores = PixelScores(judge)
        scores.add(TRUTH, TRUTH, {"frame": None, "mouth": box(slice(20, 50), slice(30, 60))})
        assert all(set(row) - {"psnr", "ssim", "pixels", "frames"} == expected for row in scores.summary().values())


def test_named_weights_that_are_missing_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Perceptual.find() is None
    with pytest.raises(InputError, match="fetch_lpips"):
        Perceptual.find(tmp_path / "absent.npz")
