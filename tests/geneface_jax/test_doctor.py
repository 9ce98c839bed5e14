"""doctor: each check tells the truth, and each thing missing comes with the command that mends it."""

from __future__ import annotations

import hashlib

import pytest

from geneface_jax import system_libraries
from geneface_jax.cli import doctor
from geneface_jax.io import configs


def test_everything_missing_has_a_remedy():
    checks = list(doctor.examine())
    assert {"Python", "jax", "ffmpeg", "free disk", "face_landmarker.task"} <= {check.name for check in checks}
    assert all(check.remedy for check in checks if not check.ok)
    assert not any(check.remedy for check in checks if check.ok)


def test_a_missing_library_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(system_libraries, "LIBRARIES", {"libno_such_thing.so.9": "libno-such-thing"})
    (check,) = doctor._libraries()
    assert not check.ok and "libno_such_thing.so.9" in check.found
    assert check.remedy == "apt-get update && apt-get install -y libno-such-thing"
    assert not doctor.healthy([check])


def test_a_missing_package_is_needed(monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("# core\nno-such-package>=1,<2\nnumpy>=999\n")
    monkeypatch.setattr(configs, "repository", lambda: tmp_path)
    missing, old = list(doctor._packages())[:2]
    assert (missing.ok, missing.needed, missing.remedy) == (False, True, 'pip install "no-such-package>=1,<2"')
    assert (old.ok, old.needed) == (False, False), "an untested version is told, not refused"


@pytest.mark.parametrize(("content", "state"), [(b"model", "as in its NOTICE"), (b"other", "sha256 differs"), (None, "missing")])
def test_models_are_checked_by_hash(monkeypatch, tmp_path, content, state):
    folder = tmp_path / "data_tools" / "face" / "models"
    folder.mkdir(parents=True)
    (folder / "NOTICE").write_text(f"A model.\nsha256 {hashlib.sha256(b'model').hexdigest()}  a.task\n")
    if content is not None:
        (folder / "a.task").write_bytes(content)
    monkeypatch.setattr(configs, "repository", lambda: tmp_path)
    (check,) = doctor._models()
    assert state in check.found and check.ok == (content == b"model")


def test_what_is_optional_does_not_make_a_machine_unhealthy():
    optional = doctor.Check("extra: ui", "not installed", ok=False, needed=False, remedy="pip install")
    needed = doctor.Check("jax", "not installed", ok=False, remedy="pip install jax")
    assert doctor.healthy([optional]) and not doctor.healthy([optional, needed])
