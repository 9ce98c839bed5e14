"""A foreign pickle may build arrays and containers, and run nothing."""

from __future__ import annotations

import io
import os
import pickle
import resource

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


def header(**content):
    """Of an npy file; without arguments that of a pickled object."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (), **content})
    return stream.getvalue()


def shared(kind, depth):
    """Containers of two equal parts each: a few bytes a level, and twice as many items."""
    value = kind([0])
    for _ in range(depth):
        value = kind([value, value])
    return value


# Each is of at most a few hundred bytes.
BOMBS = {
    "more than 10,000,000 items": pickle.dumps(shared(list, 28), 4),
    "more than 10,000,000 items, in tuples": pickle.dumps({"a": shared(tuple, 60)}, 4),
    # {(((0, 0), (0, 0)), ...): 1}, whose key takes 2^60 steps to hash
    "a tuple as a key": b"\x80\x04}K\x00\x85q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"K\x01s.",
    "a set": b"\x80\x04\x8f.",
    "nested too deeply": pickle.dumps(shared(lambda items: items[:1], 200), 4),
    "contains itself": b"\x80\x04]\x94h\x00a.",
    "a state for a function": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n}b.",
}


@pytest.mark.parametrize("reason", BOMBS)
def test_a_small_file_takes_little_time_and_memory(tmp_path, reason):
    path = tmp_path / "a.npy"
    path.write_bytes(header() + BOMBS[reason])
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match=f"contains .*{reason.partition(',')[0] if 'tuples' in reason else reason}"):
        restricted_unpickle.load(path)


def test_a_forged_place_in_the_memo_takes_no_memory(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(header() + b"\x80\x04Nr\xff\xff\xff\x0f.")
    before = peak()
    assert restricted_unpickle.load(path) is None
    assert peak() - before < 100 << 20


def test_shared_bytes_and_shared_parts_stay_shared():
    array, part = np.zeros(1 << 20, np.uint8), {"a": [1]}
    function, arguments, state = array.__reduce__()

    class Same:
        def __reduce__(self):
            return function, arguments, state

    before = peak()
    found = restricted_unpickle.loads(pickle.dumps([[Same() for _ in range(500)], part, part]))
    assert len(found[0]) == 500 and found[1] is found[2] == part
    assert peak() - before < 100 << 20


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("shape", [(10**9, 10**9), (2**32, 2**32), (10**7,)])
def test_a_shape_is_compared_with_the_file(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header(descr="<f8", shape=shape) + bytes(80))
    with pytest.raises(InputError, match="damaged"):
        restricted_unpickle.load(tmp_path / "a.npy")
