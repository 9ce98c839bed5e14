"""The head at reference size against golden vectors of the original RADNeRF: condition, field, render."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.head import get_config
from geneface_jax.convert import radnerf
from geneface_jax.models.build import build_head
from geneface_jax.models.head import Head
from tests.parity.vectors import needs_vectors, read

pytestmark = needs_vectors


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def weights():
    return read("v1_radnerf_head/weights")


@pytest.fixture(scope="module")
def io():
    return read("v1_radnerf_head/io")


def model(**grid) -> Head:
    config = get_config("reference").model
    config.update({"codes": 13000, "blink_channels": 0})
    head = build_head(config)
    changed = {name: dataclasses.replace(getattr(head, name), **grid) for name in ("position_grid", "ambient_grid")}
    return head.clone(**changed)


def condition(weights, io):
    return model().apply(radnerf.head(weights), io["in_cond"].reshape(1, 5, 204), jnp.zeros(1), method=Head.condition)


def test_condition(weights, io):
    np.testing.assert_allclose(condition(weights, io)[0], io["cond_feat"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("prefix", "grid"),
    [
        ("query", {}),
        ("query_hash", {"kind": "hash"}),
        ("query_smoothstep", {"interpolation": "smoothstep"}),
        ("query_hash_smoothstep", {"kind": "hash", "interpolation": "smoothstep"}),
    ],
)
def test_field(weights, io, prefix, grid):
    variables = jax.tree.map(jnp.asarray, radnerf.head(weights))
    code = variables["params"]["frame_codes"][:1]
    out = model(**grid).apply(variables, io["in_pos"], io["in_dir"], io["cond_feat"][None], code)
    np.testing.assert_allclose(out.sigma, io[f"{prefix}_sigma"], rtol=1e-3)
    assert np.median(np.abs(out.sigma / io[f"{prefix}_sigma"] - 1.0)) < 5e-5
    np.testing.assert_allclose(out.rgb, io[f"{prefix}_rgb"], atol=5e-4)
    np.testing.assert_allclose(out.ambient, io[f"{prefix}_ambient"], atol=1e-4)
