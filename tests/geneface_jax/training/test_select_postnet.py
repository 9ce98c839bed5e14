"""The selection on made-up curves: what it prefers, what it notices, and that inference follows it."""

import json

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.cli.main import main
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.select_postnet import COLLAPSED, SOUND, UNDERFITTED, Rules, select

GOOD = {"sync": 0.2, "mse": 0.02, "pos": 0.55, "neg": 0.45, "frechet": 0.5, "diversity": 0.8}


def run_folder(folder, evaluations, finetune=100, saved=None):
    """A work folder with `evaluations`, step -> what differs from GOOD; None leaves a figure unlogged."""
    config = configs.load("postnet:demo", [f"finetune_audio2motion.steps={finetune}"])
    configs.save(config, folder)
    lines = []
    if finetune:
        lines.append({"step": finetune, "tr/disc_pos_conf": 0.0, "tr/disc_neg_conf": 0.0, "tr/adv": 0.0})
        lines.append({"step": finetune, "val/mse": 0.001, "val/sync": 0.001, "val/diversity": 0.8, "val_vae/diversity": 0.8})
    for step, changed in evaluations.items():
        row = GOOD | changed
        lines.append({"step": step, "tr/disc_pos_conf": row["pos"], "tr/disc_neg_conf": row["neg"], "tr/adv": 0.3})
        measured = {f"val/{name}": row[name] for name in ("sync", "mse", "frechet", "diversity") if row[name] is not None}
        lines.append({"step": step, **measured, "val_vae/mse": 0.04, "val_vae/frechet": 1.0, "val_vae/diversity": 0.8})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in evaluations if saved is None else saved:
        checkpoints.save(folder, step, {"params": {"w": np.zeros(1)}}, {"config": config, "metrics": {}})
    return folder


def test_fewest_steps_among_the_level_ones(tmp_path):
    found = select(run_folder(tmp_path, {200: {"mse": 0.03}, 300: {"mse": 0.0205}, 400: {}, 500: {"sync": 0.205}}))
    assert (found.step, found.verdict) == (300, SOUND)
    assert [candidate.rank for candidate in found.candidates] == [1, 2, 3, 4]
    assert found.candidates[-1].step == 200 and "val/mse 50% above" in found.candidates[-1].reason
    assert "fewest steps of 3" in found.candidates[0].reason and "steps more" in found.candidates[1].reason
    assert select(tmp_path, Rules(tolerance=0.0)).step == 400


def test_each_of_the_three_figures_counts(tmp_path):
    for name, worse in (("mse", {"mse": 0.03}), ("sync", {"sync": 0.3}), ("disc", {"pos": 0.95, "neg": 0.1})):
        (tmp_path / name).mkdir()
        assert select(run_folder(tmp_path / name, {200: worse, 300: {}})).step == 300, name


def test_fine_tuning_steps_and_steps_without_a_checkpoint_are_no_candidates(tmp_path):
    found = select(run_folder(tmp_path, {200: {}, 300: {}, 400: {}}, saved=(100, 300, 400)))
    assert {candidate.step for candidate in found.candidates} == {300, 400}
    assert found.step == 300 and found.candidates[0].adversarial == 200


def test_collapse_is_called_so_and_avoided(tmp_path):
    (tmp_path / "late").mkdir()
    late = select(run_folder(tmp_path / "late", {200: {}, 300: {}, 400: {"diversity": 0.01, "mse": 0.001, "sync": 0.01}}))
    assert (late.step, late.verdict) == (200, SOUND)
    assert "collapse from step 400" in late.findings[0] and "mode collapse" in late.candidates[-1].reason
    (tmp_path / "whole").mkdir()
    whole = select(run_folder(tmp_path / "whole", {200: {"diversity": 0.1}, 300: {"diversity": 0.02}}))
    assert whole.verdict == COLLAPSED and "step 200" in whole.findings[0]


