"""Atomic writes: files and folders are complete or absent."""

from __future__ import annotations

import pytest

from data_tools.io import read_json, write_folder, write_json, write_text


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "out"
    write_folder(target, lambda folder: write_text(folder / "a", "old"))

    def fail(folder):
        write_text(folder / "a", "new")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_folder(target, fail)
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "out"
    write_folder(target, lambda folder: write_text(folder / "a", "old"))
    write_folder(target, lambda folder: write_text(folder / "b", "new"))
    assert [path.name for path in target.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_round_trip_keeps_letters(tmp_path):
    path = write_json(tmp_path / "deep" / "x.json", {"name": "Zoë 子"})
    assert "Zoë 子" in path.read_text(encoding="utf-8")
    assert read_json(path) == {"name": "Zoë 子"}
    assert list(path.parent.iterdir()) == [path]
