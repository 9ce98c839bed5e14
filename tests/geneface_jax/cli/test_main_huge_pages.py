"""The restart happens once, keeps the command line, and never happens where it can't help."""

import os

import pytest

from geneface_jax.cli import main


@pytest.fixture
def starts(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execv", lambda path, argv: calls.append(argv))
    monkeypatch.setattr(main.sys, "platform", "linux")
    monkeypatch.setattr(main, "_glibc_is_recent", lambda: True)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return calls


def test_restarts_once_with_the_same_arguments(starts, monkeypatch):
    main.restart(["train", "--workdir", "a b"])
    assert starts[0][1:] == ["-P", "-m", "geneface_jax", "train", "--workdir", "a b"]
    assert os.environ["GLIBC_TUNABLES"] == main.TUNABLE
    main.restart(["train"])
    assert len(starts) == 1


def test_keeps_the_users_tunables(starts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=3")
    main.restart(["fit"])
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=3:{main.TUNABLE}"


@pytest.mark.parametrize(("platform", "recent"), [("darwin", True), ("linux", False)])
def test_leaves_other_systems_alone(starts, monkeypatch, platform, recent):
    monkeypatch.setattr(main.sys, "platform", platform)
    monkeypatch.setattr(main, "_glibc_is_recent", lambda: recent)
    main.restart(["train"])
    assert not starts
