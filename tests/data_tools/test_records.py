"""Files of a stranger, or with a damaged bit, are read right or refused in one sentence; memory they only claim to need isn't taken."""

from __future__ import annotations

import io
import json
import math
import zipfile

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.io import MANIFEST, manifest_damage, read_json, read_npz, write_json, write_manifest
from data_tools.records import DEEPEST, ArrayFile, Field, check_fields, read_npy, stays_inside

RECORD = {"name": "Anna Ä", "size": 256, "rates": (0.1, 1e-8), "none": None, "inner": {"a": [1, True]}}


def test_a_record_with_a_checksum_comes_back_without_it(tmp_path):
    path = write_json(tmp_path / "a.json", RECORD, checksum=True)
    assert read_json(path) == json.loads(json.dumps(RECORD))
    assert list(json.loads(path.read_text(encoding="utf-8")))[-1] == "checksum"
    assert read_json(write_json(tmp_path / "old.json", RECORD)) == read_json(path)
    assert read_json(write_json(path, read_json(path), checksum=True)) == read_json(path)


def test_every_flipped_bit_of_a_record_is_told_or_does_not_matter(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "Anna", "size": 256, "f": 0.5}, checksum=True)
    whole, expected, told = path.read_bytes(), read_json(path), 0
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        try:
            assert read_json(path) == expected, changed
        except InputError as error:
            told += 1
            assert "\n" not in str(error)
    assert told > 7 * len(whole)


def test_a_change_by_hand_has_a_way_out(tmp_path):
    path = write_json(tmp_path / "a.json", RECORD, checksum=True)
    path.write_text(path.read_text(encoding="utf-8").replace("256", "512"), encoding="utf-8")
    with pytest.raises(InputError, match='its checksum differs.*if you changed it by hand, remove "checksum"'):
        read_json(path)


@pytest.mark.parametrize("text", ["[" * 2000 + "]" * 2000, "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), '{"a": 1', "\xff", "9" * 5000])
def test_what_is_no_json_file_is_one_sentence(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="a.json .*: make it again"):
        read_json(tmp_path / "a.json", "make it again")
    with pytest.raises(InputError, match="isn't a JSON file"):
        read_json(tmp_path)
    (tmp_path / "a.json").write_text(f'["{"x" * 2000}"]')
    with pytest.raises(InputError, match="more than"):
        read_json(tmp_path / "a.json", largest=1000)


@pytest.mark.parametrize("value", [True, 0, 9000, 1.0, math.nan, "1", None, [1]])
def test_a_field_out_of_its_range_is_named(value):
    fields = {"size": Field(int, low=1, high=8192)}
    assert check_fields({"size": 1, "more": 2}, "a.json", fields) == {"size": 1, "more": 2}
    with pytest.raises(InputError, match='"size" of a.json .*a whole number from 1 to 8192: make it again'):
        check_fields({"size": value}, "a.json", fields, "make it again")
    with pytest.raises(InputError, match='"size" of a.json is missing'):
        check_fields({}, "a.json", fields)
    assert Field(float).accepts(3) and not any(Field(float).accepts(number) for number in (math.inf, math.nan, 10**400))
    assert Field(str, optional=True).accepts(None) and not Field(str, choices=("a",)).accepts("b")


def test_names_that_lead_out_of_a_folder():
    assert all(stays_inside(name) for name in ("a", "a/b.npz", "..a/b", "a b/ä"))
    outside = ("", ".", "..", "../a", "a/../../b", "/a", "a\\..\\b", "C:/a", "C:a", "a\0b", None, 5, ["a"])
    assert not any(stays_inside(name) for name in outside)


MANIFESTS = [
    [], {}, {"files": []}, {"files": None}, {"files": {}}, {"files": {"a": 5}}, {"files": {"a": {"bytes": 1}}},
    {"files": {"a": {"crc32": 1}}}, {"files": {"a": {"bytes": "1", "crc32": 1}}}, {"files": {"a": {"bytes": -1, "crc32": 1}}},
    {"files": {"a": {"bytes": True, "crc32": 1}}},
]  # fmt: skip


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_damaged_manifest_is_damage(tmp_path, content):
    (tmp_path / "a").write_bytes(b"1")
    write_manifest(tmp_path)
    assert manifest_damage(tmp_path) is None
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    assert manifest_damage(tmp_path) == f"its {MANIFEST} can't be read"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_manifest_names_nothing_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"1")
    write_manifest(tmp_path)
    entry = json.loads((tmp_path / MANIFEST).read_text())["files"]["outside"]
    (folder / MANIFEST).write_text(json.dumps({"files": {name: entry}}))
    assert "not inside of the folder" in manifest_damage(folder)


def claim(shape, descr="<f8"):
    """An npy file that claims a shape and holds sixteen bytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(16)


@pytest.mark.parametrize(
    "content", [claim((10**6, 10**6)), claim((2**33, 2**31)), claim((3,)), claim((-2,)), claim((2,), "|O"), b"", b"junk"]
)
def test_an_array_is_as_large_as_its_bytes(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    for read, path in ((read_npy, tmp_path / "a.npy"), (read_npz, tmp_path / "a.npz")):
        with pytest.raises(InputError, match="damaged or not a plain array file: make it again"):
            read(path, "make it again")


def test_the_kind_of_an_array_is_known_before_it_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((3, 2), np.float32))
    with ArrayFile(tmp_path / "a.npz") as archive:
        assert archive.files == ["a"] and archive.kind("a") == ((3, 2), np.float32)
        np.testing.assert_array_equal(archive["a"], np.ones((3, 2), np.float32))
        with pytest.raises(InputError, match='"b" is missing'):
            archive["b"]
    with pytest.raises(InputError, match="none.npz is missing"):
        read_npz(tmp_path / "none.npz")


def test_an_archive_whose_list_was_cut_is_damaged(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones(3), b=np.ones(3))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    directory = content.index(b"PK\1\2")
    first = content.index(b"PK\1\2", directory + 4) - directory
    # The list says that it ends after the first of the two.
    content[-10:-6] = first.to_bytes(4, "little")
    content[-6:-2] = directory.to_bytes(4, "little")
    del content[directory + first : -22]
    (tmp_path / "a.npz").write_bytes(content)
    assert len(zipfile.ZipFile(tmp_path / "a.npz").infolist()) == 1
    with pytest.raises(InputError, match="damaged"):
        read_npz(tmp_path / "a.npz")
