"""A folder of checkpoint folders becomes all its work folders, or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from geneface_jax.cli.main import main as geneface
from geneface_jax.convert import speech, torch_checkpoint
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint
from geneface_jax.data.subject import Subject
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.person import open_speech
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import find_parts
from tests.geneface_jax.convert import original_fields as fields
from tests.geneface_jax.convert.originals import SMALL_VAE, state_dict
from tests.geneface_jax.convert.person_files import write_person


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """Makes folders that look like the originals'; PyTorch's reader is replaced by a table of what they hold."""
    held = {}

    def put(name, step=1000, **networks):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        path = folder / f"model_ckpt_steps_{step}.ckpt"
        path.touch()
        named = {key.replace("__", "."): weights for key, weights in networks.items()}
        held[folder] = TorchCheckpoint(path, step, named, fields.HPARAMS)
        return folder.parent

    monkeypatch.setattr(torch_checkpoint, "read", lambda folder, step=None: held[folder])
    return put


@pytest.fixture(scope="module")
def vae():
    return state_dict(speech.AUDIO2MOTION, 1, **SMALL_VAE)


def postnet(vae):
    return {"model": state_dict(speech.POSTNET, base=8), "disc_model": state_dict(speech.DISCRIMINATOR, base=8)} | {
        "audio2motion_task__model": vae
    }


def run(*arguments):
    return geneface(["import-torch", *map(str, arguments)])


def test_corpus_models(originals, tmp_path, vae, capsys):
    originals("lrs3/syncnet", model=state_dict(speech.SYNCNET, base=4))
    source = originals("lrs3/lm3d_vae_sync", model=vae, syncnet_task__model={})
    assert run(source, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audio2motion", "syncnet"]
    assert "note" not in capsys.readouterr().out
    assert run(source, tmp_path / "out") == 2 and "exists already" in capsys.readouterr().err


def test_a_person_of_geneface(originals, tmp_path, vae, capsys):
    head = fields.head()
    originals("May/a", 6000, **postnet(vae))
    originals("May/b", 250000, model=head)
    source = originals("May/c", 250000, model=fields.torso(head))
    person = write_person(tmp_path, plus=False)
    assert run(source, tmp_path / "May", "--dataset", person.npy.parent) == 0
    assert "dataset: GeneFace, 22 frames of 32 pixels, 20 of them for training" in capsys.readouterr().out
    parts = find_parts(tmp_path / "May")
    assert (parts.head, parts.torso, parts.speech) == ("head", "torso", "postnet")
    config = checkpoints.load(tmp_path / "May" / "head").config
    assert config.data.camera.size == 32 and config.data.camera.fx == pytest.approx(person.intrinsics[0])
    renderer = SubjectRenderer.load(tmp_path / "May")
    subject = renderer.subject
    frame = next(renderer.render(subject.motion[:1], subject.cameras[:1], subject.eye_openness[:1]))
    assert frame.shape == (32, 32, 3)


def test_the_torso_alone_brings_its_head(originals, tmp_path, capsys):
    source = originals("May/torso", model=fields.torso(fields.head()))
    assert run(source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "The head is the copy in" in printed and "no dataset" in printed and "no PostNet and no VAE" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["head", "torso"]


def test_a_torso_of_another_head_brings_its_own(originals, tmp_path, capsys):
    originals("May/head", model=fields.head(seed=1))
    source = originals("May/torso", model=fields.torso(fields.head(seed=2)))
    assert run(source, tmp_path / "out") == 0
    assert "trained with another head than the one in this folder" in capsys.readouterr().out
    params = checkpoints.load(tmp_path / "out" / "head").state["params"]
    np.testing.assert_array_equal(params["frame_codes"], fields.head(seed=2)["individual_embeddings"])


def test_a_person_of_genefacepp_speaks_coefficients(originals, tmp_path, capsys):
    coefficients = state_dict(speech.AUDIO2MOTION, 3, **SMALL_VAE, motion_dim=64, pitch=12, blink=True, mouth_amp=True)
    originals("a2m", model=coefficients)
    head = fields.head(blink=2, window=3, ambient=3, super_resolution=True)
    torso = fields.torso(head, jaw=True, head_aware=True)
    torso |= {"blink_encoder.1.weight": np.ones((4, 4), np.float32), "blink_encoder.1.bias": np.ones(4, np.float32)}
    originals("may/head", model=head)
    source = originals("may/torso", model=torso)
    person = write_person(tmp_path, plus=True, frames=88)
    assert run(source.parent / "a2m", tmp_path / "a2m") == 0
    assert run(source, tmp_path / "May", "--dataset", person.processed, "--audio2motion", tmp_path / "a2m") == 0
    assert "blink size is 2 in its own checkpoint and 4 in the torso's" in capsys.readouterr().out
    parts = find_parts(tmp_path / "May")
    assert (parts.head, parts.torso, parts.speech) == ("head_sr", "torso_sr", "audio2motion")
    subject = Subject.load(tmp_path / "May")
    speaking = open_speech(parts, subject)
    sound = np.random.default_rng(0).normal(size=(16, 1024)).astype(np.float32), np.full(16, 120, np.float32)
    motion = speaking.predict(*sound)
    assert motion.shape == (8, 204)
    inner = AudioToMotion(speaking.vae, speaking.vae_variables, None, speaking.motion_mean, speaking.motion_std, speaking.kind)
    expected = np.einsum("te,epc->tpc", inner.predict(*sound), person.basis) + person.offset
    np.testing.assert_allclose(motion.reshape(-1, 68, 3), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "are both a RAD-NeRF head"),
        (["--step", "3"], "holds several"),
        (["--dataset", "absent.npy"], "neither a trainval_dataset.npy nor a folder with one"),
    ],
)
def test_what_is_ambiguous_is_refused(originals, tmp_path, capsys, options, message):
    originals("May/a", model=fields.head())
    source = originals("May/b", model=fields.head(seed=3))
    assert run(source, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_nothing_is_half_imported(originals, tmp_path, vae, capsys):
    broken = fields.head()
    del broken["sigma_net.net.1.weight"]
    originals("May/a", **postnet(vae))
    source = originals("May/b", model=broken)
    assert run(source, tmp_path / "out") == 2
    originals("Obama/a", model=fields.head())
    person = write_person(tmp_path / "person", plus=False)
    (person.processed / "torso_imgs" / "3.png").unlink()
    assert run(tmp_path / "checkpoints" / "Obama", tmp_path / "out", "--dataset", person.npy) == 2
    assert "torso_imgs/3.png" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "person"]
