"""Products of geometry keep full float32 in the lowered training step of every field, gradients included; only networks use the default."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from geneface_jax.training import devices
from tests.lowered import products
from tests.tiny_stages import tiny_stage, write_data

NETWORKS = "geneface_jax/models/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("stages"))


def lowered_step(stage):
    state = jax.eval_shape(stage.init, jax.random.key(0))
    arguments = state, stage.data(), stage.host_batch(0), jax.random.key(1), np.int32(0)
    one = jax.vmap(stage.train_step, axis_name=devices.AXIS)
    return jax.jit(one).lower(*jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)), x.dtype), arguments))


slow = pytest.mark.slow  # a head is made first


@pytest.mark.parametrize(
    "name", ["head", "nerf_head", *(pytest.param(name, marks=slow) for name in ("head_sr", "torso", "torso_sr", "nerf_torso"))]
)
def test_only_networks_multiply_in_reduced_precision(name, folder):
    refined = ("pose_refinement.lr=1e-4",) if name.startswith("head") else ()
    found = products(lowered_step(tiny_stage(name, folder, *refined)))
    assert any(not product.exact for product in found), "networks use the backend's default"
    assert {product.file for product in found if not product.exact and not product.file.startswith(NETWORKS)} == set()
    if refined:
        # Forth and back: rays, cameras, corrections and their gauge.
        assert {"geneface_jax/rendering/cameras.py", "geneface_jax/training/field_base.py"} <= {p.file for p in found if p.exact}
