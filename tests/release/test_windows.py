"""What Windows lacks isn't needed by the demo and by training; nothing here has been run on Windows itself."""

from __future__ import annotations

import os
import subprocess
import sys

from data_tools import io
from geneface_jax import system_libraries

POSIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "termios")
PARTS = (
    "geneface_jax.cli.infer",
    "geneface_jax.cli.evaluate",
    "geneface_jax.inference.person",
    "geneface_jax.evaluation",
    "geneface_jax.pipeline",
    "geneface_jax.training.loop",
    "data_tools.prepare",
    "data_tools.avatar.__main__",
)


def test_the_parts_of_the_demo_are_imported_without_posix_modules():
    hide = f"import importlib, sys; sys.modules.update(dict.fromkeys({POSIX_ONLY}))"
    subprocess.run([sys.executable, "-c", f"{hide}; [importlib.import_module(name) for name in {PARTS}]"], check=True)


def test_only_linux_is_asked_for_linux_libraries(monkeypatch):
    monkeypatch.setattr(system_libraries, "LIBRARIES", {"libno_such_thing.so.9": "libno-such-thing"})
    assert system_libraries.missing() or not sys.platform.startswith("linux")
    for system in ("win32", "darwin"):
        monkeypatch.setattr(sys, "platform", system)
        assert not system_libraries.missing()


def test_a_manifest_is_written_where_nothing_can_be_synced(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError("not open for writing")

    monkeypatch.setattr(io, "_SYNCS", False)
    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "weights").write_bytes(b"learnt")
    io.write_manifest(tmp_path)
    assert io.manifest_damage(tmp_path) is None
    (tmp_path / "weights").write_bytes(b"learnT")
    assert io.manifest_damage(tmp_path)
