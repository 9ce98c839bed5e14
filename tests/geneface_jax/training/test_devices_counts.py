"""One global batch over 1, 2 and 8 devices: the same gradients and losses, one trace, no implicit transfer, equal states everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.io import configs
from geneface_jax.training import devices
from tests.tiny_stages import OVERRIDES, write_data

ROOT = configs.clone()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("device counts"))


EVERY = "GENEFACE_EVERY_STAGE"
"""Set it to run the comparison for every stage (a quarter of an hour); without, for one of each kind."""

KINDS = ("syncnet", "head")


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERRIDES if EVERY in os.environ else KINDS)
def test_a_stage_does_not_see_how_many_devices_there_are(name, folder, tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    command = [sys.executable, str(ROOT / "tests" / "device_counts.py"), str(folder), str(tmp_path / "found.json"), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())[name]
    assert found["agree"], "the devices' states have drifted apart"
    for count in ("2", "8"):
        assert found[count]["first_gradient"] <= 1e-5 and found[count]["first_loss"] <= 1e-5, found
        assert found[count]["later_losses"] <= 1e-3, found


def test_shares_of_a_batch_make_up_the_batch():
    batch = {"x": np.arange(12).reshape(6, 2)}
    np.testing.assert_array_equal(devices.shard(batch)["x"].reshape(6, 2), batch["x"])
    np.testing.assert_array_equal(np.asarray(devices.put(batch)["x"]), devices.shard(batch)["x"])


def test_a_limit_holds_inside_and_must_be_possible():
    with devices.limited(1):
        assert devices.count() == len(devices.local()) == 1
    with pytest.raises(InputError, match="--devices is 99; this process has"), devices.limited(99):
        pass


def test_a_masked_mean_is_the_same_alone_and_in_a_mapped_step():
    values, mask = jnp.arange(6.0), jnp.array([1.0, 0, 1, 1, 0, 1])
    alone = devices.masked_mean(values, mask)
    mean = jax.vmap(lambda v, m: devices.mean(devices.masked_mean(v, m)), axis_name=devices.AXIS)
    mapped = mean(values.reshape(3, 2), mask.reshape(3, 2))
    np.testing.assert_allclose(mapped, jnp.full(3, alone), rtol=1e-6)
