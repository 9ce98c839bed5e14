"""The comparison that parity rests on must be able to fail."""

import json

import numpy as np
import pytest

from tests.parity.kernels import catalog
from tests.parity.kernels.comparison import compare


def test_worst_is_in_units_of_the_tolerance():
    assert compare("x", [1.0, 2.0], [1.0, 2.02], atol=0.01).worst == pytest.approx(2.0)
    assert compare("x", [100.0], [101.0], rtol=0.01).passed


@pytest.mark.parametrize(
    ("found", "expected"),
    [([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.nan]), ([1.0, np.inf], [1.0, 2.0]), ([1.0], [1.0, 2.0])],
)
def test_nan_inf_and_wrong_shapes_never_pass(found, expected):
    assert not compare("x", np.asarray(found), np.asarray(expected), atol=1e3).passed


def test_same_nan_passes_and_exact_means_exact():
    assert compare("x", np.array([np.nan, 1.0]), np.array([np.nan, 1.0])).passed
    assert not compare("x", np.array([1.0]), np.array([1.0 + 1e-7])).passed


def test_only_masked_rows_count():
    assert compare("x", np.array([[1.0], [9.0]]), np.array([[1.0], [2.0]]), where=[1, 0]).passed


def test_a_file_that_no_op_reads_is_a_miss(tmp_path):
    np.savez(tmp_path / "unknown_thing.npz", meta=json.dumps({"a": 1}), x=np.zeros(2))
    (row,) = catalog.check_folder(tmp_path)
    assert row.file == "unknown_thing.npz" and not row.passed
