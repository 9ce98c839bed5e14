"""Baking: what is kept is what shows, pictures stay what they are, and a cull of other networks is not used."""

from __future__ import annotations

import functools
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.io import hold
from geneface_jax.inference import culling
from geneface_jax.inference.culling import Baked, bake, is_baked, seen_cells
from geneface_jax.inference.renderer import SubjectRenderer, TorsoLayer
from geneface_jax.io import checkpoints, configs, cull
from tests.tiny_person import write_person


@pytest.fixture(scope="module", autouse=True)
def few_frames():
    """Few pictures: the tiny head is as soft as its grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(culling, "seen_cells", functools.partial(seen_cells, frames=6))
        patch.setattr(culling, "TORSO_FRAMES", 3)
        patch.setattr(culling, "RAYS", 32)
        patch.setattr(culling, "RESOLUTION", 64)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = write_person(tmp_path_factory.mktemp("culling") / "anna")
    return folder, bake(folder)


@pytest.fixture
def person(template, tmp_path):
    return shutil.copytree(template[0], tmp_path / "anna")


def frames(renderer, **options):
    subject = renderer.subject
    chosen = [0, 7, 21]
    drive = subject.motion[chosen].reshape(3, 204), subject.cameras[chosen], subject.eye_openness[chosen]
    return np.stack(list(renderer.render(*drive, **options))).astype(int)


def test_the_result(template):
    folder, baked = template
    assert baked.path == folder / "head" / "cull.npz" and baked.path.stat().st_size < 200_000
    assert 0.0 < baked.kept <= 1.0 and 0.0 <= baked.ended <= 1.0
    assert baked.findings[0] == f"{100 * baked.kept:.0f} % of the head's occupied volume is kept"
    assert is_baked(folder)


def test_fog_is_said_with_the_way_out(tmp_path):
    sound, fog = (Baked(tmp_path, 0.32, ended) for ended in (0.7, 0.123))
    assert not sound.is_fog and len(sound.findings) == 1
    assert fog.is_fog and len(fog.findings) == 2
    assert "still fog" in fog.findings[1] and "only 12 %" in fog.findings[1] and "--config.distortion.weight" in fog.findings[1]


def test_what_is_kept_was_occupied(template):
    """Other cells never had a density in training: whatever the network says there, it must not show."""
    renderer = SubjectRenderer.load(template[0])
    occupied = np.asarray(renderer.occupied)
    finer = len(renderer.cull.cells) // len(occupied)
    outside = renderer.cull.cells & ~functools.reduce(lambda cells, axis: cells.repeat(finer, axis), range(3), occupied)
    assert renderer.cull.cells.any() and not outside.any(), outside.sum()


def test_pictures_stay_what_they_are(template):
    culled, plain = (SubjectRenderer.load(template[0], culled=culled) for culled in (True, False))
    assert culled.cull is not None and plain.cull is None
    assert culled.visited.shown.dtype == jnp.uint32 and plain.visited.dtype == bool
    for options in ({}, {"single_pass": True, "batch": 3}, {"size": 48}, {"rays": "adaptive"}):
        change = np.abs(frames(culled, **options) - frames(plain, **options))
        assert change.max() <= 4 and change.mean() < 0.02, (options, change.max(), change.mean())
    assert frames(plain).std() > 20


def test_baking_twice_gives_the_same_file(person):
    before = (person / "head" / "cull.npz").read_bytes()
    bake(person)
    assert (person / "head" / "cull.npz").read_bytes() == before


def test_a_cull_of_another_head_is_refused(person, tmp_path):
    other = write_person(tmp_path / "bruno", seed=1)
    shutil.copyfile(person / "head" / "cull.npz", other / "head" / "cull.npz")
    assert not is_baked(other)
    with pytest.raises(InputError, match=r"cull.npz was baked from another head than the one in .*head: make it again with `geneface bake"):
        SubjectRenderer.load(other)
    assert SubjectRenderer.load(other, culled=False).cull is None
    assert SubjectRenderer.load(other, step=1).cull is None, "an earlier checkpoint is looked at, as an evaluation does"
    bake(other)
    assert is_baked(other) and SubjectRenderer.load(other).cull is not None


def test_a_damaged_cull_is_refused_and_baked_again(person):
    path = person / "head" / "cull.npz"
    path.write_bytes(path.read_bytes()[:-30])
    assert not is_baked(person)
    with pytest.raises(InputError, match="cull.npz is damaged.*geneface bake"):
        SubjectRenderer.load(person)
    path.unlink()
    assert not is_baked(person) and SubjectRenderer.load(person).cull is None


def test_of_a_torso_that_was_trained_later_all_pixels_are_rendered(person, tmp_path, caplog):
    shutil.rmtree(person / "torso")
    shutil.copytree(write_person(tmp_path / "bruno", seed=1) / "torso", person / "torso")
    caplog.set_level(logging.WARNING)
    renderer = SubjectRenderer.load(person)
    assert "the torso was trained after" in caplog.text and "geneface bake" in caplog.text
    assert renderer.cull.torso_pixels is None and renderer.cull.cells.any() and not is_baked(person)
    assert len(renderer._torso_pixels(32)) == 32 * 32
    caplog.clear()
    assert SubjectRenderer.load(person, torso=False).cull is not None and not caplog.text, "no torso is looked at"


def test_a_head_alone_is_baked(person):
    shutil.rmtree(person / "torso")
    bake(person)
    found = cull.read(person / "head")
    assert found.torso == "" and found.torso_pixels is None and is_baked(person)
    assert frames(SubjectRenderer.load(person, torso=False)).shape == (3, 32, 32, 3)


def test_the_torsos_pixels_have_a_margin_and_follow_the_size(template):
    renderer = SubjectRenderer.load(template[0])
    known = renderer.cull.torso_pixels
    assert known.shape == (32, 32)
    np.testing.assert_array_equal(renderer._torso_pixels(32), np.flatnonzero(known))
    for size in (16, 48, 64):
        chosen = np.zeros(size * size, bool)
        chosen[renderer._torso_pixels(size)] = True
        places = ((np.arange(size) + 0.5) * 32 / size).astype(int)
        assert not (known[np.ix_(places, places)] & ~chosen.reshape(size, size)).any(), size
    assert isinstance(renderer._torso_layer(np.zeros((1, 204), np.float32), renderer.subject.cameras[:1], None, 16), TorsoLayer)


def test_a_released_person_keeps_its_cull(person, tmp_path):
    """Fingerprints are of values in half precision, which is what a release stores."""
    released = shutil.copytree(person, tmp_path / "released")
    for stage in ("head", "torso"):
        checkpoints.release(person / stage, released / stage, half=("*table*", "occupancy/*"))
    assert not (released / "head" / "cull.npz").exists()
    shutil.copyfile(person / "head" / "cull.npz", released / "head" / "cull.npz")
    assert is_baked(released)
    renderer = SubjectRenderer.load(released)
    assert renderer.cull is not None and renderer.cull.torso_pixels is not None


def test_what_can_not_be_baked_is_named(person, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no subject folder"):
        bake(tmp_path / "nobody")
    with hold(person / "head", "geneface train"), pytest.raises(InputError, match="geneface train"):
        _in_another_thread(lambda: bake(person))
    monkeypatch.setattr(configs, "INSTALLED", person.parent.resolve())
    with pytest.raises(InputError, match="belongs to the installation.*copy that folder and bake the copy"):
        bake(person)
    monkeypatch.undo()
    before = (person / "head" / "cull.npz").read_bytes()
    (person / "head").rename(person / "nerf_head")
    with pytest.raises(InputError, match="vanilla NeRF, which has no occupancy grid"):
        bake(person)
    assert (person / "nerf_head" / "cull.npz").read_bytes() == before, "nothing that was there is lost"
    (person / "nerf_head").rename(person / "moved")
    with pytest.raises(InputError, match="no trained head"):
        bake(person)


def _in_another_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


# -------- The shipped person


@pytest.mark.slow
def test_the_shipped_person_looks_the_same(tmp_path, monkeypatch):
    """Frames it was not trained on. Skipped samples count, so that the sample limit ends rays at the same places."""
    for name, value in {"seen_cells": seen_cells, "RAYS": 128, "RESOLUTION": 256, "TORSO_FRAMES": 60}.items():
        monkeypatch.setattr(culling, name, value)
    folder = shutil.copytree(configs.shipped("checkpoints") / "demo", tmp_path / "demo")
    baked = bake(folder)
    assert baked.kept < 0.5
    pictures = {}
    for culled in (True, False):
        renderer = SubjectRenderer.load(folder, culled=culled)
        subject = renderer.subject
        chosen = np.linspace(subject.n_train, subject.n_frames - 1, 3).astype(int)
        drive = subject.motion[chosen].reshape(3, 204), subject.cameras[chosen], subject.eye_openness[chosen]
        pictures[culled] = [np.stack(list(renderer.render(*drive, transparent=transparent))).astype(int) for transparent in (False, True)]
    color, alpha = (np.abs(ours - theirs) for ours, theirs in zip(pictures[True], pictures[False], strict=True))
    assert (alpha[..., 3] <= 2).mean() > 0.9995, np.bincount(alpha[..., 3].ravel())
    assert (color.max(-1) <= 2).mean() > 0.9995 and color.mean() < 0.01, np.bincount(color.max(-1).ravel())
