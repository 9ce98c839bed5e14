"""The two releases, made from the recorded weights: import commands, then a video, without the Basel face model."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.audio.sound import save_wav
from data_tools.video import read_video
from geneface_jax.cli.main import main as geneface
from geneface_jax.inference.audio_features import HUBERT_VARIABLE
from geneface_jax.io import checkpoints
from tests.geneface_jax.convert.person_files import write_person
from tests.geneface_jax.convert.releases import settings, weights, write_checkpoint, write_large_hubert
from tests.parity.vectors import needs_vectors

pytestmark = [needs_vectors, pytest.mark.slow]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (it is an extra)")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Half a second of noise."""
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    save_wav(path, np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32))
    return path


@pytest.fixture(autouse=True)
def hubert(tmp_path_factory, monkeypatch):
    monkeypatch.setenv(HUBERT_VARIABLE, str(write_large_hubert(tmp_path_factory.mktemp("hubert"))))


def test_lrs3_and_may(torch, tmp_path, sound, capsys):
    """GeneFace: lrs3.zip and May.zip, two commands, one video."""
    checkpoints_dir, syncnet = tmp_path / "checkpoints", weights("v1_syncnet/weights")
    vae = weights("v1_audio2motion_lm3d_vae_sync/weights")
    postnet, critic = weights("v1_postnet/weights_generator"), weights("v1_postnet/weights_discriminator")
    head = weights("v1_radnerf_head/weights")
    torso = weights("v1_radnerf_head/weights", "v1_radnerf_torso/weights")
    write_checkpoint(torch, checkpoints_dir / "lrs3" / "syncnet", 40000, {"lr": 5e-4}, model=syncnet)
    write_checkpoint(torch, checkpoints_dir / "lrs3" / "lm3d_vae_sync", 40000, {"seed": 9999}, model=vae, syncnet_task__model=syncnet)
    carried = {"audio2motion_task__model": vae, "audio2motion_task__syncnet_task__model": syncnet, "syncnet_task__model": syncnet}
    may = checkpoints_dir / "May"
    write_checkpoint(torch, may / "lm3d_postnet_sync", 6000, {"seed": 9999}, model=postnet, disc_model=critic, **carried)
    write_checkpoint(torch, may / "lm3d_radnerf", 250000, settings("v1_radnerf_head"), model=head)
    write_checkpoint(torch, may / "lm3d_radnerf_torso", 250000, settings("v1_radnerf_torso"), model=torso)
    person = write_person(tmp_path, plus=False, frames=22, size=64)

    assert geneface(["import-torch", str(checkpoints_dir / "lrs3"), str(tmp_path / "corpus")]) == 0
    assert geneface(["import-torch", str(may), str(tmp_path / "May"), "--dataset", str(person.npy)]) == 0
    printed = capsys.readouterr().out
    assert "note" not in printed and "RAD-NeRF head, step 250000" in printed
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["audio2motion", "syncnet"]
    assert sorted(path.name for path in (tmp_path / "May").iterdir()) == ["dataset", "head", "postnet", "torso"]
    video = tmp_path / "May.mp4"
    assert geneface(["infer", "--subject", str(tmp_path / "May"), "--audio", str(sound), "--out", str(video)]) == 0
    frames = np.stack(list(read_video(video)))
    assert frames.shape == (7, 64, 64, 3) and frames.std() > 10
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 10, "it moves"


def test_genefacepp(torch, tmp_path, sound, capsys):
    """GeneFace++: the audio2motion VAE of coefficients, head and torso with super-resolution; blink sizes that disagree, as published."""
    sr = weights("pp_sr_net/weights")
    vae = weights("v1_audio2motion_lm3d_vae_sync/weights", "pp_audio2motion_pitch/weights")
    head = weights("pp_radnerf_head_sr/weights") | sr
    torso = weights("pp_radnerf_head_sr/weights", "pp_radnerf_torso_sr/weights", leave_out=("lambda_ambient",)) | sr
    person = write_person(tmp_path, plus=True, frames=88, size=512)
    a2m = write_checkpoint(torch, tmp_path / "audio2motion_vae", 400000, {"max_updates": 400000}, model=vae)
    release = tmp_path / "motion2video_nerf"
    write_checkpoint(torch, release / "may_head", 250000, settings("pp_radnerf_head_sr"), model=head)
    write_checkpoint(torch, release / "may_torso", 250000, settings("pp_radnerf_torso_sr"), model=torso)

    ours = tmp_path / "ours"
    assert geneface(["import-torch", str(a2m), str(ours / "audio2motion")]) == 0
    person_command = ["import-torch", str(release), str(ours / "May"), "--dataset", str(person.processed)]
    assert geneface([*person_command, "--audio2motion", str(ours / "audio2motion")]) == 0
    assert "blink size is 2 in its own checkpoint and 4 in the torso's" in capsys.readouterr().out
    assert sorted(path.name for path in (ours / "May").iterdir()) == ["audio2motion", "dataset", "head_sr", "torso_sr"]
    assert checkpoints.load(ours / "May" / "head_sr").config.model.blink_channels == 2
    video = tmp_path / "May.mp4"
    assert geneface(["infer", "--subject", str(ours / "May"), "--audio", str(sound), "--out", str(video), "--end-threshold", "0.1"]) == 0
    frames = np.stack(list(read_video(video)))
    assert frames.shape == (7, 512, 512, 3) and frames.std() > 10
