"""fit: every part once, resumable, and never networks of one dataset on another."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from toy_stage import ToyStage, toy_config

from data_tools.audio.sound import AudioFeatures
from data_tools.errors import InputError
from geneface_jax import pipeline as fit_module
from geneface_jax.cli.main import main
from geneface_jax.data.subject import FeatureTypes
from geneface_jax.inference import culling
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import STAGES, _row
from geneface_jax.live import fit as live_fit
from geneface_jax.pipeline import fit, plan
from geneface_jax.training import loop, select_postnet
from geneface_jax.training.recovery import TrainingStopped

SOURCE = {"file": "/home/me/anna.mp4", "sha256": "ab" * 32, "fps": 30.0, "changes": ["30 frames/s were resampled to 25."]}


@pytest.fixture
def road(monkeypatch):
    """A prepare that writes the two files fit reads, and toy stages; returns what ran and knobs to turn."""
    made = SimpleNamespace(prepared=0, stages=[], content=0.0, signal_in=None, baked=[], fits=False, refuses_to_bake=False)
    made.live, made.refuses_live = [], False

    def prepare(video, out_dir, features, predictor=None, **options):
        made.prepared += 1
        out_dir.mkdir(parents=True, exist_ok=True)
        meta = {
            "n_frames": 110,
            "n_train": 100,
            "fps": 25,
            "face_model": "mediapipe",
            "audio_model": features.name,
            "source": SOURCE,
            **options,
        }
        (out_dir / "meta.json").write_text(json.dumps(meta))
        np.savez(out_dir / "arrays.npz", motion=np.full(3, made.content))
        return out_dir

    def get_stage(config):
        made.stages.append(config.part)
        return ToyStage(config, signal_at=7 if config.part == made.signal_in else None)

    def toy_plan(subject, **options):
        plans = {stage: toy_config(steps=options["steps"].get(stage, 12)) for stage in STAGES}
        for stage, config in plans.items():
            config.part = stage
            config.variant = options["variant"]
        return plans

    monkeypatch.setitem(sys.modules, "data_tools.prepare", SimpleNamespace(prepare=prepare))
    monkeypatch.setattr(fit_module, "plan", toy_plan)
    monkeypatch.setattr(loop, "get_stage", get_stage)

    def bake(subject, *, progress):
        assert progress
        if made.refuses_to_bake:
            raise InputError("The occupancy grid is empty: train again.")
        made.baked.append([stage for stage in STAGES if checkpoints.steps(subject / stage)])
        made.fits = True
        return culling.Baked(subject / "head" / "cull.npz", 0.3, 0.25)

    def fit_live(subject, postnet):
        if made.refuses_live:
            raise InputError("The dataset has no audio.wav: prepare it again.")
        made.live.append((subject, postnet.part))
        return len(made.live) == 1

    monkeypatch.setattr(live_fit, "fit_live", fit_live)
    monkeypatch.setattr(culling, "bake", bake)
    monkeypatch.setattr(culling, "is_baked", lambda subject: made.fits)
    return made


def test_makes_the_subject_and_its_card(road, tmp_path):
    subject = fit("anna.mp4", tmp_path / "anna", consent="Anna, 2026-11-21", steps={"head": 6})
    assert road.stages == list(STAGES)
    assert {stage: checkpoints.steps(subject / stage)[-1] for stage in STAGES} == {"postnet": 12, "head": 6, "torso": 12}
    card = (subject / "card.md").read_text()
    assert "# anna" in card and "Anna, 2026-11-21" in card and "30 frames/s were resampled to 25." in card
    assert "| head | demo | 6 |" in card and "val/error" in card and "/home/me" not in card


def test_a_card_without_consent_says_so(road, tmp_path):
    subject = fit("anna.mp4", tmp_path / "anna")
    assert "not stated" in (subject / "card.md").read_text()


def test_goes_on_where_it_was_stopped_and_skips_what_is_whole(road, tmp_path, capsys):
    road.signal_in = "head"
    with pytest.raises(TrainingStopped):
        fit("anna.mp4", tmp_path / "anna")
    assert road.stages == ["postnet", "head"]
    road.signal_in = None
    fit("anna.mp4", tmp_path / "anna")
    out = capsys.readouterr().out
    assert "resumes from step" in out and "already at step 12 of 12" in out
    assert checkpoints.steps(tmp_path / "anna" / "torso")[-1] == 12
    minutes = json.loads((tmp_path / "anna" / "fit.json").read_text())["minutes"]
    assert set(minutes) == {"prepare", *STAGES, "bake", "live"} and all(value > 0 for value in minutes.values())


def test_bakes_at_its_end_unless_that_was_done_for_these_networks(road, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    subject = fit("anna.mp4", tmp_path / "anna")
    assert road.baked == [list(STAGES)], "after the torso"
    assert "30 % of the head's occupied volume is kept" in caplog.text and "still fog" in caplog.text and "bake 0." in caplog.text
    caplog.clear()
    fit("anna.mp4", subject)
    assert len(road.baked) == 1 and "fog" not in caplog.text
    road.fits = False
    fit("anna.mp4", subject, steps={"head": 20})
    assert len(road.baked) == 2


def test_a_person_that_can_not_be_baked_is_whole_all_the_same(road, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    road.refuses_to_bake = True
    subject = fit("anna.mp4", tmp_path / "anna")
    assert "was not baked and is rendered more slowly: The occupancy grid is empty" in caplog.text
    assert (subject / "card.md").is_file() and "bake" not in json.loads((subject / "fit.json").read_text())["minutes"]


def test_the_network_of_live_speech_can_be_left_out_and_may_fail(road, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    fit("anna.mp4", tmp_path / "quiet", live=False)
    assert not road.live
    road.refuses_live = True
    subject = fit("anna.mp4", tmp_path / "anna")
    assert "no network for live speech: The dataset has no audio.wav" in caplog.text and (subject / "card.md").is_file()
    assert "live" not in json.loads((subject / "fit.json").read_text())["minutes"]
    road.refuses_live = False
    assert main(["fit", "anna.mp4", "--out", str(tmp_path / "anna")]) == 0 and road.live == [(subject, "postnet")]
    assert "live" in json.loads((subject / "fit.json").read_text())["minutes"]
    assert main(["fit", "anna.mp4", "--out", str(tmp_path / "anna"), "--no-live"]) == 0 and len(road.live) == 1


def test_networks_of_another_dataset_are_refused(road, tmp_path):
    fit("anna.mp4", tmp_path / "anna")
    road.content = 1.0
    with pytest.raises(InputError, match="has changed since postnet, head, torso"):
        fit("anna.mp4", tmp_path / "anna")


def test_plan_looks_for_corpus_and_models_first(tmp_path):
    nothing = {"variant": "demo", "steps": {}, "kind": FeatureTypes()}
    with pytest.raises(InputError, match="--corpus"):
        plan(tmp_path, corpus=tmp_path / "c", corpus_models=tmp_path / "m", **nothing)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "meta.json").write_text("{}")
    with pytest.raises(InputError, match="absent is no corpus.*--extra-corpus"):
        plan(tmp_path, corpus=tmp_path / "c", corpus_models=tmp_path / "m", extra_corpus=tmp_path / "absent", **nothing)
    with pytest.raises(InputError, match="--corpus-models"):
        plan(tmp_path, corpus=tmp_path / "c", corpus_models=tmp_path / "m", **nothing)


def test_plan_hands_every_stage_what_it_reads(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "meta.json").write_text("{}")
    for model in ("syncnet", "audio2motion"):
        checkpoints.save(tmp_path / "m" / model, 1, {"params": {"w": np.zeros(1)}}, {})
    options = {"variant": "demo", "corpus": tmp_path / "c", "corpus_models": tmp_path / "m", "steps": {"torso": 5}}
    plans = plan(tmp_path / "s", **options, kind=FeatureTypes())
    assert list(plans) == list(STAGES)
    assert all(config.data.subject == str(tmp_path / "s" / "dataset") for config in plans.values())
    assert plans["postnet"].data.corpus == str(tmp_path / "c")
    assert plans["postnet"].data.audio2motion == str(tmp_path / "m" / "audio2motion")
    assert plans["postnet"].data.extra_corpus == "", "real voices are mixed with the shipped corpus alone"
    assert plans["torso"].train.steps == 5 and plans["head"].train.steps > 5


def test_other_audio_features_than_the_corpus_has_are_refused_before_anything_slow(tmp_path):
    options = {"variant": "demo", "corpus": None, "corpus_models": None, "steps": {}}
    plans = fit_module.plan(tmp_path, **options)
    assert list(plans) == list(STAGES) and plans["postnet"].data.extra_corpus.endswith("grid")
    with pytest.raises(InputError, match="dataset to make has .*hubert.*corpus .*whisper"):
        fit_module.plan(tmp_path, **options, kind=FeatureTypes(audio_model="hubert"))


@pytest.mark.parametrize("heard", ["mel_f0", "hubert", "whisper"])
def test_a_person_has_the_features_of_the_corpus_models_unless_told(road, tmp_path, monkeypatch, heard):
    made = []

    def by_name(features):
        made.append(features if isinstance(features, str) else features.name)
        return AudioFeatures(made[-1], None)

    monkeypatch.setattr(fit_module, "by_name", by_name)
    checkpoints.save(tmp_path / "models" / "audio2motion", 1, {"params": {"w": np.zeros(1)}}, {"config": {"data": {"audio_model": heard}}})
    for number, (options, expected) in enumerate(
        (
            (["--corpus-models", str(tmp_path / "models")], heard),
            (["--corpus-models", str(tmp_path / "models"), "--features", "mel_f0"], "mel_f0"),
            ([], "whisper"),
        )
    ):
        made.clear()
        assert main(["fit", "anna.mp4", "--out", str(tmp_path / f"anna{number}"), *options]) == 0
        assert set(made) == {expected}


def test_the_options_of_prepare_are_those_of_fit(road, tmp_path, monkeypatch):
    given = {}
    whole = sys.modules["data_tools.prepare"].prepare

    def prepare(*args, **options):
        given.update(options)
        return whole(*args, **options)

    monkeypatch.setitem(sys.modules, "data_tools.prepare", SimpleNamespace(prepare=prepare))
    arguments = ["fit", "anna.mp4", "--out", str(tmp_path / "anna"), "--audio-offset", "0.12", "--workers", "2", "--head-steps", "1"]
    assert main(arguments) == 0
    assert (given["audio_offset"], given["workers"], given["size"], given["name"]) == (0.12, 2, 256, "anna")


def test_begins_with_another_persons_networks_and_keeps_to_them(road, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    fit("anna.mp4", tmp_path / "anna", steps={"head": 60})
    trained = checkpoints.load(tmp_path / "anna" / "head").state["params"]["w"]
    shutil.rmtree(tmp_path / "anna" / "postnet")
    shutil.rmtree(tmp_path / "anna" / "torso")
    caplog.clear()
    bruno = fit("bruno.mp4", tmp_path / "bruno", start_from=tmp_path / "anna", steps={"head": 1})
    messages = caplog.text
    assert f"head starts from {tmp_path / 'anna' / 'head'}" in messages and "torso starts at random" in messages
    assert np.abs(checkpoints.load(bruno / "head").state["params"]["w"] - trained).max() <= 0.11, "one update of 0.1 away"
    assert json.loads((bruno / "fit.json").read_text())["from"] == str((tmp_path / "anna").resolve())
    assert "head began with the networks of another person (`anna`)" in (bruno / "card.md").read_text()
    fit("bruno.mp4", bruno, start_from=tmp_path / "anna", steps={"head": 1})  # finds itself done
    with pytest.raises(InputError, match="began with --from .*anna: give the same again"):
        fit("bruno.mp4", bruno)
    shutil.rmtree(bruno / "postnet")  # the toy's has no motion scale
    with pytest.raises(InputError, match="began without --from"):
        fit("anna.mp4", tmp_path / "anna", start_from=bruno)
    with pytest.raises(InputError, match="no subject folder .*nobody"):
        fit("carla.mp4", tmp_path / "carla", start_from=tmp_path / "nobody")
    (tmp_path / "nobody").mkdir()
    with pytest.raises(InputError, match="--from .*nobody holds no trained postnet, head, torso"):
        fit("carla.mp4", tmp_path / "carla", start_from=tmp_path / "nobody")


def test_a_postnet_of_another_motion_scale_is_left_out(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def save(workdir, std):
        checkpoints.save(workdir, 1, {"params": {"w": np.zeros(1)}, "constants": {"motion_std": np.full(204, std)}}, {})

    save(tmp_path / "anna" / "postnet", 2.0)
    save(tmp_path / "vae", 1.0)
    plans = {"postnet": ConfigDict({"data": {"audio2motion": str(tmp_path / "vae")}})}
    assert fit_module._origins(tmp_path / "anna", plans) == {}
    assert "another audio2motion VAE (give its corpus models with --corpus-models" in caplog.text
    save(tmp_path / "vae", 2.0)
    assert fit_module._origins(tmp_path / "anna", plans) == {"postnet": tmp_path / "anna" / "postnet"}


def test_the_postnet_is_chosen_and_the_card_names_the_choice(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    workdir = tmp_path / "postnet"
    for step, error in ((10, 0.3), (20, 0.4)):
        checkpoints.save(workdir, step, {"params": {"w": np.full(1, step)}}, {"metrics": {"val/error": error}})
    chosen = SimpleNamespace(step=10, verdict="sound", findings=["Nothing to do."], record=lambda: {"verdict": "sound"})
    monkeypatch.setattr(select_postnet, "select", lambda folder: chosen)
    fit_module._choose_postnet(workdir)
    assert checkpoints.read_selected_step(workdir) == 10 and "step 10 is used; the run is sound" in caplog.text
    assert "| 10 |" in _row(tmp_path, "postnet", {}) and "0.3" in _row(tmp_path, "postnet", {})
    assert checkpoints.load(checkpoints.release(workdir, tmp_path / "released")).step == 10


def test_a_postnet_that_cannot_be_judged_keeps_its_newest_checkpoint(road, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    subject = fit("anna.mp4", tmp_path / "anna")
    assert "the newest postnet checkpoint is used" in caplog.text
    assert checkpoints.read_selected_step(subject / "postnet") is None
