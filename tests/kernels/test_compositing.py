"""Training compositing: conservation of light, the stopping sample, gradients, and equality with the original kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend
from geneface_kernels.compositing import composite_train

from tests.kernels.slot_compositing import composite
from tests.lowered import NO_WARNINGS
from tests.parity.kernels import golden_compositing as recorded
from tests.parity.kernels.comparison import GoldenFile
from tests.parity.kernels.golden_compositing import PREFIXES

STEP = 0.1
ROWS = 400
LONGEST = 12
IMPLEMENTATIONS = ["xla", "pallas_interpret"]

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def samples(n=20, s=12, seed=0):
    """Samples in slots: sigma, rgb, t, ambient."""
    rng = np.random.default_rng(seed)
    sigma = rng.gamma(0.6, 8.0, (n, s)).astype(np.float32)
    sigma[:, s // 2 :] *= rng.random((n, 1)) > 0.5
    return (jnp.asarray(a, jnp.float32) for a in (sigma, rng.random((n, s, 3)), np.cumsum(np.full((n, s), STEP), 1), rng.random((n, s))))


def packed(n=37, seed=0, unused=np.nan):
    """Packed samples of rays in no particular order, some empty, the last one reaching one row too far; rows of no ray hold `unused`."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, LONGEST + 1, n)
    counts[::7] = 0
    offsets = np.zeros(n, np.int64)
    order = rng.permutation(n - 1)
    offsets[order] = 3 + np.cumsum(counts[order] + 1) - counts[order]
    # As a running sum of the counts has it, an empty ray points at another one's rows.
    offsets[7::7] = offsets[6:-1:7][: len(offsets[7::7])]
    counts[-1], offsets[-1] = 5, ROWS - 4
    used = np.zeros(ROWS, bool)
    for first, count in zip(offsets[:-1], counts[:-1], strict=True):
        assert not used[first : first + count].any() and first + count < ROWS - 4
        used[first : first + count] = True
    delta = rng.uniform(0.5, 1.5, ROWS) * STEP
    columns = {
        "sigma": rng.gamma(0.6, 12.0, ROWS),
        "rgb": rng.random((ROWS, 3)),
        "ambient": rng.random(ROWS),
        "deltas": np.stack([delta, 2.0 + np.arange(ROWS) * STEP], 1),
        "uncertainty": rng.random(ROWS),
    }
    columns = {k: jnp.asarray(np.where(used if v.ndim == 1 else used[:, None], v, unused), jnp.float32) for k, v in columns.items()}
    return {**columns, "offsets": jnp.asarray(offsets, jnp.int32), "counts": jnp.asarray(counts, jnp.int32)}


def run(arrays, implementation="xla", *, max_samples=LONGEST, end_threshold=0.05, weighted_ambient=False):
    return compiled_training(implementation, max_samples, end_threshold, weighted_ambient)(arrays)


@functools.cache
def compiled_training(implementation, max_samples, end_threshold, weighted_ambient):
    """One function per setting, so that tests share what was compiled."""
    settings = {"max_samples": max_samples, "end_threshold": end_threshold, "weighted_ambient": weighted_ambient}
    return jax.jit(lambda a: composite_train(**a, **settings, implementation=implementation))


def plain_loop(a, end_threshold, weighted=False):
    """The rule, one ray and one sample after the other, in double precision. Last column: samples visited."""
    a = {k: np.asarray(v, np.float64 if v.dtype == np.float32 else None) for k, v in a.items()}
    out = np.zeros((len(a["counts"]), 8))
    for ray, (first, count) in enumerate(zip(a["offsets"], a["counts"], strict=True)):
        if first < 0 or first + count > ROWS:
            continue
        transmittance = 1.0
        for k in range(first, first + count):
            alpha = 1.0 - np.exp(-a["sigma"][k] * a["deltas"][k, 0])
            weight = transmittance * alpha
            values = [*a["rgb"][k], 1.0, a["deltas"][k, 1], a["ambient"][k], a["uncertainty"][k]]
            out[ray, :7] += weight * np.array(values)
            if not weighted:
                out[ray, 5] += (1.0 - weight) * a["ambient"][k]
            out[ray, 7] += 1
            transmittance *= 1.0 - alpha
            if transmittance < end_threshold:
                break
    return out


def columns_of(out):
    return np.concatenate([out.rgb, *(np.asarray(x)[:, None] for x in out[1:])], axis=1)


