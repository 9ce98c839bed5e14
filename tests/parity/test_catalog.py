"""The comparison with recorded networks reads what it finds, tells what it leaves, and can fail."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from geneface_jax.convert import speech
from geneface_jax.convert.rules import flat_leaves
from geneface_jax.inference.motion_filters import lle_project
from geneface_jax.io.configs import clone
from geneface_jax.models.syncnet import SyncNet
from tests.geneface_jax.convert.originals import state_dict
from tests.parity.networks import catalog
from tests.parity.networks.vectors import Network, Vectors


def folder(root, name, weights=None, **arrays):
    path = root / name
    path.mkdir(exist_ok=True)
    np.savez(path / "io.npz", meta_json=json.dumps({"config": "x"}), **arrays)
    if weights is not None:
        np.savez(path / "weights.npz", **weights)
    return path


@pytest.fixture
def syncnet(tmp_path):
    """A recorded tiny SyncNet, and the results of our own code as if they were the original's."""
    weights = state_dict(speech.SYNCNET, base=4)
    rng = np.random.default_rng(0)
    audio, mouth = rng.normal(size=(3, 10, 1024)).astype(np.float32), rng.normal(size=(3, 5, 60)).astype(np.float32)
    ours = SyncNet(4).apply(Network.from_weights(speech.SYNCNET, weights).variables, audio, mouth)
    return weights, {
        "in_audio": audio,
        "in_mouth_lm": mouth,
        "audio_embedding": np.asarray(ours[0]),
        "mouth_embedding": np.asarray(ours[1]),
    }


def test_keys_are_taken_as_found(tmp_path, syncnet):
    weights, arrays = syncnet
    row = catalog.check_one(folder(tmp_path, "v1_syncnet", weights, **arrays, something_new=np.ones(2)))
    assert row.missed == 0 and row.unread == ("something_new",)
    assert [check.key for check in row.checks] == ["weights: names and shapes", "audio_embedding", "mouth_embedding"]
    del arrays["audio_embedding"]
    assert [c.key for c in catalog.check_one(folder(tmp_path, "v1_syncnet", weights, **arrays)).checks][1:] == ["mouth_embedding"]


def test_it_can_fail(tmp_path, syncnet):
    weights, arrays = syncnet
    wrong = {**arrays, "mouth_embedding": arrays["mouth_embedding"] + 1e-3}
    row = catalog.check_one(folder(tmp_path, "v1_syncnet", weights, **wrong))
    assert row.missed == 1 and row.worst.key == "mouth_embedding"
    del weights["hubert_encoder.0.conv_block.0.bias"]
    assert any("missing" in check.key and not check.passed for check in [Network.from_weights(speech.SYNCNET, weights).check])
    assert catalog.check_one(folder(tmp_path, "v1_postnet", x=np.ones(1))).missed == 1, "nothing to compare is a miss"


def test_gradients_go_through_the_key_map(tmp_path):
    weights = state_dict(speech.AUDIO2MOTION, hidden=8, encoder_layers=1, decoder_layers=1, flow_layers=1, condition=8)
    recorded = {f"g__{name}": value for name, value in weights.items() if "running" not in name and "tracked" not in name}
    vectors = Vectors(folder(tmp_path, "any", **recorded))
    variables = Network.from_weights(speech.AUDIO2MOTION, weights).variables
    checks = list(vectors.gradients("g__", variables["params"], speech.AUDIO2MOTION.converter))
    assert len(checks) == len(flat_leaves(variables["params"])) and all(check.passed for check in checks)
    other = jax.tree.map(lambda leaf: leaf + 0.1 * np.abs(leaf).max(), variables["params"])
    assert not any(check.passed for check in vectors.gradients("g__", other, speech.AUDIO2MOTION.converter))


def test_numbers_of_neighbors_come_from_the_names(tmp_path):
    rng = np.random.default_rng(0)
    feats, database = rng.normal(size=(4, 12)).astype(np.float32), rng.normal(size=(30, 12)).astype(np.float32)
    results = {
        "c9_k7_fuse": lle_project(feats[:, :9], database[:, :9], 7, 1.0, 0.0),
        "blend_p0.3": lle_project(feats, database, 10, 0.3, 0.0),
    }
    row = catalog.check_one(folder(tmp_path, "lle_postproc", in_feats=feats, in_database=database, **results))
    assert row.missed == 0 and {check.key for check in row.checks} == set(results)
    results["c9_k7_fuse"] = lle_project(feats[:, :9], database[:, :9], 6, 1.0, 0.0)
    assert catalog.check_one(folder(tmp_path, "lle_postproc", in_feats=feats, in_database=database, **results)).missed == 1


def test_the_script_tells_what_it_leaves(tmp_path, syncnet):
    weights, arrays = syncnet
    folder(tmp_path, "v1_syncnet", weights, **arrays, something_new=np.ones(2))
    folder(tmp_path, "later_work", x=np.ones(2))

    def run(*options):
        command = [sys.executable, str(clone() / "scripts" / "check_parity.py"), "networks", str(tmp_path), *options]
        return subprocess.run(command, capture_output=True, text=True)

    plain = run("--verbose")
    assert plain.returncode == 0, plain.stderr
    lines = [line.split(maxsplit=1) for line in plain.stdout.splitlines()]
    assert ["later_work", "not read yet"] in lines and any(line[0] == "v1_syncnet" and "something_new" in line[1] for line in lines)
    assert sum(line[0] == "v1_syncnet" for line in lines) == 4
    assert run("--strict").returncode == 1
