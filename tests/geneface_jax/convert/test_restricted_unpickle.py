"""A foreign pickle may build arrays and containers, and run nothing."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.convert import restricted_unpickle
from tests.geneface_jax.convert.person_files import save

VALUES = {
    "picture": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "half": np.ones(2, np.float16),
    "empty": np.zeros((0, 3)),
    "flag": np.array([True, False]),
    "samples": [{"idx": 3, "name": "gt_imgs/3.jpg", "scalar": np.float64(2.5), "none": None}, (1, 2.0)],
}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found[name], value)
            assert found[name].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
    assert found["samples"] == [{**expected["samples"][0], "scalar": 2.5}, (1, 2.0)]


def test_what_the_originals_save_is_read(tmp_path):
    equal(restricted_unpickle.load(save(tmp_path / "a.npy", VALUES)), VALUES)
    plain = restricted_unpickle.load(save(tmp_path / "b.npy", VALUES["fortran"]))
    np.testing.assert_array_equal(plain, VALUES["fortran"])


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_and_the_names_of_numpy_1(protocol):
    pickled = pickle.dumps(np.array(VALUES, dtype=object), protocol)
    equal(restricted_unpickle.loads(pickled), VALUES)
    if protocol == 3:  # names are written as text lines
        equal(restricted_unpickle.loads(pickled.replace(b"numpy._core.", b"numpy.core.")), VALUES)


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("where", ["value", "sample", "key"])
def test_a_malicious_file_is_refused_and_leaves_no_trace(tmp_path, where):
    trace = tmp_path / "trace"
    evil = Evil(os.mkdir, str(trace))
    values = {"value": {"a": evil}, "sample": {"train_samples": [{"c2w": np.array([evil], dtype=object)}]}, "key": [evil]}[where]
    path = save(tmp_path / "a.npy", values)
    np.load(path, allow_pickle=True)
    assert trace.exists(), "the file must be dangerous for this test to mean anything"
    trace.rmdir()
    with pytest.raises(InputError, match="mkdir"):
        restricted_unpickle.load(path)
    assert not trace.exists()


@pytest.mark.parametrize("call", [eval, getattr, np.load, np.lib.format.open_memmap, os.system])
def test_no_function_can_be_reached(call, tmp_path):
    with pytest.raises(InputError, match="was not opened"):
        restricted_unpickle.load(save(tmp_path / "a.npy", [Evil(call, "1")]))


def test_forged_data_types_are_refused():
    """numpy believes what a pickle says of a type, also that objects are numbers; then their addresses can be chosen."""
    kind = Evil(np.dtype, "O8", False, True)
    for state in (
        (1, (1,), kind, False, b"\0" * 8),
        (1, (2,), Evil(np.dtype, "f8"), False, b"\0" * 8),
        (1, (-1,), Evil(np.dtype, "f8"), False, b""),
    ):
        forged = Evil(np.array(1.0).__reduce__()[0], np.ndarray, (0,), b"b")

        class Forged:
            def __reduce__(self, forged=forged, state=state):
                return (*forged.__reduce__(), state)

        with pytest.raises((pickle.UnpicklingError, ValueError)):
            restricted_unpickle.loads(pickle.dumps(Forged()))
    with pytest.raises(pickle.UnpicklingError, match="arrays of"):
        restricted_unpickle.loads(pickle.dumps(Evil(np.dtype, "V8")))


def test_damaged_files_are_refused_in_one_sentence(tmp_path):
    path = save(tmp_path / "a.npy", VALUES)
    whole = path.read_bytes()
    for content in (b"", b"not an array", whole[:200], whole[:-20], whole[:128] + b"\x80\x04."):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged") as caught:
            restricted_unpickle.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        restricted_unpickle.load(tmp_path / "absent.npy")
