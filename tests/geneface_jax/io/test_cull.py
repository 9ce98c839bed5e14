"""The file of what rendering may skip: small, the same bytes for the same content, and refused where it can't be right."""

import dataclasses

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.io import read_npz, write_npz
from geneface_jax.io import cull
from geneface_jax.io.cull import Cull


@pytest.fixture(scope="module")
def whole():
    rng = np.random.default_rng(0)
    return Cull("0123456789abcdef", "fedcba9876543210", rng.random((32, 32, 32)) < 0.1, rng.random((50, 50)) < 0.5)


def assert_same(found, expected):
    for field in dataclasses.fields(Cull):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert (ours is None) == (theirs is None) and (theirs is None or np.array_equal(ours, theirs)), field.name


def test_what_is_written_is_read(whole, tmp_path):
    assert cull.read(tmp_path) is None
    path = whole.save(tmp_path)
    assert path == tmp_path / "cull.npz" and path.stat().st_size < 6000
    assert_same(cull.read(tmp_path), whole)
    first = path.read_bytes()
    whole.save(tmp_path)
    assert path.read_bytes() == first
    alone = dataclasses.replace(whole, torso="", torso_pixels=None)
    alone.save(tmp_path)
    assert_same(cull.read(tmp_path), alone)


CHANGES = {
    "a resolution that the bits don't have": {"resolution": np.array(64, np.int32)},
    "no resolution": {"resolution": np.array(0, np.int32)},
    "a negative resolution": {"resolution": np.array(-32, np.int32)},
    "a huge resolution": {"resolution": np.array(2**31 - 32, np.int32)},
    "several resolutions": {"resolution": np.array([32, 32], np.int32)},
    "a resolution that is no whole number": {"resolution": np.array(32.0)},
    "cells that don't fill words": {"resolution": np.array(24, np.int32), "cells": np.zeros(1728, np.uint8)},
    "bits of another type": {"cells": np.zeros(4096, np.int16)},
    "fewer bits": {"cells": np.zeros(4095, np.uint8)},
    "another size": {"size": np.array(51, np.int32)},
    "pixels in two dimensions": {"torso_pixels": np.zeros((313, 1), np.uint8)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_can_not_be_right_is_refused_with_the_way_out(whole, tmp_path, change):
    path = whole.save(tmp_path)
    write_npz(path, **{**read_npz(path), **change})
    with pytest.raises(InputError, match="make it again with `geneface bake SUBJECT`, or delete it"):
        cull.read(tmp_path)


@pytest.mark.parametrize("name", ["head", "torso", "resolution", "cells", "size"])
def test_a_missing_array_is_named(whole, tmp_path, name):
    path = whole.save(tmp_path)
    write_npz(path, **{key: value for key, value in read_npz(path).items() if key != name})
    with pytest.raises(InputError, match=f'"{name}" is missing from .*cull.npz: make it again with `geneface bake SUBJECT`'):
        cull.read(tmp_path)


def test_a_file_that_is_cut_off_is_refused(whole, tmp_path):
    path = whole.save(tmp_path)
    data = path.read_bytes()
    for kept in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(InputError, match="cull.npz is damaged.*geneface bake"):
            cull.read(tmp_path)