def padded(a, n, end_threshold, weighted):
    """The same sums by gathering rays into slots, to be differentiated by jax: the stop is a constant."""
    row = a["offsets"][:n, None] + jnp.arange(LONGEST)
    used = jnp.arange(LONGEST) < a["counts"][:n, None]
    sigma, delta, t, ambient, uncertainty = (
        jnp.where(used, v[row], 0.0) for v in (a["sigma"], a["deltas"][:, 0], a["deltas"][:, 1], a["ambient"], a["uncertainty"])
    )
    rgb = jnp.where(used[..., None], a["rgb"][row], 0.0)
    before = jnp.exp(-(jnp.cumsum(sigma * delta, axis=1) - sigma * delta))
    visited = used & (jax.lax.stop_gradient(before) >= end_threshold)
    weight = jnp.where(visited, before * (1.0 - jnp.exp(-sigma * delta)), 0.0)
    total = [jnp.sum(weight * v, axis=1) for v in (rgb[..., 0], rgb[..., 1], rgb[..., 2], 1.0)]
    ambient_sum = jnp.sum(jnp.where(visited, ambient * (weight if weighted else 1.0), 0.0), axis=1)
    depth = jax.lax.stop_gradient(jnp.sum(weight * t, axis=1))
    return jnp.stack([*total, depth, ambient_sum, jnp.sum(weight * uncertainty, axis=1)], axis=1)


# --- in slots -------------------------------------------------------------------------------------------------------------------------


def test_alpha_and_transmittance_add_up_to_one():
    sigma, rgb, t, ambient = samples()
    out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.0)
    np.testing.assert_allclose(out.alpha + jnp.exp(-jnp.sum(sigma * STEP, axis=1)), 1.0, atol=1e-6)


def test_equals_a_plain_loop_with_early_stop():
    sigma, rgb, t, ambient = samples()
    out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.05)
    stopped = 0
    for i in range(len(sigma)):
        transmittance, color, depth, ambient_sum = 1.0, np.zeros(3), 0.0, 0.0
        for k in range(sigma.shape[1]):
            alpha = 1.0 - np.exp(-float(sigma[i, k]) * STEP)
            color += transmittance * alpha * np.asarray(rgb[i, k])
            depth += transmittance * alpha * float(t[i, k])
            ambient_sum += float(ambient[i, k])
            transmittance *= 1.0 - alpha
            if transmittance < 0.05:
                stopped += 1
                break
        np.testing.assert_allclose(out.rgb[i], color, atol=1e-5)
        np.testing.assert_allclose([out.alpha[i], out.depth[i], out.ambient[i]], [1 - transmittance, depth, ambient_sum], atol=1e-4)
    assert 0 < stopped < len(sigma)


