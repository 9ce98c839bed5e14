"""The pitch-aware VAE from its stage over PostNet to inference, on a toy corpus of mouths that open very differently."""

import json

import jax
import numpy as np
import pytest

from geneface_jax.data.motion import blink_and_amplitude, lip_distance
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training import devices
from geneface_jax.training.speech_augment import augment_windows
from geneface_jax.training.stage import get_stage
from tests.synthetic_corpus import speech_and_motion, write_corpus
from tests.synthetic_subject import write_subject

STEPS = 6
TINY = ["model.condition=16", "model.pitch=8", "model.hidden=16", "model.encoder_layers=1", "model.decoder_layers=1"]
TINY += ["model.flow_blocks=1", "model.flow_hidden=8", "model.flow_layers=1", "data.window=32", "data.augment.enabled=false"]


def run(stage, steps):
    state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
    step_fn = devices.parallel_step(stage.train_step)
    for step in range(steps):
        rng = jax.random.fold_in(jax.random.key(1), step)
        state, _ = step_fn(state, data, devices.shard(stage.host_batch(step)), rng, step)
    return jax.device_get(devices.unreplicate(state))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus whose clips speak alike and open the mouth very differently, and a person who hardly opens it."""
    folder = tmp_path_factory.mktemp("pitch")
    path = write_corpus(folder / "corpus", clips_per_speaker=3) / "clips.npz"
    arrays = dict(np.load(path))
    for name in arrays:
        if name.endswith("motion"):
            arrays[name] = arrays[name].mean(0) + (0.2 + float(name.split("_")[1][0])) * (arrays[name] - arrays[name].mean(0))
    np.savez(path, **arrays)
    dataset = write_subject(folder / "person", frames=110)
    arrays = dict(np.load(dataset / "arrays.npz"))
    mel, f0, motion = speech_and_motion(np.random.default_rng(5), 110)
    motion = 0.3 * motion.reshape(110, 68, 3)
    arrays.update(audio_features=mel, f0=f0, motion=motion, motion_mean=motion[:100].mean(0), motion_std=motion[:100].std(0))
    np.savez(dataset / "arrays.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def vae(folder):
    overrides = [f"data.corpus={folder / 'corpus'}", "loss.sync=0.0", "data.batch=8", f"train.steps={STEPS}"]
    stage = get_stage(configs.load("audio2motion_pitch:demo", [*overrides, "optimizer.lr=0.01", "optimizer.warmup=5", *TINY]))
    state = run(stage, STEPS)
    evaluation = stage.evaluate(state, stage.data(), STEPS)
    checkpoints.save(folder / "audio2motion", STEPS, state, {"config": stage.config, "metrics": evaluation.scalars})
    return stage, state, evaluation.scalars


def openings(speech, mel, f0):
    """Standard deviation of the mouth's opening at rising amplitudes."""
    return [lip_distance(speech.predict(mel, f0, temperature=0.0, mouth_amp=amp)).std() for amp in (0.2, 0.4, 0.6)]


def test_the_stage_measures_what_is_typical_and_inference_tells_the_network(folder, vae):
    stage, state, scalars = vae
    assert np.isfinite(list(scalars.values())).all()
    typical = np.mean([pair.behavior.mouth_amp for pair in stage.pairs["train"]])
    assert float(state["constants"]["mouth_amp"]) == pytest.approx(typical, rel=1e-5)
    speech = AudioToMotion.load_corpus_model(folder / "audio2motion")
    assert speech.follows_mouth_amp and speech.amplitudes["mouth_amp"] == pytest.approx(typical, rel=1e-5)
    mel, f0, _ = speech_and_motion(np.random.default_rng(9), 60)
    assert np.ptp(openings(speech, mel, f0)) > 1e-5
    higher = speech.predict(mel, np.where(f0 > 0, 2.0 * f0, 0.0), temperature=0.0)
    assert np.abs(higher - speech.predict(mel, f0, temperature=0.0)).max() > 1e-4


def test_postnet_tells_the_vae_the_persons_own_amplitude(folder, vae):
    overrides = [f"data.{name}={folder / name}" for name in ("corpus", "audio2motion")] + [f"data.subject={folder / 'person'}"]
    overrides += ["data.batch=3", "data.person_batch=2", "data.window=16", "model.base=8", "loss.sync=0.0"]
    stage = get_stage(configs.load("postnet:demo", [*overrides, "train.steps=4", "finetune_audio2motion.steps=2"]))
    before = stage.init(jax.random.key(0))
    own = blink_and_amplitude(stage.person["train"][0].motion * stage.std + stage.constants["motion_mean"]).mouth_amp
    assert float(before["constants"]["mouth_amp"]) == pytest.approx(own, abs=1e-4) and own < 0.9 * float(vae[1]["constants"]["mouth_amp"])
    after = run(stage, 4)
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        before["params"]["audio2motion"]["voice_encoder"],
        after["params"]["audio2motion"]["voice_encoder"],
    )
    assert moved["mouth_amp"] and moved["join"]["kernel"]
    checkpoints.save(folder / "postnet", 4, after, {"config": stage.config, "metrics": stage.evaluate(after, stage.data(), 4).scalars})
    mel, f0, _ = speech_and_motion(np.random.default_rng(9), 40)
    speech = AudioToMotion.load(folder / "postnet")
    assert speech.follows_mouth_amp and speech.amplitudes["mouth_amp"] == pytest.approx(own, abs=1e-4)
    assert np.ptp(openings(speech, mel, f0)) > 1e-6


def test_augmentation_moves_and_hides_the_pitch():
    strength = configs.load("audio2motion_pitch:demo").data.augment
    batch = {"audio": np.zeros((200, 4, 82), np.float32), "f0": np.tile(np.array([0.0, 100, 100, 200], np.float32), (200, 1))}
    f0 = np.asarray(augment_windows(jax.random.key(0), np.arange(200), batch, strength)["f0"])
    voiced = f0[f0[:, 1] > 0]
    assert np.all(f0[:, 0] == 0) and 5 < 200 - len(voiced) < 40
    np.testing.assert_allclose(voiced[:, 3] / voiced[:, 1], 2.0, rtol=1e-5)
    octaves = np.log2(voiced[:, 1] / 100.0)
    assert np.abs(octaves).max() <= strength.f0 and octaves.min() < -0.3 and octaves.max() > 0.3
    plain = {name: value for name, value in strength.items() if name != "f0"}
    assert augment_windows(jax.random.key(0), np.arange(200), batch, json.loads(json.dumps(plain)))["f0"] is batch["f0"]
