"""Networks and dataset belong together: by a fingerprint that each checkpoint records."""

import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.light import light_copy
from geneface_jax.cli.main import main
from geneface_jax.data.subject import Subject, record_dataset, require_same_dataset, trained_on
from geneface_jax.export import export_subject
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io import configs
from geneface_jax.training.field_base import FrozenHead
from geneface_jax.training.stages.torso import TorsoStage
from tests.synthetic_subject import tiny_field_config
from tests.tiny_person import write_person


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return write_person(tmp_path_factory.mktemp("person") / "anna")


@pytest.fixture
def person(template, tmp_path):
    return shutil.copytree(template, tmp_path / "anna")


def changed(folder, **arrays):
    """The same dataset with some other arrays."""
    with np.load(folder / "dataset" / "arrays.npz") as archive:
        values = {**archive, **arrays}
    np.savez(folder / "dataset" / "arrays.npz", **values)
    return folder


def test_it_is_the_same_for_a_light_copy_and_with_another_name_or_consent(person, tmp_path):
    subject = Subject.load(person)
    meta = json.loads((person / "dataset" / "meta.json").read_text())
    (person / "dataset" / "meta.json").write_text(json.dumps({**meta, "name": "B", "consent": "C"}))
    light = light_copy(person / "dataset", tmp_path / "light")
    assert len(subject.fingerprint) == 16
    assert subject.fingerprint == Subject.load(person).fingerprint == Subject.load(light).fingerprint


def test_it_is_another_for_other_arrays_and_another_split(person):
    before = Subject.load(person).fingerprint
    changed(person, f0=np.ones(44, np.float32))
    assert (other := Subject.load(person).fingerprint) != before
    meta = json.loads((person / "dataset" / "meta.json").read_text())
    (person / "dataset" / "meta.json").write_text(json.dumps({**meta, "n_train": meta["n_train"] - 1}))
    assert Subject.load(person).fingerprint not in (before, other)


def test_every_checkpoint_of_a_person_records_it(person):
    subject = Subject.load(person)
    assert trained_on(configs.from_json(json.loads((person / "head/checkpoints/1/meta/metadata").read_text())["config"])) == (
        subject.fingerprint
    )
    stage = TorsoStage(tiny_field_config(configs.from_file("torso:demo"), person / "dataset"))
    assert trained_on(stage.config) == subject.fingerprint


def test_older_checkpoints_have_none_and_pass(person):
    subject = Subject.load(person)
    require_same_dataset("the head", trained_on(ConfigDict({"data": {}})), subject)
    require_same_dataset("the head", trained_on(ConfigDict()), subject)
    assert SubjectRenderer.load(person).subject.name == "synthetic"


def test_networks_on_another_dataset_are_refused_at_every_use(person, tmp_path, capsys):
    changed(person, f0=np.ones(44, np.float32))
    sentence = "The head in .* was trained on another dataset than .*dataset holds now"
    with pytest.raises(InputError, match=sentence):
        SubjectRenderer.load(person)
    with pytest.raises(InputError, match=sentence):
        export_subject(person, tmp_path / "out", platforms=["cpu"])
    with pytest.raises(InputError, match=sentence):
        FrozenHead(person / "head", Subject.load(person))
    assert main(["evaluate", "--subject", str(person), "--out", str(tmp_path / "e.mp4")]) == 2
    assert "was trained on another dataset" in capsys.readouterr().err


def test_a_run_is_not_resumed_on_another_dataset(tmp_path):
    old, new = ConfigDict({"data": {}}), ConfigDict({"data": {}})
    record_dataset(old, "a" * 16)
    record_dataset(new, "b" * 16)
    configs.save(old, tmp_path)
    with pytest.raises(InputError, match="data.fingerprint.*another dataset"):
        configs.require_resumable(tmp_path, new)
    configs.save(ConfigDict({"data": {}}), tmp_path)
    configs.require_resumable(tmp_path, new)  # begun by an earlier version
