"""`geneface bake`: what it prints, and exit code 2 with a sentence for what it can't use."""

import shutil

import numpy as np
import pytest

from geneface_jax.cli import main as cli
from geneface_jax.inference import culling
from geneface_jax.inference.culling import Baked
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io.cull import Cull
from tests.tiny_person import write_person


@pytest.mark.parametrize("ended", [0.7, 0.2])
def test_what_is_printed(monkeypatch, capsys, tmp_path, ended):
    asked = []

    def bake(subject, *, progress):
        asked.append((subject, progress))
        return Baked(tmp_path / "head" / "cull.npz", 0.327, ended)

    monkeypatch.setattr(culling, "bake", bake)
    assert cli.main(["bake", "demo"]) == 0
    kept, *fog, path = capsys.readouterr().out.splitlines()
    assert (
        asked == [("demo", True)] and kept == "33 % of the head's occupied volume is kept" and path == str(tmp_path / "head" / "cull.npz")
    )
    assert len(fog) == (ended < 0.5)
    assert not fog or ("only 20 %" in fog[0] and "train it further" in fog[0] and "--config.distortion.weight" in fog[0])


def test_bad_input_is_exit_code_2_and_one_sentence(tmp_path, capsys):
    person = write_person(tmp_path / "anna")
    (tmp_path / "nobody").mkdir()
    shutil.copytree(person, tmp_path / "vanilla")
    (tmp_path / "vanilla" / "head").rename(tmp_path / "vanilla" / "nerf_head")
    other = shutil.copytree(person, tmp_path / "cut off")
    (state,) = (other / "head" / "checkpoints").glob("*/state")
    shutil.rmtree(state)
    state.mkdir()
    for name, words in {"nothing": "no subject folder", "nobody": "no dataset/", "vanilla": "vanilla NeRF", "cut off": "damaged"}.items():
        assert cli.main(["bake", str(tmp_path / name)]) == 2
        told = capsys.readouterr().err.strip()
        assert told.startswith("geneface bake: ") and words in told and told.endswith(".") and "\n" not in told, told
    assert not list(tmp_path.rglob("cull.npz"))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bake"])


def test_a_cull_of_another_head_is_exit_code_2(tmp_path, capsys):
    person, other = (write_person(tmp_path / name, seed=seed) for seed, name in enumerate(("anna", "bruno")))
    renderer = SubjectRenderer.load(person)
    Cull(renderer.head_fingerprint, renderer.torso_fingerprint, np.ones((32, 32, 32), bool), None).save(other / "head")
    assert cli.main(["export", "--subject", str(other), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "baked from another head" in told and "geneface bake SUBJECT" in told and not (tmp_path / "out").exists()
