"""`geneface sweep`: what it hands on to training/sweep.py, its tables and exit codes."""

import pytest

from geneface_jax.cli.main import main as geneface
from geneface_jax.training import sweep

GRID = "ablations/head_grid"


@pytest.fixture
def ran(monkeypatch):
    """Calls of `sweep.run`, which trains nothing here; its `failed` can be set."""
    calls = []

    def run(config, out, slots, overrides):
        calls.append((config.base, out, slots, overrides))
        return run.failed

    run.failed = []
    monkeypatch.setattr(sweep, "run", run)
    return calls, run


@pytest.mark.parametrize(
    ("words", "slots"),
    [([], [""]), (["--jobs", "3"], [""] * 3), (["--devices", "0,1"], ["0", "1"]), (["--devices", "0+1,2+3"], ["0,1", "2,3"])],
)
def test_the_runs_share_the_devices_and_the_tables_are_named_last(ran, tmp_path, capsys, words, slots):
    out = tmp_path / "runs"
    assert geneface(["sweep", GRID, "--out", str(out), *words, "--config.data.rays=8"]) == 0
    assert ran[0] == [("head:demo", out, slots, ["data.rays=8"])]
    assert capsys.readouterr().out.splitlines() == [str(out / "summary.csv"), str(out / "summary.md")]
    assert "| lr=0.001,hidden=32 | 0 |" in (out / "summary.md").read_text()


def test_a_run_that_failed_is_named_and_gives_exit_code_1(ran, tmp_path, capsys):
    ran[1].failed = ["lr=0.001,hidden=32/seed0"]
    assert geneface(["sweep", GRID, "--out", str(tmp_path)]) == 1
    assert f"lr=0.001,hidden=32/seed0 failed: see {tmp_path / 'lr=0.001,hidden=32/seed0'}" in capsys.readouterr().err


def test_the_tables_alone_are_made_without_training(ran, tmp_path):
    assert geneface(["sweep", GRID, "--out", str(tmp_path), "--summary-only"]) == 0
    assert ran[0] == [] and (tmp_path / "summary.csv").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ablations/head_gird"], "There is no config file ablations/head_gird"),
        ([GRID, "--jobs", "0"], "--jobs is 0"),
        ([GRID, "--devices", "0,,1"], "--devices is '0,,1'"),
        ([GRID, "--config.optimiser.lr=1"], "did you mean --config.optimizer.lr"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(tmp_path, capsys, monkeypatch, words, sentence):
    monkeypatch.setattr(sweep, "_train", lambda *_: pytest.fail("trained"))
    assert geneface(["sweep", *words, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert sentence in message and message.count("\n") == 1 and not (tmp_path / "out").exists()


def test_devices_and_jobs_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as stopped:
        geneface(["sweep", GRID, "--out", "a", "--devices", "0", "--jobs", "2"])
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err
