"""Ray marching: every implementation finds the samples of a brute-force loop over each ray, for all cascades and step rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend
from geneface_kernels.ray_marching import Lattice, MarchConfig, march_train
from geneface_kernels.ray_marching.geometry import Rays, cell_at, near_far_from_aabb

from tests.parity.kernels.comparison import GoldenFile
from tests.parity.kernels.golden_ray_marching import PREFIXES, check
from tests.parity.kernels.inference_step import march_step
from tests.parity.kernels.march_gradient import march_gradient
from tests.parity.kernels.recorded import unread_arrays

IMPLEMENTATIONS = ["xla", "pallas_interpret"]
CASES = {
    "constant step": MarchConfig(resolution=16, max_steps=6),
    "fixed step": MarchConfig(resolution=8, max_steps=40, fixed_step=0.05),
    "cone": MarchConfig(resolution=16, max_steps=64, dt_gamma=1 / 32),
    "two cascades": MarchConfig(bound=2.0, cascades=2, resolution=8, max_steps=24),
    "two cascades, cone": MarchConfig(bound=2.0, cascades=2, resolution=16, max_steps=64, dt_gamma=1 / 16),
    "three cascades, cone": MarchConfig(bound=4.0, cascades=3, resolution=16, max_steps=48, dt_gamma=1 / 16),
    "bound is no power of two": MarchConfig(bound=1.7, cascades=2, resolution=8, max_steps=32, dt_gamma=1 / 64),
}
F = np.float32
_train = jax.jit(march_train, static_argnames=("config", "budget", "implementation"))
_step = jax.jit(march_step, static_argnames=("config", "n_steps", "implementation"))


def train(*arguments, **options):
    return jax.tree.map(np.asarray, _train(*arguments, **options))


def step(*arguments, **options):
    return jax.tree.map(np.asarray, _step(*arguments, **options))


def scene(config, n=60, seed=0, share=0.25, jitter=True):
    """Rays from outside and inside of the cube, a few parallel to axes (with a zero of either sign), through random cells."""
    rng = np.random.default_rng(seed)
    o = rng.normal(size=(n, 3)) * rng.choice([0.3, 2.0], (n, 1)) * config.bound
    d = rng.uniform(-0.8, 0.8, (n, 3)) * config.bound - o
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    o[:4], d[:4] = rng.uniform(-0.9, 0.9, (4, 3)), [[1, 0, 0], [0, -1, -0.0], [-0.0, 0, 1], [0, 0.6, -0.8]]
    b = config.bound
    box = jnp.asarray([-b, -b / 2, -b, b, b / 2, b], jnp.float32)
    o, d = (jnp.asarray(a, jnp.float32) for a in (o, d))
    near, far = near_far_from_aabb(o, d, box, 0.05)
    noise = jnp.asarray(rng.random(n) if jitter else np.zeros(n), jnp.float32)
    return o, d, near, far, noise, jnp.asarray(rng.random(config.grid_shape) < share)


def brute_force(o, d, t, far, noise, occupied, config, slots):
    """One ray in scalar float32, with the nested loop of the original; also whether rounding could change the result.

    Returns:
      (list of (t, dt, point), whether no comparison came closer than 1e-4).
    """
    bound, resolution = F(config.bound), config.resolution
    clamp = lambda v, low, high: min(max(v, low), high)  # noqa: E731
    length = lambda t: clamp(F(t * F(config.dt_gamma)), F(config.dt_min), F(config.dt_max))  # noqa: E731
    t = F(t + length(t) * noise)
    found, safe = [], True
    while t < far and len(found) < slots:
        safe &= abs(t - far) > 1e-4
        point = [clamp(F(o[k] + F(t * d[k])), -bound, bound) for k in range(3)]
        dt = length(t)
        exponents = [np.frexp(max(abs(p) for p in point))[1], np.frexp(F(dt * resolution * F(0.5)))[1]]
        level = int(clamp(max(exponents), 0, config.cascades - 1))
        half = F(min(2.0**level, config.bound))
        position = [0.5 * (p / half + 1.0) * resolution for p in point]
        cell = [int(clamp(x, 0, resolution - 1)) for x in position]
        parallel = [d[k] == 0 for k in range(3)]
        at_edge = [abs(point[k]) == bound for k in range(3)]
        safe &= all(abs(x - round(x)) > 1e-3 or fixed or edge for x, fixed, edge in zip(position, parallel, at_edge, strict=True))
        if config.cascades > 1:
            reach = [max(abs(p) for p in point), dt * resolution * 0.5]
            safe &= all(abs(r - 2.0**c) > 1e-4 for r in reach for c in range(config.cascades - 1))
        if occupied[(level, *cell)]:
            found.append((t, dt, point))
            t = F(t + dt)
            continue
        distances = []
        for k in range(3):
            with np.errstate(divide="ignore", invalid="ignore"):
                face = ((cell[k] + 0.5 + 0.5 * np.copysign(1.0, d[k])) / resolution * 2 - 1) * half
                distances.append(F(face - point[k]) * F(1.0 / d[k]))
        target = t + max(F(0.0), np.nanmin(distances))
        while True:
            t = F(t + length(t))
            safe &= abs(t - target) > 1e-4 or abs(t - far) < 1e-4
            if t >= target:
                break
    return found, safe


def all_brute_force(arguments, config, slots):
    arrays = [np.asarray(a) for a in arguments]
    return [brute_force(*(a[i] for a in arrays[:5]), arrays[5], config, slots) for i in range(len(arrays[0]))]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES)
def test_training_march_equals_a_brute_force_march(case, implementation):
    config = CASES[case]
    arguments = scene(config)
    directions = np.asarray(arguments[1])
    ours = train(*arguments, config=config, budget=60 * config.max_steps, implementation=implementation)
    expected = all_brute_force(arguments, config, config.max_steps)
    assert sum(safe for _, safe in expected) > 30
    assert sum(len(found) for found, safe in expected if safe) > 60
    assert bool(ours.complete.all()) and int(ours.total) == int(ours.counts.sum()) == int(np.sum(ours.ray < 60))
    for i, (found, safe) in enumerate(expected):
        if not safe:
            continue
        assert int(ours.counts[i]) == len(found), f"ray {i}"
        rows = slice(int(ours.offsets[i]), int(ours.offsets[i]) + len(found))
        np.testing.assert_array_equal(ours.ray[rows], i)
        np.testing.assert_array_equal(ours.slot[rows], np.arange(len(found)))
        np.testing.assert_allclose(ours.points[rows], np.reshape([p for _, _, p in found], (-1, 3)), atol=5e-6)
        np.testing.assert_array_equal(ours.directions[rows], np.repeat(directions[i : i + 1], len(found), axis=0))
        np.testing.assert_allclose(ours.deltas[rows], np.reshape([(dt, t + dt) for t, dt, _ in found], (-1, 2)), atol=5e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", ["cone", "two cascades, cone"])
def test_rounds_of_inference_continue_the_training_march(case, implementation):
    config = CASES[case]
    o, d, near, far, noise, occupied = scene(config)
    whole = train(o, d, near, far, noise, occupied, config=config, budget=60 * 64, implementation=implementation)
    t, found = near, []
    for first in range(0, 15, 5):
        jitter = noise if first == 0 else jnp.zeros_like(noise)
        points, deltas = step(o, d, t, far, jitter, occupied, config=config, n_steps=5, implementation=implementation)
        found.append(np.concatenate([points, deltas], axis=-1))
        # A ray that has ended starts at its end, where nothing can follow.
        t = jnp.where(deltas[:, -1, 0] > 0, deltas[:, -1, 1], far)
    found = np.concatenate(found, axis=1)
    for i in range(60):
        count = min(int(whole.counts[i]), 15)
        rows = slice(int(whole.offsets[i]), int(whole.offsets[i]) + count)
        np.testing.assert_allclose(found[i, :count], np.concatenate([whole.points[rows], whole.deltas[rows]], axis=1), atol=5e-6)
        assert not found[i, count:].any()
    assert int(whole.counts.max()) > 10 and int(whole.counts.min()) == 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_ray_that_does_not_fit_is_dropped_whole(implementation):
    config = CASES["cone"]
    arguments = scene(config)
    full = train(*arguments, config=config, budget=60 * 64, implementation=implementation)
    budget = int(full.total) // 2 + 1
    cut = train(*arguments, config=config, budget=budget, implementation=implementation)
    fits = np.asarray(full.offsets + full.counts) <= budget
    np.testing.assert_array_equal(cut.counts, full.counts)
    np.testing.assert_array_equal(cut.offsets, full.offsets)
    assert int(cut.total) == int(full.total)
    np.testing.assert_array_equal(cut.complete, fits | (np.asarray(full.counts) == 0))
    rows = int((full.offsets + full.counts)[fits].max())
    assert 0 < rows < budget and np.asarray(cut.ray[rows:] == 60).all()
    for ours, theirs in zip(cut[:3], full[:3], strict=True):
        np.testing.assert_array_equal(ours[:rows], theirs[:rows])
        assert not np.asarray(ours[rows:]).any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rays_that_miss_or_make_no_sense_have_no_samples_and_stay_inside_the_grid(implementation):
    config = CASES["two cascades"]
    o, d, near, far, noise, occupied = scene(config)
    occupied = jnp.ones_like(occupied)
    lowest, highest = jnp.finfo(jnp.float32).min, jnp.finfo(jnp.float32).max
    near = near.at[:5].set(jnp.array([highest, 1.0, jnp.nan, 1.0, 1.0]))
    far = far.at[:5].set(jnp.array([highest, lowest, 3.0, jnp.nan, jnp.inf]))
    o, d = o.at[5].set(jnp.nan), d.at[6, 1].set(jnp.nan)
    near, far = near.at[5:7].set(1.0), far.at[5:7].set(3.0)
    out = train(o, d, near, far, noise, occupied, config=config, budget=2000, implementation=implementation)
    assert out.counts[:5].tolist() == [0] * 5
    assert int(out.counts[5]) > 0 and np.abs(out.points).max() <= config.bound
    empty = train(o, d, near, far, noise, ~occupied, config=config, budget=2000, implementation=implementation)
    assert int(empty.total) == 0 and not np.asarray(empty.deltas).any()


def test_jitter_moves_the_first_sample_by_a_part_of_a_step():
    config = MarchConfig(resolution=16, max_steps=400, fixed_step=0.01)
    o, d, near, far, noise, occupied = scene(config, jitter=False)
    still, moved = (
        train(o, d, near, far, u, jnp.ones_like(occupied), config=config, budget=60 * 400) for u in (noise, jnp.full_like(noise, 0.5))
    )
    both = np.asarray((still.counts > 0) & (moved.counts > 0))
    first = [np.asarray(m.deltas[m.offsets, 1])[both] for m in (still, moved)]
    np.testing.assert_allclose(first[1] - first[0], 0.005, atol=2e-6)


def test_one_trace_per_shape():
    config, traces = CASES["cone"], []

    @jax.jit
    def counted(*arguments):
        traces.append(1)
        return march_train(*arguments, config, 500).total

    totals = {int(counted(*scene(config, seed=seed, share=share))) for seed, share in ((0, 0.2), (1, 0.5), (2, 0.0))}
    assert len(traces) == 1 and len(totals) == 3


def test_gradient_of_the_original_and_automatic_gradient():
    config = CASES["cone"]
    o, d, near, far, noise, occupied = scene(config)
    out = train(o, d, near, far, noise, occupied, config=config, budget=1500)
    rng = np.random.default_rng(1)
    g_points, g_directions = (jnp.asarray(rng.normal(size=out.points.shape), jnp.float32) for _ in range(2))
    by_o, by_d = march_gradient(g_points, g_directions, out.deltas, out.ray, 60)
    ray, used = np.asarray(out.ray), np.asarray(out.ray) < 60
    expected_o, expected_d = np.zeros((60, 3)), np.zeros((60, 3))
    np.add.at(expected_o, ray[used], np.asarray(g_points)[used])
    np.add.at(expected_d, ray[used], (np.asarray(g_points * out.deltas[:, 1:]) + np.asarray(g_directions))[used])
    np.testing.assert_allclose(by_o, expected_o, atol=1e-4)
    np.testing.assert_allclose(by_d, expected_d, atol=1e-4)

    def loss(o, d):
        out = march_train(o, d, near, far, noise, occupied, config, 1500)
        return jnp.sum(out.points * g_points) + jnp.sum(out.directions * g_directions)

    exact_o, exact_d = jax.grad(loss, argnums=(0, 1))(o, d)
    # The exact derivative moves a sample with its own t, one dt less than the original's.
    inside = np.abs(np.asarray(out.points)).max(axis=1) < config.bound
    whole = np.array([inside[ray == i].all() for i in range(60)])
    assert whole.sum() > 30
    np.testing.assert_allclose(exact_o[whole], by_o[whole], atol=1e-4)
    less = np.zeros((60, 3))
    np.add.at(less, ray[used], np.asarray(g_points * out.deltas[:, :1])[used])
    np.testing.assert_allclose(exact_d[whole], (np.asarray(by_d) - less)[whole], atol=1e-4)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_ray_inside_the_plane_of_a_face_skips_to_the_face_ahead(zero):
    direction = tuple(jnp.asarray([v], jnp.float32) for v in (zero, 1.0, 0.0))
    origin = tuple(jnp.asarray([v], jnp.float32) for v in (0.0, 0.05, 0.1))
    rays = Rays(origin, direction, tuple(1.0 / d for d in direction))
    index, exit_at = cell_at(rays, jnp.zeros(1), MarchConfig(resolution=8))
    assert int(index[0]) == (4 * 8 + 4) * 8 + 4
    np.testing.assert_allclose(exit_at, 0.2, atol=1e-6)


def test_step_lengths():
    default = MarchConfig(resolution=128, max_steps=16, dt_gamma=1 / 256)
    assert default.constant_step and default.dt_min == default.dt_max == pytest.approx(0.0270633, rel=1e-5)
    fine = MarchConfig(bound=2.0, cascades=2, resolution=64, max_steps=256, dt_gamma=1 / 256)
    assert not fine.constant_step and fine.dt_max == pytest.approx(4 * 3**0.5 / 64) and fine.dt_min == pytest.approx(2 * 3**0.5 / 256)
    assert MarchConfig(max_steps=4096, fixed_step=0.02).dt_min == pytest.approx(0.02)
    assert Lattice.points_for((-1.0, -0.5, -1.0, 1.0, 0.5, 1.0), 0.1, 0.0) == 11


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rays_o": jnp.zeros((4, 2))}, r"rays_o must be \[N, 3\] with at least one ray, got \[4, 2\]"),
        ({"rays_d": jnp.ones((5, 3))}, r"rays_d must be \[4, 3\] as rays_o is, got \[5, 3\]"),
        ({"noise": jnp.zeros(3)}, r"noise must be \[4\], one number a ray, got \[3\]"),
        ({"far": jnp.zeros(4, jnp.int32)}, "far must be float32, got int32"),
        ({"occupied": jnp.zeros((1, 8, 8, 4), bool)}, r"occupied must be \[1, 8, 8, 8\] .*got \[1, 8, 8, 4\]"),
        ({"occupied": jnp.zeros((8, 8, 8), jnp.uint8)}, "occupied must be bool, got uint8"),
        ({"budget": 0}, "budget must be a whole number of rows of at least 1, got 0"),
        ({"implementation": "triton"}, "implementation of ray_marching must be one of"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_arguments_are_named(change, message):
    arguments = {
        "rays_o": jnp.zeros((4, 3)),
        "rays_d": jnp.ones((4, 3)),
        "near": jnp.zeros(4),
        "far": jnp.ones(4),
        "noise": jnp.zeros(4),
        "occupied": jnp.zeros((8, 8, 8), bool),
        "config": MarchConfig(resolution=8),
        "budget": 10,
    }
    assert int(march_train(**arguments).total) == 0
    with pytest.raises(ValueError, match=message):
        march_train(**{**arguments, **change})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bound": 0.0}, "bound of MarchConfig must be positive"),
        ({"cascades": 0}, "cascades of MarchConfig must be a whole number of at least 1, got 0"),
        ({"max_steps": 2.5}, "max_steps of MarchConfig must be a whole number"),
        ({"dt_gamma": -1.0}, "dt_gamma of MarchConfig must be 0 or more, got -1.0"),
        ({"fixed_step": float("nan")}, "fixed_step of MarchConfig must be positive and finite, got nan"),
        ({"cascades": 3, "resolution": 1024}, r"cascades \* resolution\^3 of MarchConfig must be below 2\^31"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_settings_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        MarchConfig(**fields)


def test_bad_gradient_arguments_are_named():
    with pytest.raises(ValueError, match=r"deltas must be \[4, 2\] for 4 rows of grad_points, got \[4, 3\]"):
        march_gradient(jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32), 2)


@pytest.mark.parametrize("case", ["constant step", "three cascades, cone"])
def test_both_marches_lower_for_cuda(case):
    config = CASES[case]
    arguments = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in scene(config)]
    functions = (
        functools.partial(march_train, config=config, budget=256, implementation="pallas"),
        functools.partial(march_step, config=config, n_steps=4, implementation="pallas"),
    )
    for function in functions:
        with backend.lowering_for_cuda():
            text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
        assert "triton" in text and "march_rays" in text


def test_equals_the_original_kernels(shared):
    files = [path for path in sorted((shared / "parity" / "kernels").glob("*.npz")) if path.name.startswith(PREFIXES)]
    assert len(files) >= 10
    misses = []
    for path in files:
        file = GoldenFile.read(path)
        for implementation in IMPLEMENTATIONS:
            checks = list(check(file, implementation))
            assert len(checks) >= 8
            misses += [f"{file.name}, {implementation}: {check}" for check in checks if not check.passed]
    assert not misses, "\n".join(misses)


def test_every_recorded_array_of_the_training_march_is_looked_at(shared):
    paths = sorted((shared / "parity" / "kernels").glob("march_train_*.npz"))
    assert paths
    for path in paths:
        assert not unread_arrays(path, ["ray_marching"]), path.name


def test_the_comparison_with_the_original_can_fail(shared):
    path = next((shared / "parity" / "kernels").glob("march_train_*.npz"))
    file = GoldenFile.read(path)
    file.arrays["xyzs"] = file["xyzs"] + np.float32(1e-4)
    file.arrays["rays"] = file["rays"] + np.int32([0, 0, 1])
    missed = {check.key for check in check(file, "xla") if not check.passed}
    assert any(key.startswith("rays: count") for key in missed)
