"""People are found by folder or by the name of a shipped person, and those of an installed wheel are only read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.errors import InputError
from geneface_jax.cli.main import main
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import evaluation_folder, find_parts, find_person, person_argument, shipped_people
from geneface_jax.pipeline import plan
from geneface_jax.studio.render_queue import PersonList

DEMO = Path(__file__).parents[3] / "checkpoints" / "demo"


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """The shipped folders as an installed wheel has them, seen from an empty current folder."""
    shutil.copytree(DEMO, tmp_path / "shipped" / "checkpoints" / "demo", ignore=shutil.ignore_patterns("evaluation"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(configs, "clone", lambda: None)
    monkeypatch.setattr(configs, "INSTALLED", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_a_shipped_person_is_found_by_name_and_a_folder_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_person("demo") == find_person("checkpoints/demo") == find_parts("demo").folder == DEMO
    assert shipped_people()["demo"] == DEMO and "avatar" not in shipped_people()
    (tmp_path / "demo").mkdir()
    assert find_person("demo") == Path("demo")


def test_nobody_is_found_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no subject folder people/me: make one with `geneface fit VIDEO --out people/me`\.$"):
        find_person("people/me")
    with pytest.raises(InputError, match="no subject folder dmeo: did you mean the shipped person demo"):
        find_person("dmeo")
    with pytest.raises(InputError, match="no subject folder avatar: make one"):
        find_person("avatar")  # the avatar's corpus and its networks are no person


def test_shipped_networks_are_read_by_their_path_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checkpoints.load("checkpoints/avatar/syncnet").config.stage == "syncnet"
    plans = plan(Path("me"), variant="demo", corpus="checkpoints/avatar/corpus", corpus_models="checkpoints/avatar", steps={})
    assert plans["postnet"].data.corpus == str(DEMO.parent / "avatar" / "corpus")


def test_a_person_of_a_wheel_has_a_name_for_a_path_and_is_evaluated_below_the_current_folder(wheel):
    folder = find_person("demo")
    assert folder == wheel / "checkpoints" / "demo" and person_argument(folder) == "demo"
    assert evaluation_folder(folder) == Path("evaluation/demo")
    assert person_argument(Path("people/me")) == "people/me" and evaluation_folder(Path("people/me")) == Path("people/me/evaluation")


def test_no_checkpoint_is_selected_in_a_wheel(wheel, capsys):
    shutil.copytree(wheel / "checkpoints" / "demo" / "postnet", "postnet")
    (shipped,) = checkpoints.steps(Path("postnet"))
    metrics = "".join(f'{{"step": {step}, "val/mse": 0.5, "val/sync": 0.5}}\n' for step in (shipped // 2, shipped))
    workdir = wheel / "checkpoints" / "demo" / "postnet"
    for folder in (Path("postnet"), workdir):
        (folder / "metrics.jsonl").write_text(metrics)
    assert main(["select-postnet", "postnet"]) == 0 and Path("postnet/selected.json").is_file()
    assert main(["select-postnet", str(workdir)]) == 2
    assert "belongs to the installation of geneface_jax, where nothing is written: add --dry-run." in capsys.readouterr().err
    assert not (workdir / "selected.json").exists() and main(["select-postnet", str(workdir), "--dry-run"]) == 0


def test_the_studio_adds_people_beside_a_wheel_and_not_into_it(wheel):
    people = PersonList.open(None)
    assert people.names() == ["demo"] and people.folder == Path("people") and people.folder.is_dir()
    shutil.copytree(DEMO, "people/me", ignore=shutil.ignore_patterns("evaluation"))
    assert (
        people.names() == ["demo", "me"] and PersonList.open("demo").names() == ["demo"] and PersonList.open("people/me").names() == ["me"]
    )
    assert PersonList.open("demo").folder == Path("people")
    assert people.without_folders(f"{wheel}/checkpoints/demo and people/me are here.") == "demo and me are here."
    with pytest.raises(InputError, match="There is no folder nowhere"):
        PersonList.open("nowhere")
    shutil.rmtree("people")
    Path("people").write_text("in the way")
    with pytest.raises(InputError, match="New people can't be kept in .*/people .*: name a folder with --subject"):
        PersonList.open(None)
