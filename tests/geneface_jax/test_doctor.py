"""doctor: each check tells the truth, and each thing missing comes with the command that mends it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data_tools import ffmpeg
from geneface_jax import __version__, system_libraries
from geneface_jax.cli import doctor
from geneface_jax.io import configs

ROOT = Path(__file__).parents[2]


def test_everything_missing_has_a_remedy():
    checks = list(doctor.examine())
    assert {"Python", "jax", "ffmpeg", "free disk", "face_landmarker.task"} <= {check.name for check in checks}
    assert all(check.remedy for check in checks if not check.ok)
    assert not any(check.remedy for check in checks if check.ok)


def test_an_ffmpeg_that_can_not_encode_is_found_out_by_trying(monkeypatch, tmp_path):
    """Its version is fine, and it does nothing."""
    lying = tmp_path / "ffmpeg"
    lying.write_text("#!/bin/sh\n[ \"$1\" = -version ] && echo 'ffmpeg version 7.1 --enable-libx264'; exit 0\n")
    lying.chmod(0o755)
    (working,) = doctor._ffmpeg()
    assert working.ok and "encodes and decodes" in working.found
    monkeypatch.setattr(ffmpeg, "ffmpeg_executable", lambda: str(lying))
    (check,) = doctor._ffmpeg()
    assert not check.ok and "ffmpeg version 7.1" in check.found and "4.2 or newer" in check.remedy


def test_a_missing_library_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(system_libraries, "LIBRARIES", {"libno_such_thing.so.9": "libno-such-thing"})
    (check,) = doctor._libraries()
    assert not check.ok and "libno_such_thing.so.9" in check.found
    assert check.remedy == "apt-get update && apt-get install -y libno-such-thing"
    assert not doctor.healthy([check])


def test_a_missing_package_is_needed(monkeypatch):
    needed = ["no-such-package>=1,<2", "numpy>=999", 'gradio>=6; extra == "ui"', 'scipy; python_version < "3"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: needed)
    missing, old, *others = doctor._packages()
    assert [check.name for check in others] == ["OpenCV"]
    assert (missing.ok, missing.needed, missing.remedy) == (False, True, 'pip install "no-such-package<2,>=1"')
    assert (old.ok, old.needed) == (False, False), "an untested version is told, not refused"


@pytest.mark.parametrize(("content", "state"), [(b"model", "as in its NOTICE"), (b"other", "sha256 differs"), (None, "missing")])
def test_models_are_checked_by_hash(monkeypatch, tmp_path, content, state):
    folder = tmp_path / "data_tools" / "face" / "models"
    folder.mkdir(parents=True)
    (folder / "NOTICE").write_text(f"A model.\nsha256 {hashlib.sha256(b'model').hexdigest()}  a.task\n")
    if content is not None:
        (folder / "a.task").write_bytes(content)
    monkeypatch.setattr(doctor.data_tools, "__file__", str(folder.parents[1] / "__init__.py"))
    (check,) = doctor._models()
    assert state in check.found and check.ok == (content == b"model")


def test_a_clone_says_so_and_a_wheel_too(monkeypatch, tmp_path):
    version, configs_folder, weights = doctor._installation()
    assert version.found == f"{__version__}, from the clone {ROOT}"
    assert (configs_folder.found, weights.found) == (str(ROOT / "configs"), str(ROOT / "checkpoints"))
    assert doctor.install_extra("ui") == 'pip install -e ".[ui]"'

    (tmp_path / "shipped" / "configs").mkdir(parents=True)
    monkeypatch.setattr(configs, "clone", lambda: None)
    monkeypatch.setattr(configs, "INSTALLED", tmp_path / "shipped")
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: ["numpy", 'gradio>=6; extra == "ui"'])
    version, configs_folder, weights = doctor._installation()
    assert version.found == f"{__version__}, from a wheel, installed in {tmp_path}"
    assert configs_folder.found == str(tmp_path / "shipped" / "configs")
    assert not weights.ok and weights.needed and weights.remedy.endswith(f" geneface_jax-{__version__}-py3-none-any.whl")
    assert list(doctor._weights()) == []
    assert doctor.install_extra("ui") == 'pip install "gradio>=6"'


def test_what_is_optional_does_not_make_a_machine_unhealthy():
    optional = doctor.Check("extra: ui", "not installed", ok=False, needed=False, remedy="pip install")
    needed = doctor.Check("jax", "not installed", ok=False, remedy="pip install jax")
    assert doctor.healthy([optional]) and not doctor.healthy([optional, needed])
