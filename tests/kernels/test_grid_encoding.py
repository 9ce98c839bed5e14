"""Grid encoding: interpolation, index rules, gradients, bad input; and equality with the original kernels where the golden vectors are
present."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.grid_encoding import GridSpec, grid_encode

SPECS = [
    GridSpec(dims=3, levels=4, features=2, base_resolution=4, finest_resolution=32, log2_table_size=9, kind="hash"),
    GridSpec(dims=3, levels=4, features=1, base_resolution=4, finest_resolution=32, log2_table_size=9, kind="tiled"),
    GridSpec(dims=2, levels=3, features=4, base_resolution=4, finest_resolution=16, log2_table_size=7, kind="hash"),
]


def points(spec, n=64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, spec.dims)), jnp.float32)


def table(spec, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(spec.rows, spec.features)), jnp.float32)


@pytest.mark.parametrize("spec", SPECS)
def test_corner_weights_sum_to_one(spec):
    out = grid_encode(points(spec), jnp.ones((spec.rows, spec.features)), spec)
    np.testing.assert_allclose(out, 1.0, atol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_linear_in_the_table(spec):
    x, a, b = points(spec), table(spec, 1), table(spec, 2)
    both = grid_encode(x, 2.0 * a + b, spec)
    np.testing.assert_allclose(both, 2.0 * grid_encode(x, a, spec) + grid_encode(x, b, spec), atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_match_finite_differences(spec):
    x, t = points(spec, 16), table(spec)
    upstream = jnp.asarray(np.random.default_rng(3).normal(size=(16, spec.output_dim)), jnp.float32)

    def loss(x, t):
        return jnp.sum(grid_encode(x, t, spec) * upstream)

    g_x, g_t = jax.grad(loss, argnums=(0, 1))(x, t)
    direction = table(spec, 7)
    slope = loss(x, t + 0.5 * direction) - loss(x, t - 0.5 * direction)
    np.testing.assert_allclose(jnp.sum(g_t * direction), slope, rtol=1e-3)
    eps = 1e-4
    for d in range(spec.dims):
        step = jnp.zeros_like(x).at[:, d].set(eps)
        # Points next to a cell face have no derivative there: compare where no level's cell changes.
        same_cell = np.ones(len(x), bool)
        for scale in spec.scales:
            same_cell &= (np.floor((x - step) * scale + 0.5) == np.floor((x + step) * scale + 0.5)).all(axis=1)
        difference = jnp.sum((grid_encode(x + step, t, spec) - grid_encode(x - step, t, spec)) * upstream, axis=1) / (2 * eps)
        assert same_cell.sum() > 8
        np.testing.assert_allclose(np.asarray(g_x[:, d])[same_cell], np.asarray(difference)[same_cell], rtol=0.02, atol=0.3)


def test_outside_and_nan_encode_to_zero_and_give_no_gradient():
    spec = SPECS[0]
    x = jnp.array([[0.5, 0.5, 1.0001], [-0.0001, 0.5, 0.5], [jnp.nan, 0.5, 0.5], [0.5, 0.5, 0.5]], jnp.float32)
    out = grid_encode(x, table(spec), spec)
    np.testing.assert_array_equal(out[:3], 0.0)
    assert np.abs(out[3]).max() > 0
    g = jax.grad(lambda t: jnp.sum(grid_encode(x[:3], t, spec)))(table(spec))
    np.testing.assert_array_equal(g, 0.0)


def test_kinds_agree_where_levels_fit_and_differ_where_they_do_not():
    small = GridSpec(levels=2, base_resolution=4, finest_resolution=6, log2_table_size=12, kind="hash")
    np.testing.assert_array_equal(small.index_factors[1], False)
    large = GridSpec(levels=2, base_resolution=4, finest_resolution=64, log2_table_size=8, kind="hash")
    assert large.index_factors[1].tolist() == [False, True]


def test_default_spec_has_the_original_layout():
    spec = GridSpec()
    assert spec.rows == 903480
    assert spec.resolutions.tolist() == [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048]
    assert GridSpec(dims=2).rows == 555520


@pytest.mark.parametrize(("x_shape", "t_rows", "message"), [((5, 2), None, "x must be"), ((5, 3), 7, "table must be")])
def test_wrong_shapes_are_named(x_shape, t_rows, message):
    spec = SPECS[0]
    with pytest.raises(ValueError, match=message):
        grid_encode(jnp.zeros(x_shape), jnp.zeros((t_rows or spec.rows, spec.features)), spec)


def _golden_table(rows, channels, seed, amplitude):
    x = (np.arange(rows * channels, dtype=np.uint64) + np.uint64(seed) * np.uint64(2654435769)).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    uniform = (x >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24) - np.float32(0.5)
    return uniform.reshape(rows, channels) * np.float32(amplitude)


def test_equals_the_original_kernel(shared):
    """Linear interpolation, align_corners off: the configuration every released model uses."""
    checked = 0
    for path in sorted((shared / "parity" / "kernels").glob("grid_*.npz")):
        z = np.load(path, allow_pickle=False)
        meta = json.loads(str(z["meta"]))
        if meta["align_corners"] or meta["interpolation"] != "linear":
            continue
        spec = GridSpec(
            dims=meta["D"],
            levels=meta["L"],
            features=meta["C"],
            base_resolution=meta["base_resolution"],
            finest_resolution=meta["desired_resolution"],
            log2_table_size=meta["log2_hashmap_size"],
            kind=meta["gridtype"],
        )
        np.testing.assert_array_equal(spec.offsets, z["offsets"])
        np.testing.assert_array_equal(spec.resolutions, z["resolutions"])
        t = jnp.asarray(_golden_table(spec.rows, spec.features, meta["emb_seed"], meta.get("emb_amp", 1.0)))
        out, vjp = jax.vjp(lambda x, t, spec=spec: grid_encode(x, t, spec), jnp.asarray(z["x"]), t)
        np.testing.assert_allclose(out, z["out"], atol=1e-7 * spec.scales[-1] + 2e-6, err_msg=path.name)
        g_x, g_t = vjp(jnp.asarray(z["grad_out"]))
        safe = z["safe"].astype(bool)
        np.testing.assert_allclose(np.asarray(g_x)[safe], z["grad_x"][safe], atol=3e-4 * np.abs(z["grad_x"]).max(), err_msg=path.name)
        expected = np.zeros(t.shape, np.float32)
        expected[z["grad_emb_rows"]] = z["grad_emb_vals"]
        np.testing.assert_allclose(g_t, expected, atol=3e-4 * np.abs(z["grad_emb_vals"]).max(), err_msg=path.name)
        checked += 1
    assert checked >= 5
