"""The super-resolution network against golden vectors of the original."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.convert.super_resolution import super_resolution
from geneface_jax.models.super_resolution import SuperResolution
from tests.parity.vectors import needs_vectors, read

pytestmark = needs_vectors


@pytest.mark.parametrize(("size", "noise"), [(256, "none"), (64, "none"), (64, "constant")])
def test_enlarges_like_the_original(size, noise):
    io = read("pp_sr_net/io")
    variables = jax.tree.map(jnp.asarray, super_resolution(read("pp_sr_net/weights")))
    if size == 256:
        rgb = jnp.asarray(io["in_x256_u8"].transpose(0, 2, 3, 1), jnp.float32) / 256.0
    else:
        rgb = jax.image.resize(jnp.asarray(io["in_x64"].transpose(0, 2, 3, 1)), (1, 256, 256, 3), "bilinear")
    with jax.default_matmul_precision("highest"):
        out = np.asarray(SuperResolution().apply(variables, rgb, noise))[0].transpose(2, 0, 1)
    prefix = f"out{size}_{noise.removesuffix('ant')}"
    for name, found in (
        ("stride4", out[:, ::4, ::4]),
        ("crop_tl32", out[:, :32, :32]),
        ("crop_br32", out[:, -32:, -32:]),
        ("crop_mid48", out[:, 232:280, 232:280]),
    ):
        np.testing.assert_allclose(found, io[f"{prefix}__{name}"], atol=2e-4, err_msg=name)
