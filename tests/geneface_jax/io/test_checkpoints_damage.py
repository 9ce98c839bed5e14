"""Half-written, truncated and altered checkpoints are detected and reported, and the newest intact one is used."""

from __future__ import annotations

import numpy as np
import pytest
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from data_tools.io import MANIFEST
from geneface_jax.io import checkpoints
from geneface_jax.io.checkpoints import CheckpointWriter
from geneface_jax.training.loop import train


def save(workdir, step, value=1.0, **options):
    return checkpoints.save(workdir, step, {"params": {"w": np.full((300, 4), value, np.float32)}}, {"metrics": {}}, **options)


def largest_array_file(folder):
    return max((path for path in (folder / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(path):
    path.write_bytes(path.read_bytes()[:10])
    return "has 10 bytes of"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    return "doesn't hold the bytes that were written"


def remove(path):
    path.unlink()
    return "is missing"


@pytest.mark.parametrize("spoil", [truncate, flip, remove])
def test_damage_is_named_refused_and_set_aside(tmp_path, spoil):
    save(tmp_path, 1)
    assert checkpoints.damage(tmp_path, 1) is None
    said = spoil(largest_array_file(save(tmp_path, 2)))
    assert said in checkpoints.damage(tmp_path, 2)
    for read in (checkpoints.load, checkpoints.read_arrays):
        with pytest.raises(InputError, match=rf"checkpoints/2 is damaged, .*{said}.*: delete that folder to use step 1"):
            read(tmp_path)
    (sentence,) = checkpoints.set_aside_damaged(tmp_path)
    assert said in sentence and "set aside as 2.damaged" in sentence
    assert checkpoints.steps(tmp_path) == [1] and checkpoints.load(tmp_path).step == 1
    assert checkpoints.set_aside_damaged(tmp_path) == []


@pytest.mark.parametrize(
    "content", ["{}", '{"files": []}', '{"files": {"meta/metadata": 5}}', '{"files": {"../../../1/manifest.json": {}}}', "x"]
)
def test_a_damaged_manifest_is_damage_like_any_other(tmp_path, content):
    save(tmp_path, 1)
    (save(tmp_path, 2) / MANIFEST).write_text(content)
    with pytest.raises(InputError, match=r"checkpoints/2 is damaged, its manifest.json can't be read: delete that folder to use step 1"):
        checkpoints.load(tmp_path)
    (sentence,) = checkpoints.set_aside_damaged(tmp_path)
    assert "manifest.json" in sentence and checkpoints.steps(tmp_path) == [1]


@pytest.mark.parametrize("meta", ["[]", "{}", '{"config": 1, "metrics": {}}', '{"config": {"a.b": 1}, "metrics": {}}', "[" * 5000])
def test_damage_without_a_manifest_is_one_sentence(tmp_path, meta):
    for step in (1, 2):
        (save(tmp_path, step) / MANIFEST).unlink()
    whole = (tmp_path / "checkpoints" / "2" / "meta" / "metadata").read_text()
    (tmp_path / "checkpoints" / "2" / "meta" / "metadata").write_text(meta)
    with pytest.raises(InputError, match="metadata"):
        checkpoints.load(tmp_path)
    assert checkpoints.best_step(tmp_path, "val/error", "min") is None
    (tmp_path / "checkpoints" / "2" / "meta" / "metadata").write_text(whole)
    truncate(largest_array_file(tmp_path / "checkpoints" / "2"))
    for read in (checkpoints.load, checkpoints.read_arrays):
        with pytest.raises(InputError, match="checkpoints/2 is damaged, it can't be read"):
            read(tmp_path)


def test_folders_that_are_no_steps_are_not_listed(tmp_path):
    step = save(tmp_path, 1)
    for name in ("01", "٣", "²", "9" * 200, "1.damaged", "-1"):
        (step.parent / name / "state").mkdir(parents=True)
        (step.parent / name / "meta").mkdir()
    assert checkpoints.steps(tmp_path) == [1]


def test_a_checkpoint_from_before_manifests_is_read_as_a_trial(tmp_path):
    for step in (1, 2):
        (save(tmp_path, step) / MANIFEST).unlink()
    assert checkpoints.damage(tmp_path, 2) is None and checkpoints.load(tmp_path).step == 2
    truncate(largest_array_file(tmp_path / "checkpoints" / "2"))
    assert "can't be read" in checkpoints.damage(tmp_path, 2)
    assert len(checkpoints.set_aside_damaged(tmp_path)) == 1 and checkpoints.steps(tmp_path) == [1]


def test_the_loop_goes_on_from_the_newest_whole_one(tmp_path, capsys):
    first = ToyStage(toy_config(steps=10))
    train(first.config, tmp_path, stage=first)
    truncate(largest_array_file(tmp_path / "checkpoints" / "10"))
    (tmp_path / "checkpoints" / ".15.77.partial" / "state").mkdir(parents=True)
    (tmp_path / "checkpoints" / "15.orbax-checkpoint-tmp-3").mkdir()
    second = ToyStage(toy_config(steps=10))
    train(second.config, tmp_path, stage=second)
    said = capsys.readouterr().out
    assert "the checkpoint of step 10 is damaged" in said and "resumes from step 5" in said
    assert second.steps_seen == [5, 6, 7, 8, 9]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "10.damaged", "5"]


def test_milestones_stay_for_ever(tmp_path):
    for step in range(1, 11):
        save(tmp_path, step, keep=2, milestones_every=4)
    assert checkpoints.steps(tmp_path) == [4, 8, 9, 10]


def test_a_writer_saves_in_order_while_the_state_is_overwritten(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=3, best=None)
    state = {"params": {"w": np.zeros(1000, np.float32)}}
    for step in range(1, 6):
        state["params"]["w"][:] = step
        writer.save(step, state, {"metrics": {}, "run": {"next_batch": step}})
        state["params"]["w"][:] = -1
    writer.close()
    assert checkpoints.steps(tmp_path) == [3, 4, 5]
    for step in (3, 4, 5):
        assert (checkpoints.load(tmp_path, step).state["params"]["w"] == step).all()
        assert checkpoints.read_meta(tmp_path, step)["run"] == {"next_batch": step}


def test_a_process_that_does_not_write_leaves_no_trace(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=1, best=None, enabled=False)
    writer.save(1, {"params": {}}, {})
    writer.close()
    assert list(tmp_path.iterdir()) == []
