"""SyncNet -> VAE -> PostNet -> inference at toy size: one run of the whole chain, looked at from several sides."""

import json

import jax
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.data.corpus import Corpus
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training import devices, speech_losses
from geneface_jax.training.speech_losses import SyncOffset
from geneface_jax.training.stage import get_stage
from tests.synthetic_corpus import speech_and_motion, write_corpus
from tests.synthetic_subject import write_subject

STEPS = 6
TINY_VAE = ["model.condition=8", "model.hidden=8", "model.encoder_layers=1", "model.decoder_layers=1", "model.flow_blocks=1"]


def run(stage, steps=STEPS):
    """Trains on one device; returns the state after every step and the metrics."""
    state = devices.replicate(stage.init(jax.random.key(0)))
    data = devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    states, metrics = [jax.device_get(devices.unreplicate(state))], []
    for step in range(steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, measured = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, step)
        states.append(jax.device_get(devices.unreplicate(state)))
        metrics.append({name: float(value[0]) for name, value in measured.items()})
    return states, metrics


def finish(stage, name, folder, states):
    evaluation = stage.evaluate(states[-1], stage.data(), STEPS)
    checkpoints.save(folder / name, STEPS, states[-1], {"config": stage.config, "metrics": evaluation.scalars})
    return evaluation.scalars


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    write_corpus(folder / "corpus")
    dataset = write_subject(folder / "person", frames=110)
    arrays = dict(np.load(dataset / "arrays.npz"))
    mel, f0, motion = speech_and_motion(np.random.default_rng(5), 110)
    motion = motion.reshape(110, 68, 3) + 0.4
    arrays.update(audio_features=mel, f0=f0, motion=motion, motion_mean=motion[:100].mean(0), motion_std=motion[:100].std(0))
    np.savez(dataset / "arrays.npz", **arrays)
    assert json.loads((dataset / "meta.json").read_text())["n_train"] == 100
    return folder


@pytest.fixture(scope="module")
def syncnet(folder):
    stage = get_stage(
        configs.load("syncnet:demo", [f"data.corpus={folder / 'corpus'}", "data.batch=32", "data.eval_clips=64", "model.base=8"])
    )
    states, metrics = run(stage)
    return stage, states, metrics, finish(stage, "syncnet", folder, states)


@pytest.fixture(scope="module")
def vae(folder, syncnet):
    overrides = [
        f"data.corpus={folder / 'corpus'}",
        f"data.syncnet={folder / 'syncnet'}",
        "data.batch=4",
        "data.window=16",
        "loss.sync_gate=9.0",
    ]
    stage = get_stage(configs.load("audio2motion:demo", [*overrides, "loss.sync_clips=8", *TINY_VAE]))
    states, metrics = run(stage)
    return stage, states, metrics, finish(stage, "audio2motion", folder, states)


@pytest.fixture(scope="module")
def postnet(folder, vae):
    overrides = [f"data.{name}={folder / name}" for name in ("corpus", "syncnet", "audio2motion")]
    overrides += [f"data.subject={folder / 'person'}", "data.batch=3", "data.person_batch=2", "data.window=16", "model.base=8"]
    overrides += [f"train.steps={STEPS}", "finetune_audio2motion.steps=3", "loss.sync_clips=6", "optimizer.postnet.warmup=0"]
    stage = get_stage(configs.load("postnet:demo", overrides))
    states, metrics = run(stage)
    return stage, states, metrics, finish(stage, "postnet", folder, states)


@pytest.mark.parametrize("name", ["syncnet", "vae", "postnet"])
def test_stages_train_and_judge(name, request):
    stage, states, metrics, scalars = request.getfixturevalue(name)
    assert all(np.isfinite(list(step.values())).all() for step in metrics)
    assert np.isfinite(list(scalars.values())).all() and stage.best[0] in scalars
    assert not equal(states[0]["params"], states[-1]["params"])
    assert equal(states[0]["constants"], states[-1]["constants"])
    assert equal(stage.host_batch(3), stage.host_batch(3)) and not equal(stage.host_batch(3), stage.host_batch(4))


def test_syncnet_reports_chances(syncnet):
    scalars = syncnet[-1]
    assert 0 <= scalars["val/auc"] <= 1 and 0 <= scalars["val/auc_clip"] <= 1


def test_sync_gate_opens_once_and_is_kept(vae):
    _, states, metrics, _ = vae
    assert states[0]["sync_gate"]["open"] == 0 and states[1]["sync_gate"]["open"] == 1
    assert [step["sync_gate"] for step in metrics] == [1.0] * STEPS


def test_the_expert_is_frozen(vae):
    stage, _, _, _ = vae
    assert equal(
        stage.expert.variables, {name: checkpoints.load(stage.config.data.syncnet).state[name] for name in ("params", "batch_stats")}
    )


def test_postnet_trains_the_vae_first_and_then_the_gan(postnet):
    _, states, metrics, _ = postnet
    for step in range(STEPS):
        before, after = states[step], states[step + 1]
        moved = {name for name in before["params"] if not equal(before["params"][name], after["params"][name])}
        assert moved == ({"audio2motion"} if step < 3 else {"postnet", "discriminator"})
        assert equal(before["batch_stats"]["audio2motion"], after["batch_stats"]["audio2motion"])
    assert metrics[0]["finetune/mse"] > 0 == metrics[0]["adv"]
    assert metrics[-1]["adv"] > 0 == metrics[-1]["finetune/mse"]


