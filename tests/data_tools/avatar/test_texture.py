"""The texture atlas: tiles apart, no seam where a part closes on itself, shadows where they belong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data_tools.avatar.speakers import make_speaker
from data_tools.avatar.texture import ATLAS_SHAPE, TILES, make_atlas, mottle, seamless, tile_uv


@pytest.fixture(scope="module")
def atlas():
    return make_atlas(make_speaker("demo"))


def tile(atlas: np.ndarray, name: str) -> np.ndarray:
    x, y, width, height = TILES[name]
    return atlas[y : y + height, x : x + width]


def test_tiles_do_not_overlap_and_fit():
    for (x0, y0, w0, h0), (x1, y1, w1, h1) in itertools.combinations(TILES.values(), 2):
        assert x0 + w0 <= x1 or x1 + w1 <= x0 or y0 + h0 <= y1 or y1 + h1 <= y0
    assert all(x + w <= ATLAS_SHAPE[1] and y + h <= ATLAS_SHAPE[0] for x, y, w, h in TILES.values())


def test_a_closed_tile_meets_itself():
    picture = seamless((64, 128), lambda shape: mottle(shape, np.random.default_rng(0)))
    across = np.abs(picture[:, 0] - picture[:, -1]).mean()
    assert across < 1.5 * np.abs(np.diff(picture, axis=1)).mean()
    plain = mottle((64, 128), np.random.default_rng(0))
    assert across < 0.7 * np.abs(plain[:, 0] - plain[:, -1]).mean()


def test_the_hair_meets_itself_over_the_forehead(atlas):
    hair = tile(atlas, "hair")
    left, right = (int(tile_uv("hair", np.array([u, 0.5]))[0] - TILES["hair"][0]) for u in (0.0, 1.0))
    seam = np.abs(hair[100:, left] - hair[100:, right]).mean()
    assert seam < 0.6 * np.abs(hair[100:, left] - hair[100:, 300]).mean()


def test_hair_closes_over_the_skin_at_the_hairline(atlas):
    hair, skin = tile(atlas, "hair"), np.array(make_speaker("demo").skin)
    hue = hair[..., 2].mean(axis=1) / hair[..., 0].mean(axis=1)
    assert hue[:4].mean() > hue[120:].mean() + 0.15  # skin is bluer than this speaker's blond hair
    assert abs(hue[:4].mean() - skin[2] / skin[0]) < 0.15


def test_the_chin_shades_the_neck(atlas):
    neck = tile(atlas, "neck").mean(axis=(1, 2))
    assert neck[:128].mean() < 0.75 * neck[220:232].mean()


def test_the_same_speaker_is_painted_the_same(atlas):
    np.testing.assert_array_equal(atlas, make_atlas(make_speaker("demo")))
