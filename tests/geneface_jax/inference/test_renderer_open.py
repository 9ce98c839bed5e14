"""Which networks a subject folder is rendered with, and what does not belong together."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.convert.release import import_checkpoint
from geneface_jax.convert.rules import write_work_folder
from geneface_jax.data.subject import Subject, record_camera
from geneface_jax.inference.renderer import SubjectRenderer, open_renderer
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import find_parts
from tests.geneface_jax.convert import original_fields as fields
from tests.geneface_jax.convert.originals import checkpoint
from tests.synthetic_subject import write_subject


def put(folder, weights, camera=None):
    part = import_checkpoint(checkpoint(model=weights, hparams=fields.HPARAMS))
    if camera is not None:
        record_camera(part.config, *camera)
    write_work_folder(part, folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A person with an imported head, its torso, and the same with super-resolution (16 -> 32 pixels)."""
    folder = tmp_path_factory.mktemp("person")
    write_subject(folder / "dataset", frames=22)
    head, head_sr = fields.head(), fields.head(blink=2, super_resolution=True)
    put(folder / "head", head)
    put(folder / "torso", fields.torso(head))
    put(folder / "head_sr", head_sr)
    put(folder / "torso_sr", fields.torso(head_sr, jaw=True, head_aware=True))
    return folder


@pytest.fixture
def person(template, tmp_path):
    return shutil.copytree(template, tmp_path / "person")


def render(folder, frames=3, **options):
    renderer = open_renderer(find_parts(folder, need_speech=False, need_torso=False))
    subject = renderer.subject
    drive = subject.motion[:frames], subject.cameras[:frames], subject.eye_openness[:frames]
    return renderer, np.stack(list(renderer.render(*drive, **options)))


def test_the_best_family_is_chosen(person):
    parts = find_parts(person, need_speech=False)
    assert (parts.head, parts.torso, parts.speech, str(parts)) == ("head_sr", "torso_sr", None, "head_sr and torso_sr")
    shutil.rmtree(person / "torso_sr")
    with pytest.raises(InputError, match="no trained torso_sr/"):
        find_parts(person, need_speech=False)
    assert str(find_parts(person, need_speech=False, need_torso=False)) == "head_sr without a torso"
    shutil.rmtree(person / "head_sr")
    assert str(find_parts(person, need_speech=False)) == "head and torso"
    with pytest.raises(InputError, match="no trained postnet/"):
        find_parts(person)
    (person / "audio2motion" / "checkpoints").mkdir(parents=True)
    assert find_parts(person).speech == "audio2motion"
    for stage in ("head", "torso"):
        (person / stage).rename(person / f"nerf_{stage}")
    assert find_parts(person).torso == "nerf_torso"
    shutil.rmtree(person / "nerf_head")
    with pytest.raises(InputError, match="no trained head/"):
        find_parts(person)


def test_the_torso_stands_behind_the_head_and_over_the_background(person):
    shutil.rmtree(person / "head_sr")
    _, whole = render(person)
    shutil.rmtree(person / "torso")
    renderer, bare = render(person)
    alone = np.abs(bare.astype(int) - renderer.subject.background).max(-1) == 0
    assert 0.05 < alone.mean() < 0.95, "the head covers a part"
    assert np.abs(whole.astype(int) - bare).max(-1)[alone].mean() > 5, "where it does not, the torso is seen"


@pytest.mark.parametrize("batch", [1, 2])
def test_super_resolution_enlarges_the_small_composite(person, batch):
    renderer, frames = render(person, batch=batch)
    assert frames.shape == (3, 32, 32, 3) and renderer.super_resolver.size == 16
    _, again = render(person)
    np.testing.assert_array_equal(frames, again)
    _, small = render(person, size=20)
    assert small.shape == (3, 20, 20, 3)


def test_the_torso_with_super_resolution_looks_at_head_and_jaw(person):
    renderer, frames = render(person)
    moved = dict(np.load(person / "dataset" / "arrays.npz"))
    moved["mean_face"] += np.float32(0.3) * (np.arange(68) == 8)[:, None]
    np.savez(person / "dataset" / "arrays.npz", **moved)
    _, chin = render(person)
    assert np.abs(frames.astype(int) - chin).max() > 5
    assert renderer.torso.head_aware and renderer.torso.condition == "jaw"


def test_another_camera_than_in_training_is_refused(person):
    shutil.rmtree(person / "head_sr")
    shutil.rmtree(person / "head")
    intrinsics = Subject.load(person / "dataset").intrinsics._asdict()
    put(person / "head", fields.head(), (32, intrinsics))
    render(person, 1)
    shutil.rmtree(person / "head")
    put(person / "head", fields.head(), (64, intrinsics | {"fx": 2 * intrinsics["fx"]}))
    with pytest.raises(InputError, match=r"size 64, fx .* has size 32, fx ") as caught:
        render(person)
    assert "\n" not in str(caught.value)


def test_a_torso_of_another_head_is_refused(person):
    shutil.rmtree(person / "torso_sr")
    put(person / "torso_sr", fields.torso(fields.head(seed=5, blink=2, super_resolution=True), jaw=True, head_aware=True))
    with pytest.raises(InputError, match="torso_sr was trained with another head"):
        render(person)
    SubjectRenderer.load(person, torso=False, stage="head_sr")


def test_an_empty_head_is_refused_with_advice(person):
    shutil.rmtree(person / "head_sr")
    shutil.rmtree(person / "head")
    weights = fields.head()
    weights["density_bitfield"] = np.zeros_like(weights["density_bitfield"])
    weights["density_grid"] = np.zeros_like(weights["density_grid"])
    put(person / "head", weights)
    with pytest.raises(InputError, match=r"is empty.*--config\.seed"):
        render(person)


def test_a_dataset_of_another_length_or_size_is_refused(person):
    write_subject(person / "long", frames=44)
    shutil.rmtree(person / "dataset")
    (person / "long").rename(person / "dataset")
    with pytest.raises(InputError, match="trained on 30 frames but .* has 40 training frames"):
        render(person)
    shutil.rmtree(person / "dataset")
    write_subject(person / "dataset", frames=22, size=48)
    with pytest.raises(InputError, match="makes frames of 32 pixels, but .* of 48"):
        render(person)


def test_our_own_head_has_a_code_for_every_training_frame(person):
    """An original's 13,000 codes are more than frames; ours are as many."""
    shutil.rmtree(person / "head_sr")
    meta = person / "head" / "checkpoints" / "1000" / "meta" / "metadata"
    record = json.loads(meta.read_text())
    assert record["config"]["source"]["step"] == 1000
    del record["config"]["source"]
    meta.write_text(json.dumps(record))
    (meta.parents[1] / "manifest.json").unlink()  # it would tell that the file was changed by hand
    assert configs.load_saved(person / "head") and checkpoints.load(person / "head").config.get("source") is None
    with pytest.raises(InputError, match="trained on 30 frames"):
        render(person)