def test_every_network_reports_its_rate_and_gradient(syncnet, vae, postnet):
    for fixture in (syncnet, vae):
        assert all(step["grad_norm"] > 0 and step["lr"] > 0 for step in fixture[2])
    _, _, metrics, _ = postnet
    for step, measured in enumerate(metrics):
        active = {"audio2motion"} if step < 3 else {"postnet", "discriminator"}
        for kind in ("lr", "grad_norm"):
            assert {name for name in ("audio2motion", "postnet", "discriminator") if measured[f"{kind}/{name}"] > 0} == active
    assert metrics[3]["lr/discriminator"] == pytest.approx(2.5e-4)


def test_curves_are_laid_out_by_tags_that_exist(syncnet, vae, postnet):
    for stage, _, metrics, scalars in (syncnet, vae, postnet):
        known = {f"tr/{tag}" for tag in metrics[-1]} | set(scalars)
        assert {tag for tags in stage.charts.values() for tag in tags} <= known


def test_validation_shows_landmarks_and_the_distance_to_the_person(vae, postnet):
    for stage, states, _, _ in (vae, postnet):
        video = stage.evaluate(states[-1], stage.data(), STEPS).videos["val/landmarks"]
        assert video.dtype == np.uint8 and video.shape[1:] == (160, 320, 3) and 1 < len(video) <= 75
        assert video.std() > 10
    scalars = postnet[-1]
    assert scalars["val/frechet"] > 0 and scalars["val_vae/diversity"] > 0 and scalars["val/frechet"] != scalars["val_vae/frechet"]


def test_inference_takes_the_selected_step(folder, postnet, tmp_path):
    stage, states, _, _ = postnet
    for step in (4, STEPS):
        checkpoints.save(tmp_path, step, states[step], {"config": stage.config, "metrics": {}})

    def speak(step=None):
        mel, f0, _ = speech_and_motion(np.random.default_rng(9), 20)
        return AudioToMotion.load(tmp_path, step=step).predict(mel, f0)

    np.testing.assert_array_equal(speak(), speak(STEPS))
    checkpoints.write_selected_step(tmp_path, 4, {})
    np.testing.assert_array_equal(speak(), speak(4))
    assert np.abs(speak(4) - speak(STEPS)).max() > 1e-6


def test_inference_speaks_with_the_persons_face(folder, postnet):
    mel, f0, _ = speech_and_motion(np.random.default_rng(9), 37)
    speech = AudioToMotion.load(folder / "postnet")
    motion = speech.predict(mel, f0, temperature=0.5, seed=3)
    assert motion.shape == (37, 204) and motion.dtype == np.float32
    np.testing.assert_array_equal(motion, speech.predict(mel, f0, temperature=0.5, seed=3))
    assert np.abs(motion - speech.predict(mel, f0, temperature=0.5, seed=4)).max() > 1e-4
    assert np.abs(motion - AudioToMotion.load(folder / "postnet", stage="vae").predict(mel, f0, temperature=0.5, seed=3)).max() > 1e-5
    np.testing.assert_allclose(speech.motion_mean.reshape(68, 3)[17:48], 0.4, atol=1e-3)
    corpus_model = AudioToMotion.load_corpus_model(folder / "audio2motion")
    assert corpus_model.predict(mel, f0).shape == (37, 204)


def test_wrong_folders_and_audio_are_refused(folder, postnet):
    with pytest.raises(InputError, match="stage audio2motion"):
        AudioToMotion.load(folder / "audio2motion")
    with pytest.raises(InputError, match="audio frames"):
        AudioToMotion.load(folder / "postnet").predict(np.zeros((3, 80)), np.zeros(3))
    with pytest.raises(InputError, match="syncnet"):
        get_stage(configs.load("audio2motion:demo", [f"data.corpus={folder / 'corpus'}"]))
    with pytest.raises(InputError, match="audio2motion"):
        get_stage(configs.load("postnet:demo", [f"data.corpus={folder / 'corpus'}"]))


@pytest.mark.parametrize(("margin", "align", "late"), [(0.3, True, 2), (0.3, False, 0), (0.05, True, 0)])
def test_the_corpus_is_moved_to_the_persons_timing(folder, vae, monkeypatch, margin, align, late):
    monkeypatch.setattr(speech_losses, "sync_offset", lambda *_: SyncOffset(1.7, 0.5, margin))
    paths = [f"data.corpus={folder / 'corpus'}", f"data.subject={folder / 'person'}"]
    paths += [f"data.{name}={folder / name}" for name in ("syncnet", "audio2motion")]
    stage = get_stage(configs.load("postnet:demo", [*paths, f"data.align={align}"]))
    assert stage.expert.late == late
    whole = Corpus.load(folder / "corpus").of_split("train")[0]
    np.testing.assert_array_equal(stage.corpus["train"][0].f0, whole.f0[2 * late :])
    assert stage.person["train"][0].n_frames == 100