@pytest.mark.parametrize(
    ("evaluations", "words"),
    [
        ({200: {"pos": 0.1, "neg": 0.08}}, "hardly begun"),
        ({200: {}, 300: {"pos": 0.95, "neg": 0.05}}, "discriminator wins"),
        ({200: {"mse": 0.039}, 300: {"mse": 0.036}, 400: {"mse": 0.03}}, "still falling"),
        ({200: {"mse": 0.041, "frechet": 1.2}}, "train longer"),
        ({200: {"mse": 0.9, "frechet": 9.0}}, "gone astray"),
    ],
)
def test_underfitting_is_called_so(tmp_path, evaluations, words):
    found = select(run_folder(tmp_path, evaluations))
    assert found.verdict == UNDERFITTED and any(words in finding for finding in found.findings)


def test_a_curve_that_goes_up_and_down_is_not_still_falling(tmp_path):
    rows = {step: {"mse": mse} for step, mse in ((200, 0.030), (300, 0.025), (400, 0.031), (500, 0.0245), (600, 0.0246), (700, 0.0245))}
    assert select(run_folder(tmp_path, rows)).verdict == SOUND


def test_overtraining_and_missing_figures_are_said(tmp_path):
    (tmp_path / "over").mkdir()
    over = select(run_folder(tmp_path / "over", {200: {}, 300: {"mse": 0.04}}))
    assert (over.step, over.verdict) == (200, SOUND) and "Over-training" in over.findings[0]
    (tmp_path / "old").mkdir()
    old = select(run_folder(tmp_path / "old", {200: {"sync": None, "diversity": None}}))
    assert old.verdict == SOUND and len(old.findings) == 2


def test_wrong_folders_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="no checkpoint"):
        select(tmp_path)
    (tmp_path / "run").mkdir()
    run_folder(tmp_path / "run", {200: {}}, saved=(100,))
    with pytest.raises(InputError, match="None of the checkpoints 100"):
        select(tmp_path / "run")
    configs.save(configs.load("syncnet:demo", []), tmp_path / "run")
    assert main(["select-postnet", str(tmp_path / "run")]) == 2
    assert "stage syncnet" in capsys.readouterr().err


def test_the_verb_writes_the_choice_and_the_curves(tmp_path, capsys):
    run_folder(tmp_path, {200: {}, 300: {"mse": 0.04}})
    assert main(["select-postnet", str(tmp_path), "--dry-run"]) == 0
    assert checkpoints.read_selected_step(tmp_path) is None and not list(tmp_path.glob("selected*"))
    assert main(["select-postnet", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "run: sound; choice: step 200" in out and out.strip().endswith("selected.json")
    assert checkpoints.read_selected_step(tmp_path) == 200
    record = json.loads((tmp_path / "selected.json").read_text())
    assert record["verdict"] == "sound" and [row["step"] for row in record["candidates"]] == [200, 300]
    assert Image.open(tmp_path / "selected.png").size[0] > 500
    assert main(["select-postnet", str(tmp_path), "--tolerance", "-1"]) == 2


def test_a_stale_or_damaged_choice_is_refused(tmp_path):
    checkpoints.write_selected_step(run_folder(tmp_path, {200: {}}), 300, {})
    with pytest.raises(InputError, match="step 300, which has no checkpoint"):
        checkpoints.read_selected_step(tmp_path)
    for record in ({"step": 200}, *({"format": "geneface_jax.selected", "step": step} for step in (True, -1, None))):
        (tmp_path / "selected.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match="selected.json .*select again"):
            checkpoints.read_selected_step(tmp_path)
    (tmp_path / "selected.json").write_text('{"format": "geneface_jax.selected", "step": 200}')  # as older versions wrote it
    assert checkpoints.read_selected_step(tmp_path) == 200
    (tmp_path / "selected.json").write_text("[]")
    with pytest.raises(InputError, match="holds no record"):
        checkpoints.read_selected_step(tmp_path)
