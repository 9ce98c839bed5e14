"""A head and a torso of recorded weights, through the importer, from disk, and through the renderer that inference uses."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.convert.release import import_checkpoint
from geneface_jax.convert.rules import write_work_folder
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint
from geneface_jax.inference.renderer import SubjectRenderer, _HeadBatches
from geneface_jax.rendering.cameras import scene_pose
from tests.geneface_jax.convert.releases import settings, weights
from tests.parity.vectors import needs_vectors, read
from tests.synthetic_subject import write_subject

pytestmark = needs_vectors

SIZE, FRAME = 32, 2
"""The recorded picture's side, and the frame whose window of five is the recorded condition."""


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    folder = tmp_path_factory.mktemp("person")
    io = read("v1_radnerf_head/io")
    dataset = write_subject(folder / "dataset", frames=5, size=SIZE)
    arrays = dict(np.load(dataset / "arrays.npz"))
    arrays |= {"motion": io["in_cond"].reshape(5, 68, 3), "cameras": np.tile(io["in_c2w"], (5, 1, 1))}
    arrays |= {"motion_mean": np.zeros((68, 3), np.float32), "motion_std": np.ones((68, 3), np.float32)}
    np.savez(dataset / "arrays.npz", **arrays)
    meta = json.loads((dataset / "meta.json").read_text())
    meta["intrinsics"] = dict(zip(("fx", "fy", "cx", "cy"), io["in_intrinsics"].tolist(), strict=True))
    (dataset / "meta.json").write_text(json.dumps(meta))
    # 64 samples a ray: then the original's schedule is never out of samples, and a ray's colour is its own there too.
    head, hparams = weights("v1_radnerf_head/weights"), {**settings("v1_radnerf_head"), "max_steps": 64}
    for name, network in (("head", head), ("torso", weights("v1_radnerf_head/weights", "v1_radnerf_torso/weights"))):
        checkpoint = TorchCheckpoint(Path("model_ckpt_steps_250000.ckpt"), 250000, {"model": network}, hparams)
        write_work_folder(import_checkpoint(checkpoint), folder / name)
    return SubjectRenderer.load(folder)


@pytest.fixture(scope="module")
def rendered(person):
    """The head's rays of the recorded frame."""
    heads = _HeadBatches(person, SIZE, 1e-4, single_pass=False)
    window = jnp.asarray(person.subject.motion.reshape(1, 5, 204))
    with jax.default_matmul_precision("highest"):
        return heads.finish(heads.start(np.array([FRAME]), scene_pose(person.subject.cameras[FRAME : FRAME + 1]), window, jnp.zeros(1)))


def test_the_head_is_the_recorded_one(rendered):
    io = read("v1_radnerf_head/io")
    rgb, alpha = np.asarray(rendered.rgb[0]), np.asarray(rendered.alpha[0])
    ours = np.clip(rgb + (1.0 - alpha)[:, None] * io["in_bg_color"][0], 0.0, 1.0)
    stable = io["render_ms64_stable"].astype(bool)
    error = np.abs(ours - io["render_ms64_rgb"][0])[stable]
    assert stable.mean() > 0.9 and alpha.max() > 0.5
    # Our rays are the recorded ones but for the last bit of a direction, which sends a few rays past the edge of a cell or not.
    assert np.mean(error.max(-1) > 1e-3) < 0.01 and np.median(error) < 1e-4


def test_the_torso_is_the_recorded_one(person):
    """Their mask leaves pixels out whose occupancy is 0; a checkpoint has no other threshold. Behind a head, ours are left out."""
    io = read("v1_radnerf_torso/io")
    assert not person.torso.head_aware
    no_head = jnp.zeros((SIZE * SIZE, 4))
    painted = []
    for level in (0, 255):
        layer = person._torso_layer(person.subject.motion, person.subject.cameras, np.full((SIZE, SIZE, 3), level, np.uint8), SIZE)
        painted.append(np.asarray(layer.render(FRAME, no_head)[0]))
    alpha = 1.0 - (painted[1] - painted[0])[:, :1]
    queried = io["render_torso_alpha"] > 0
    assert queried.mean() > 0.5
    np.testing.assert_allclose(alpha[queried], io["render_torso_alpha"][queried], atol=1e-3)
    ours = painted[0] + io["in_bg_color"][0] * (1.0 - alpha)
    np.testing.assert_allclose(ours[queried[:, 0]], io["render_torso_rgb"][0][queried[:, 0]], atol=1e-3)


def test_frames_are_that_picture_in_bytes(person, rendered):
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    drive = person.subject.motion, person.subject.cameras, np.zeros(5, np.float32)
    frames = np.stack(list(person.render(*drive, background=black, end_threshold=1e-4)))
    layer = person._torso_layer(person.subject.motion, person.subject.cameras, black, SIZE)
    head = jnp.concatenate([rendered.rgb[0], rendered.alpha[0][:, None]], axis=-1)
    behind = np.asarray(layer.render(FRAME, head)[0])
    expected = np.asarray(rendered.rgb[0]) + (1.0 - np.asarray(rendered.alpha[0]))[:, None] * behind
    error = np.abs(frames[FRAME].reshape(-1, 3) - 255.0 * np.clip(expected, 0, 1))
    assert np.median(error) <= 0.5 and error.max() < 1.5
