"""The safetensors reader: what was written comes back, and files that lie about themselves are refused in one sentence."""

import json

import numpy as np
import pytest
from hubert_folder import write_safetensors

from data_tools.errors import InputError
from geneface_jax.io.weights import read_safetensors


def raw_file(path, header, data=b"", header_size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if header_size is None else header_size).to_bytes(8, "little") + text + data)
    return path


def test_arrays_come_back_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a.float": ("F32", rng.standard_normal((3, 4)).astype(np.float32)),
        "a.half": ("F16", rng.standard_normal(7).astype(np.float16)),
        "double": ("F64", rng.standard_normal((2, 1, 2))),
        "steps": ("I64", np.array(-12)),
        "flags": ("BOOL", np.array([True, False])),
        "nothing": ("F32", np.zeros((0, 5), np.float32)),
    }
    found = read_safetensors(write_safetensors(tmp_path / "model.safetensors", arrays))
    assert set(found) == set(arrays)
    for name, (_, value) in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_bfloat16_is_the_upper_half_of_a_float(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, 0.0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = read_safetensors(write_safetensors(tmp_path / "m.safetensors", {"w": ("BF16", upper)}))
    np.testing.assert_array_equal(found["w"], values)
    assert found["w"].dtype == np.float32


@pytest.mark.parametrize(
    ("entry", "data"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, b"\0" * 7),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}, b"\0" * 12),
        ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, b"\0" * 8),
        ({"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}, b"\0" * 8),
        ({"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}, b"\0" * 8),
        ({"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}, b"\0" * 8),
        ({"dtype": "O", "shape": [1], "data_offsets": [0, 8]}, b"\0" * 8),
        ({"shape": [1], "data_offsets": [0, 4]}, b"\0" * 8),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4]}, b"\0" * 8),
        (["F32"], b"\0" * 8),
    ],
)
def test_entries_that_do_not_fit_are_refused_by_name(tmp_path, entry, data):
    with pytest.raises(InputError, match="m.safetensors .*weight"):
        read_safetensors(raw_file(tmp_path / "m.safetensors", {"weight": entry}, data))


@pytest.mark.parametrize(
    ("header", "size"), [({}, 2**63), ({}, 1000), ({}, 0), (b"{not json", None), (b"\xff\xfe\xfd", None), (b"[]", None), (b"", None)]
)
def test_headers_that_are_none_are_refused(tmp_path, header, size):
    with pytest.raises(InputError, match="m.safetensors"):
        read_safetensors(raw_file(tmp_path / "m.safetensors", header, header_size=size))


def test_short_and_absent_files_are_refused(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"abc")
    with pytest.raises(InputError, match="not a complete"):
        read_safetensors(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="no file"):
        read_safetensors(tmp_path / "other.safetensors")
