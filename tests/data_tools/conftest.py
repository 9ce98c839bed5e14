"""Fixtures of the data tools: a cache of their own, and a short clip of the avatar."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory):
    """Features computed in tests stay out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def avatar(tmp_path_factory) -> Path:
    """Folder of a 4 s clip of the avatar at 256x256, with its truth."""
    from data_tools.avatar.clip import render_clip

    return render_clip(tmp_path_factory.mktemp("avatar") / "clip", size=256, seconds=4.0)