def test_density_gradient_matches_finite_differences():
    sigma, rgb, t, ambient = samples(4, 6)

    def loss(sigma):
        out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.0)
        return jnp.sum(out.rgb) + jnp.sum(out.alpha**2)

    direction = jnp.asarray(np.random.default_rng(5).normal(size=sigma.shape), jnp.float32)
    slope = (loss(sigma + 1e-2 * direction) - loss(sigma - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(jnp.sum(jax.grad(loss)(sigma) * direction), slope, rtol=5e-3)


# --- packed, training -----------------------------------------------------------------------------------------------------------------


@each_implementation
def test_packed_light_is_conserved(implementation):
    a = packed()
    out = run(a, implementation, end_threshold=0.0)
    optical = np.where(np.isnan(a["sigma"]), 0.0, a["sigma"] * a["deltas"][:, 0])
    left = [np.exp(-optical[first : first + count].sum()) for first, count in zip(a["offsets"], a["counts"], strict=True)]
    np.testing.assert_allclose(out.alpha[:-1] + np.array(left[:-1]), 1.0, atol=1e-6)


@each_implementation
@pytest.mark.parametrize("weighted", [False, True])
def test_packed_equals_a_plain_loop(implementation, weighted):
    a = packed()
    expected = plain_loop(a, 0.05, weighted)
    stopped = expected[:, 7] < np.asarray(a["counts"])
    assert 5 < stopped[:-1].sum() < len(stopped) - 5
    np.testing.assert_allclose(columns_of(run(a, implementation, weighted_ambient=weighted)), expected[:, :7], atol=2e-5)


@each_implementation
def test_empty_rays_and_rays_that_do_not_fit_give_zeros_and_take_no_gradient(implementation):
    a = packed(unused=1.0)
    a["offsets"] = a["offsets"].at[1].set(-2).at[7].set(ROWS + 50)
    a["counts"] = a["counts"].at[1].set(4)
    empty = [0, 1, 7, 14, 36]

    def total(sigma):
        return sum(jnp.sum(x[jnp.array(empty)]) for x in run({**a, "sigma": sigma}, implementation))

    np.testing.assert_array_equal(columns_of(run(a, implementation))[empty], 0.0)
    np.testing.assert_array_equal(jax.grad(total)(a["sigma"]), 0.0)
    assert np.count_nonzero(columns_of(run(a, implementation))[:, 3]) == 37 - len([*empty, 21, 28, 35])


@each_implementation
@pytest.mark.parametrize(("weighted", "end_threshold"), [(False, 0.05), (True, 0.05), (False, 0.0)])
def test_gradients_are_those_of_the_padded_form(implementation, weighted, end_threshold):
    a = packed(unused=0.5)
    n = len(a["counts"]) - 1
    names = ("sigma", "rgb", "ambient", "uncertainty", "deltas")
    upstream = np.random.default_rng(4).normal(size=(n, 7)).astype(np.float32)

    def ours(*values):
        out = run({**a, **dict(zip(names, values, strict=True))}, implementation, weighted_ambient=weighted, end_threshold=end_threshold)
        columns = [out.rgb[:, 0], out.rgb[:, 1], out.rgb[:, 2], *out[1:]]
        return sum(jnp.sum(column[:n] * upstream[:, i]) for i, column in enumerate(columns))

    def theirs(*values):
        return jnp.sum(padded({**a, **dict(zip(names, values, strict=True))}, n, end_threshold, weighted) * upstream)

    values = [a[name] for name in names]
    found = jax.jit(jax.grad(ours, argnums=(0, 1, 2, 3, 4)))(*values)
    expected = jax.jit(jax.grad(theirs, argnums=(0, 1, 2, 3)))(*values)
    for name, f, e in zip(names, found, expected, strict=False):
        assert np.abs(e).max() > 0.1
        np.testing.assert_allclose(f, e, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(found[4], 0.0)


@each_implementation
def test_what_no_ray_visits_changes_nothing(implementation):
    clean, dirty = packed(unused=0.0), packed(unused=np.nan)

    def values_and_gradients(a):
        def total(sigma, rgb):
            out = run({**a, "sigma": sigma, "rgb": rgb}, implementation)
            return sum(jnp.sum(x) for x in out)

        return run(a, implementation), jax.jit(jax.grad(total, argnums=(0, 1)))(a["sigma"], a["rgb"])

    for x, y in zip(jax.tree.leaves(values_and_gradients(clean)), jax.tree.leaves(values_and_gradients(dirty)), strict=True):
        np.testing.assert_array_equal(x, y)


@each_implementation
def test_an_infinitely_dense_sample_is_opaque_and_has_finite_gradients(implementation):
    a = packed(unused=0.0)
    ray = 3
    assert int(a["counts"][ray]) > 1
    first = int(a["offsets"][ray])
    a["sigma"] = a["sigma"].at[first].set(jnp.inf)
    out = run(a, implementation)
    assert out.alpha[ray] == 1.0
    np.testing.assert_array_equal(out.rgb[ray], a["rgb"][first])
    gradient = jax.grad(lambda s: jnp.sum(run({**a, "sigma": s}, implementation).rgb))(a["sigma"])
    assert np.isfinite(gradient).all()


@each_implementation
def test_depth_gives_no_gradient_and_the_rest_does(implementation):
    a = packed(unused=0.0)
    _, pull_back = jax.vjp(lambda s: run({**a, "sigma": s}, implementation), a["sigma"])
    nothing = jax.tree.map(jnp.zeros_like, run(a, implementation))
    np.testing.assert_array_equal(pull_back(nothing._replace(depth=jnp.ones(37)))[0], 0.0)
    assert np.abs(pull_back(nothing._replace(alpha=jnp.ones(37)))[0]).max() > 1e-3


@each_implementation
def test_rays_longer_than_the_limit_are_cut_there(implementation):
    a = packed()
    short = {**a, "counts": jnp.minimum(a["counts"], 3).at[-1].set(5)}
    np.testing.assert_array_equal(columns_of(run(a, implementation, max_samples=3)), columns_of(run(short, implementation)))


@each_implementation
def test_the_order_of_the_rays_does_not_matter(implementation):
    a = packed()
    order = np.random.default_rng(2).permutation(37)
    shuffled = {**a, "offsets": a["offsets"][order], "counts": a["counts"][order]}
    np.testing.assert_array_equal(columns_of(run(shuffled, implementation)), columns_of(run(a, implementation))[order])


def test_slots_and_packed_agree():
    sigma, rgb, t, ambient = samples()
    n, s = sigma.shape
    in_slots = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.05)
    deltas = jnp.stack([jnp.full(n * s, STEP), t.reshape(-1)], axis=1)
    flat = composite_train(
        sigma.reshape(-1),
        rgb.reshape(-1, 3),
        ambient.reshape(-1),
        deltas,
        jnp.arange(n) * s,
        jnp.full(n, s),
        max_samples=s,
        end_threshold=0.05,
    )
    assert flat.uncertainty is None
    for x, y in zip(in_slots[:4], flat[:4], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_half_precision_inputs_sum_in_float32_and_get_half_gradients():
    a = packed(unused=0.0)
    half = {k: v.astype(jnp.float16) if k in ("sigma", "rgb") else v for k, v in a.items()}
    rounded = {k: v.astype(jnp.float32) if v.dtype == jnp.float16 else v for k, v in half.items()}
    out = run(half)
    assert out.rgb.dtype == jnp.float32
    np.testing.assert_array_equal(columns_of(out), columns_of(run(rounded)))
    assert jax.grad(lambda s: jnp.sum(run({**half, "sigma": s}).rgb))(half["sigma"]).dtype == jnp.float16


# --- bad input, lowering, recorded results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": jnp.zeros((400, 1))}, r"sigma must be \[M\]"),
        ({"rgb": jnp.zeros((400, 4))}, r"rgb must be \[400, 3\] like sigma's 400 rows, got \(400, 4\)"),
        ({"ambient": jnp.zeros(399)}, r"ambient must be \[400\]"),
        ({"deltas": jnp.zeros(400)}, r"deltas must be \[400, 2\]"),
        ({"uncertainty": jnp.zeros((400, 1))}, r"uncertainty must be \[400\]"),
        ({"offsets": jnp.zeros((0,), jnp.int32)}, r"offsets must be \[N\] with at least one ray"),
        ({"counts": jnp.zeros(36, jnp.int32)}, r"counts must be \[37\] like offsets"),
        ({"counts": jnp.zeros(37)}, "counts must be integers, got float32"),
        ({"max_samples": 0}, "max_samples must be at least 1, got 0"),
        ({"end_threshold": 1.0}, r"end_threshold must be in \[0, 1\), got 1.0"),
        ({"implementation": "cuda"}, "implementation of compositing must be one of"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_training_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        composite_train(**{**packed(), "max_samples": LONGEST, **change})


@pytest.mark.filterwarnings(*NO_WARNINGS)
@pytest.mark.parametrize("with_uncertainty", [False, True])
def test_lowers_for_cuda_without_a_gpu(with_uncertainty):
    a = packed()
    if not with_uncertainty:
        del a["uncertainty"]

    def total(sigma, rgb):
        out = composite_train(**{**a, "sigma": sigma, "rgb": rgb}, max_samples=LONGEST, implementation="pallas")
        return sum(jnp.sum(x) for x in jax.tree.leaves(out))

    function = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    with backend.lowering_for_cuda():
        text = function.trace(a["sigma"], a["rgb"]).lower(lowering_platforms=("cuda",)).as_text()
    assert all(word in text for word in ("triton", "composite_forward", "composite_backward"))


@each_implementation
def test_equals_the_original_kernels(shared, implementation):
    folder = shared / "parity" / "kernels"
    paths = [path for prefix in PREFIXES for path in sorted(folder.glob(f"{prefix}*.npz"))]
    if not paths:
        pytest.skip(f"no recorded compositing results in {folder}")
    assert len(paths) >= 5
    checks = [(path.name, check) for path in paths for check in recorded.check(GoldenFile.read(path), implementation)]
    assert len(checks) > 40
    assert [f"{name}: {check.key} is off by {check.worst} tolerances" for name, check in checks if not check.passed] == []
