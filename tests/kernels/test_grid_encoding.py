"""Grid encoding: interpolation, index rules, gradients and errors of every implementation, and equality with the original kernels."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend
from geneface_kernels.grid_encoding import GridSpec, grid_encode
from geneface_kernels.grid_encoding.spec import PRIMES

from scripts.bench.kernels.cases import grid_encoding_cases
from tests.parity.kernels.comparison import GoldenFile
from tests.parity.kernels.golden_grid_encoding import PREFIXES, check
from tests.parity.kernels.grid_jacobian import input_jacobian
from tests.parity.kernels.total_variation import total_variation_gradient

# Every D, C, kind, interpolation and alignment; levels that fit, that wrap and (the last) that wrap at no power of two.
SPECS = [
    GridSpec(dims=3, levels=4, features=2, base_resolution=4, finest_resolution=32, log2_table_size=9, kind="hash"),
    GridSpec(
        dims=3, levels=4, features=1, base_resolution=4, finest_resolution=32, log2_table_size=9, kind="tiled", interpolation="smoothstep"
    ),
    GridSpec(
        dims=2, levels=3, features=4, base_resolution=4, finest_resolution=16, log2_table_size=7, kind="hash", interpolation="smoothstep"
    ),
    GridSpec(dims=2, levels=3, features=8, base_resolution=3, log2_table_size=6, kind="tiled", align_corners=True, per_level_scale=1.7),
    GridSpec(dims=3, levels=2, features=2, base_resolution=5, finest_resolution=9, log2_table_size=14, kind="hash", align_corners=True),
]
SPEC = SPECS[0]

encode = jax.jit(grid_encode, static_argnums=(2, 3))
jacobian = jax.jit(input_jacobian, static_argnums=2)
total_variation = jax.jit(total_variation_gradient, static_argnums=2)

each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}{s.dims}d-c{s.features}-{s.interpolation}")
each_implementation = pytest.mark.parametrize("implementation", ["xla", "pallas_interpret"])


def points(spec, n=150, seed=0):
    """More than one kernel block, and not a whole number of them; borders and points outside included."""
    x = np.random.default_rng(seed).random((n, spec.dims), np.float32)
    x[:6] = np.array([0.0, 1.0, 0.5, 1.0001, -0.0001, np.nan], np.float32)[:, None]
    x[6, 0], x[7, -1] = 0.0, 1.0
    return jnp.asarray(x)


def inner_points(spec, n, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, spec.dims)), jnp.float32)


def table(spec, seed=1, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(spec.rows, spec.features)), dtype)


def upstream(spec, n, seed=3):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, spec.output_dim)), jnp.float32)


@functools.partial(jax.jit, static_argnums=(3, 4))
def encode_and_gradients(x, t, g, spec, implementation="xla"):
    """(out, gradient by x, gradient by t)."""
    out, vjp = jax.vjp(lambda x, t: grid_encode(x, t, spec, implementation), x, t)
    return out, *vjp(g)


def encode_by_loop(x, t, spec):
    """The definition, point by point, with its own index and weight code."""
    x, t = np.asarray(x), np.asarray(t)
    out = np.zeros((len(x), spec.levels, spec.features))
    for i, level in itertools.product(range(len(x)), range(spec.levels)):
        if not all(0 <= value <= 1 for value in x[i]):
            continue
        position = x[i] * spec.scales[level] + np.float32(0.0 if spec.align_corners else 0.5)
        cell = np.floor(position).astype(int)
        upper = position - cell
        if spec.interpolation == "smoothstep":
            upper = 3 * upper**2 - 2 * upper**3
        side, rows = int(spec.resolutions[level]) + (not spec.align_corners), int(spec.level_rows[level])
        for corner in itertools.product((0, 1), repeat=spec.dims):
            weight, index, stride, hashed = 1.0, 0, 1, 0
            for d, bit in enumerate(corner):
                weight *= upper[d] if bit else 1 - upper[d]
                hashed ^= int(cell[d] + bit) * PRIMES[d]
                if stride <= rows:
                    index += int(cell[d] + bit) * stride
                    stride *= side
            index = hashed % 2**32 if spec.kind == "hash" and stride > rows else index
            out[i, level] += weight * t[spec.offsets[level] + index % rows]
    return out.reshape(len(x), -1)


@each_spec
@each_implementation
def test_equals_the_definition(spec, implementation):
    x, t = points(spec), table(spec)
    np.testing.assert_allclose(encode(x, t, spec, implementation), encode_by_loop(x, t, spec), atol=2e-5)


@each_spec
@each_implementation
def test_corner_weights_sum_to_one(spec, implementation):
    out = encode(inner_points(spec, 20), jnp.ones((spec.rows, spec.features)), spec, implementation)
    np.testing.assert_allclose(out, 1.0, atol=1e-6)


@each_spec
@each_implementation
def test_table_gradient_is_the_transpose_of_the_forward_pass(spec, implementation):
    x, a = points(spec), table(spec)
    g = upstream(spec, len(x))
    out, _, g_t = encode_and_gradients(x, a, g, spec, implementation)
    np.testing.assert_allclose(jnp.vdot(g_t, a), jnp.vdot(g, out), rtol=1e-4)
    direction = table(spec, 7)
    np.testing.assert_allclose(jnp.vdot(g_t, direction), jnp.vdot(g, encode(x, direction, spec)), rtol=1e-4)


@each_spec
@each_implementation
def test_input_gradient_matches_finite_differences(spec, implementation):
    x, t = inner_points(spec, 60), table(spec)
    g, eps = upstream(spec, len(x)), 1e-3
    _, g_x, _ = encode_and_gradients(x, t, g, spec, implementation)
    for d in range(spec.dims):
        step = jnp.zeros_like(x).at[:, d].set(eps)
        # Points next to a cell face have no derivative there: compare where no level's cell changes.
        shift = 0.0 if spec.align_corners else 0.5
        faces = [np.floor(np.asarray(x + sign * step)[:, :, None] * spec.scales + shift) for sign in (-1, 1)]
        same_cell = (faces[0] == faces[1]).all(axis=(1, 2))
        difference = jnp.sum((encode(x + step, t, spec) - encode(x - step, t, spec)) * g, axis=1) / (2 * eps)
        assert same_cell.sum() > 20
        scale = np.abs(np.asarray(difference)).max()
        np.testing.assert_allclose(np.asarray(g_x[:, d])[same_cell], np.asarray(difference)[same_cell], atol=3e-3 * scale)


@each_spec
@each_implementation
def test_jacobian_times_upstream_is_the_input_gradient(spec, implementation):
    x, t = points(spec), table(spec)
    g = upstream(spec, len(x))
    full = jacobian(x, t, spec)
    assert full.shape == (len(x), spec.levels, spec.dims, spec.features)
    expected = jnp.einsum("nldc,nlc->nd", full, g.reshape(len(x), spec.levels, spec.features))
    _, g_x, _ = encode_and_gradients(x, t, g, spec, implementation)
    np.testing.assert_allclose(g_x, expected, atol=1e-5 * float(jnp.abs(expected).max()))


@each_implementation
def test_outside_and_nan_encode_to_zero_and_give_no_gradient(implementation):
    x = jnp.array([[0.5, 0.5, 1.0001], [-0.0001, 0.5, 0.5], [jnp.nan, 0.5, 0.5], [jnp.inf, 0.5, 0.5], [0.5, 0.5, 0.5]], jnp.float32)
    t = table(SPEC)
    for zero in (*encode_and_gradients(x[:4], t, upstream(SPEC, 4), SPEC, implementation), jacobian(x[:4], t, SPEC)):
        np.testing.assert_array_equal(zero, 0.0)
    np.testing.assert_array_equal(total_variation(x[:4], t, SPEC, 1.0), 0.0)
    assert np.abs(encode(x, t, SPEC, implementation)[4]).max() > 0


@each_implementation
def test_no_points_are_no_error(implementation):
    out, g_x, g_t = encode_and_gradients(jnp.zeros((0, 3)), table(SPEC), jnp.zeros((0, SPEC.output_dim)), SPEC, implementation)
    assert out.shape == (0, SPEC.output_dim) and g_x.shape == (0, 3)
    np.testing.assert_array_equal(g_t, 0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@each_implementation
def test_half_tables_are_added_up_in_float32(dtype, implementation):
    x, half = jnp.tile(inner_points(SPEC, 1), (3000, 1)), table(SPEC, dtype=dtype)
    g = jnp.full((len(x), SPEC.output_dim), 0.01)
    out, _, g_half = encode_and_gradients(x, half, g, SPEC, implementation)
    expected_out, _, expected = encode_and_gradients(x, half.astype(jnp.float32), g, SPEC)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, expected_out, atol=1e-6)
    assert g_half.dtype == jnp.dtype(dtype)
    # 3000 equal additions of about 0.005, which half precision rounds to nothing, or doubles, long before the end.
    assert float(expected.max()) > 10
    np.testing.assert_allclose(g_half.astype(jnp.float32), expected, rtol=5e-3, atol=1e-3)


def test_kinds_agree_where_levels_fit_and_differ_where_they_do_not():
    small = {"levels": 2, "base_resolution": 4, "finest_resolution": 6, "log2_table_size": 12}
    large = {"levels": 2, "base_resolution": 4, "finest_resolution": 64, "log2_table_size": 8}
    assert [level.hashed for level in GridSpec(**large, kind="hash").plan] == [False, True]
    assert [level.hashed for level in GridSpec(**large, kind="tiled").plan] == [False, False]
    for sizes, equal in ((small, True), (large, False)):
        hashed, tiled = (GridSpec(**sizes, kind=kind) for kind in ("hash", "tiled"))
        x, t = inner_points(hashed, 30), table(hashed)
        assert np.array_equal(encode(x, t, hashed), encode(x, t, tiled)) == equal


def test_default_spec_has_the_original_layout():
    spec = GridSpec()
    assert spec.rows == 903480
    assert spec.resolutions.tolist() == [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048]
    assert GridSpec(dims=2).rows == 555520
    # The default grid is blind to the third coordinate on its fine levels.
    assert [level.factors[2] == 0 for level in spec.plan] == [False] * 9 + [True] * 7


@pytest.mark.parametrize("finest", [512, 1024, 2048, 4096, 8192])
def test_the_finest_level_has_exactly_the_resolution_asked_for(finest):
    for levels in (2, 8, 16):
        spec = GridSpec(levels=levels, finest_resolution=finest)
        assert spec.scales[-1] == finest - 1 and spec.resolutions[-1] == finest


def test_per_level_scale_replaces_the_finest_resolution():
    by_finest = GridSpec(levels=5, base_resolution=8, finest_resolution=128)
    by_scale = GridSpec(levels=5, base_resolution=8, finest_resolution=9, per_level_scale=2.0)
    np.testing.assert_array_equal(by_scale.scales, by_finest.scales)
    np.testing.assert_array_equal(by_scale.offsets, by_finest.offsets)
    assert by_scale.resolutions.tolist() == [8, 16, 32, 64, 128]


@each_spec
def test_every_row_lies_inside_its_level(spec):
    """Corners of the unit cube are the farthest lattice points; a mask that lets an index through would be seen there."""
    x = jnp.asarray(list(itertools.product((0.0, 0.5, 1.0), repeat=spec.dims)), jnp.float32)
    marked = jnp.zeros((spec.rows, spec.features)).at[: spec.offsets[-2]].set(jnp.nan)
    out = np.asarray(encode(x, marked, spec)).reshape(len(x), spec.levels, -1)
    assert np.isfinite(out[:, -1]).all() and np.isnan(out[:, :-1]).all()


@each_spec
def test_total_variation_gradient_is_the_definition(spec):
    x, t = points(spec, 40), table(spec)
    expected = np.zeros((spec.rows, spec.features))
    values = np.asarray(t, np.float64)
    for i, (number, level) in itertools.product(range(len(x)), enumerate(spec.plan)):
        point = np.asarray(x[i])
        if not ((point >= 0) & (point <= 1)).all():
            continue
        cell = np.floor(point * spec.scales[number] + np.float32(0.0 if spec.align_corners else 0.5)).astype(int)

        def row(cell, level=level):
            terms = [int(c) * f for c, f in zip(cell, level.factors, strict=True)]
            index = sum(terms) if not level.hashed else terms[0] ^ terms[1] ^ (terms[2] if len(terms) == 3 else 0)
            return index % 2**32 % level.rows + level.offset

        neighbors = [
            cell + sign * np.eye(spec.dims, dtype=int)[d]
            for d in range(spec.dims)
            for sign in (-1, 1)
            if 0 <= cell[d] + sign <= spec.resolutions[number]
        ]
        differences = values[row(cell)] - values[[row(n) for n in neighbors]]
        expected[row(cell)] += 0.1 / (2 * spec.dims) * differences.sum(0) / np.sqrt((differences**2).sum(0) + 1e-9)
    np.testing.assert_allclose(total_variation(x, t, spec, 0.1), expected, atol=1e-5)


def test_one_trace_per_shape():
    traces = []

    @jax.jit
    def traced(x, t):
        traces.append(x.shape)
        return grid_encode(x, t, GridSpec(levels=2, log2_table_size=6))

    t = table(GridSpec(levels=2, log2_table_size=6))
    for n in (5, 5, 9, 9):
        traced(jnp.full((n, 3), 0.3), t)
    assert traces == [(5, 3), (9, 3)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@each_spec
def test_kernels_lower_for_cuda(spec, dtype):
    def all_three(x, t, g):
        out, vjp = jax.vjp(lambda x, t: grid_encode(x, t, spec, "pallas"), x, t)
        return out, vjp(g)

    shapes = [((150, spec.dims), jnp.float32), ((spec.rows, spec.features), dtype), ((150, spec.output_dim), jnp.float32)]
    with backend.lowering_for_cuda():
        traced = jax.jit(all_three).trace(*[jax.ShapeDtypeStruct(*shape) for shape in shapes])
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    for name in ("grid_encode", "grid_encode_table_gradient", "grid_encode_input_gradient"):
        assert f'"{name}"' in text or name in text
    assert text.count("xla.gpu.triton") == 3
    assert "stablehlo.scatter" not in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": 4}, "dims of a GridSpec must be 2 or 3, got 4"),
        ({"features": 3}, "features .* 1, 2, 4 or 8, got 3"),
        ({"kind": "dense"}, "kind .* got 'dense'"),
        ({"interpolation": "cubic"}, "interpolation .* got 'cubic'"),
        ({"align_corners": "yes"}, "align_corners .* got 'yes'"),
        ({"levels": 0}, "levels .* got 0"),
        ({"levels": 2.5}, "levels .* got 2.5"),
        ({"base_resolution": 0}, "base_resolution .* got 0"),
        ({"log2_table_size": 31}, "log2_table_size .* got 31"),
        ({"base_resolution": 64, "finest_resolution": 32}, "finest_resolution .* base_resolution = 64, got 32"),
        ({"per_level_scale": 0.5}, "per_level_scale .* got 0.5"),
        ({"levels": 64, "per_level_scale": 2.0}, "levels .* resolution of at most 16777216 .* got 64"),
        ({"levels": 200, "log2_table_size": 24}, "levels .* less than 2\\*\\*31 numbers, got 200"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_impossible_specs_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        GridSpec(**fields)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (jnp.zeros((5, 2)), None, r"x must be \[N, 3\].* got \(5, 2\)"),
        (jnp.zeros(3), None, r"x must be \[N, 3\].* got \(3,\)"),
        (jnp.zeros((5, 3), jnp.int32), None, "x must be floating, got int32"),
        (jnp.zeros((5, 3)), jnp.zeros((7, 2)), r"table must be .* got \(7, 2\)"),
        (jnp.zeros((5, 3)), jnp.zeros((SPEC.rows, 2), jnp.int32), "table must be float32, .* got int32"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_arguments_are_named(x, t, message):
    t = table(SPEC) if t is None else t
    with pytest.raises(ValueError, match=message):
        grid_encode(x, t, SPEC)
    with pytest.raises(ValueError, match=message):
        input_jacobian(x, t, SPEC)
    with pytest.raises(ValueError, match=message):
        total_variation_gradient(x, t, SPEC, 1.0)


@pytest.mark.usefixtures("unchecked_annotations")
def test_an_implementation_that_cannot_run_says_so():
    with pytest.raises(ValueError, match="implementation of grid_encoding must be one of"):
        grid_encode(jnp.zeros((5, 3)), table(SPEC), SPEC, "fast")
    with pytest.raises(NotImplementedError, match="NVIDIA GPU"):
        grid_encode(jnp.zeros((5, 3)), table(SPEC), SPEC, "pallas")


def test_bench_cases_are_named_once_and_count_their_work():
    found = grid_encoding_cases()
    assert len({case.name for case in found}) == len(found)
    # 65,536 points, 16 levels, 8 corners of two float32, and the points and results once.
    forward = next(case for case in found if case.name == "forward, hash 3D")
    assert forward.bytes_moved == 65536 * (16 * 8 * 8 + 4 * (3 + 32))


@each_implementation
def test_equals_the_original_kernels(shared, implementation):
    paths = sorted(path for path in (shared / "parity" / "kernels").glob("*.npz") if path.name.startswith(PREFIXES))
    assert len(paths) >= 14
    for path in paths:
        checks = {check.key: check for check in check(GoldenFile.read(path), implementation)}
        assert {"offsets", "scales", "resolutions", "out", "grad_x", "grad_emb_vals", "grad_emb_rows", "dy_dx"} <= checks.keys()
        assert not [(path.name, check) for check in checks.values() if not check.passed]
