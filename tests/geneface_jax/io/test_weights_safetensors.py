"""Written files are what readers of the format expect."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.io.weights import read_safetensors, write_safetensors

ARRAYS = {
    "b/flags": np.array([True, False, True]),
    "a/table": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "scalar": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 4), np.float32),
    "wide": np.arange(3, dtype=np.int64),
    "turned": np.arange(12, dtype=np.int32).reshape(3, 4).T,
}


def test_arrays_come_back_with_names_shapes_types_and_bits(tmp_path):
    found = read_safetensors(write_safetensors(tmp_path / "a.safetensors", ARRAYS, {"made by": "a test"}))
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_bfloat16_is_written_as_such(tmp_path):
    value = np.asarray(jnp.array([1.0, -2.5], jnp.bfloat16))
    np.testing.assert_array_equal(read_safetensors(write_safetensors(tmp_path / "a", {"x": value}))["x"], [1.0, -2.5])


def test_every_array_lies_at_a_multiple_of_its_items_size(tmp_path):
    data = write_safetensors(tmp_path / "a", ARRAYS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    for name, entry in header.items():
        assert (8 + length + entry["data_offsets"][0]) % ARRAYS[name].dtype.itemsize == 0
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length, "no byte unaccounted for"


def test_what_the_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    for arrays in ({"x": np.array(["text"])}, {"x": np.zeros(2, complex)}, {"__metadata__": np.zeros(2, np.float32)}):
        with pytest.raises(ValueError, match="can't hold"):
            write_safetensors(tmp_path / "a", arrays)
    assert not list(tmp_path.iterdir())
