import json

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.light import light_copy


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "dataset"
    (folder / "frames").mkdir(parents=True)
    (folder / "frames" / "000000.jpg").write_bytes(b"picture of a person")
    (folder / "meta.json").write_text(json.dumps({"name": "x"}))
    (folder / "background.png").write_bytes(b"png")
    np.savez(folder / "arrays.npz", motion=np.arange(6.0), landmarks_mediapipe=np.zeros(3))
    return folder


def test_only_what_inference_needs_is_copied(dataset, tmp_path):
    out = light_copy(dataset, tmp_path / "light")
    assert sorted(p.name for p in out.iterdir()) == ["arrays.npz", "background.png", "meta.json"]
    with np.load(out / "arrays.npz") as archive:
        assert archive.files == ["motion"]
        np.testing.assert_array_equal(archive["motion"], np.arange(6.0))


def test_an_earlier_copy_is_replaced(dataset, tmp_path):
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "stale").write_text("")
    assert "stale" not in {p.name for p in light_copy(dataset, tmp_path / "light").iterdir()}


def test_the_dataset_itself_is_never_replaced(dataset, tmp_path):
    with pytest.raises(InputError, match="another folder"):
        light_copy(dataset, dataset)
    with pytest.raises(InputError, match="meta.json is missing"):
        light_copy(tmp_path, tmp_path / "light")
    assert (dataset / "frames" / "000000.jpg").exists()
