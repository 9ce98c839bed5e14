"""Whole frames: both renderers agree with each other and with a brute-force loop, and rays are independent of each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.frame_rendering import (
    Cells,
    FrameMarch,
    Rounds,
    count_samples,
    march_bits,
    next_samples,
    render_per_ray,
    render_single_pass,
    sample_counts,
    sufficient_budget,
)
from geneface_kernels.occupancy import pack_cells
from geneface_kernels.ray_marching import Lattice, MarchConfig
from geneface_kernels.ray_marching.geometry import near_far_from_aabb

from scripts.bench.kernels.cases import frame_rendering_cases
from tests.parity.kernels.comparison import GoldenFile
from tests.parity.kernels.golden_frame_rendering import PREFIXES, check
from tests.parity.kernels.reference_schedule import over_background, render_reference

# Depth 0.47: a box face on a cell face would leave the first sample of a ray to rounding.
AABB = (-1.0, -0.47, -1.0, 1.0, 0.47, 1.0)
MARCH = FrameMarch(AABB, 0.05, Lattice(0.04, Lattice.points_for(AABB, 0.04, 50.0)), max_samples=14)
FRAMES, RAYS = 3, 210
BUDGET = 6144
END = 1e-3


def field(points, directions, frame):
    """A soft ball, larger in every frame, whose color is its position tilted by the direction."""
    radius = jnp.linalg.norm(points, axis=-1)
    edge = 0.3 + 0.1 * frame
    return 30.0 * jax.nn.sigmoid((edge - radius) * 40.0), 0.5 + 0.4 * points + 0.1 * directions


@pytest.fixture(scope="module")
def scene():
    """Rays [F, N, 3] of cameras in front of a hollow ball of occupied cells; some rays miss the box."""
    rng = np.random.default_rng(0)
    o = np.array([[0.1, 4.0, -0.1], [-0.5, 3.5, 0.2], [0.0, 4.2, 0.4]])[:, None].repeat(RAYS, 1)
    d = rng.uniform(-1.3, 1.3, (FRAMES, RAYS, 3)) - o
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij"), -1), axis=-1)
    return jnp.asarray(o, jnp.float32), jnp.asarray(d, jnp.float32), jnp.asarray((radius < 0.65) & (radius > 0.2))


per_ray_of = functools.partial(render_per_ray, march=MARCH, end_threshold=END, rounds=Rounds(64, 1, 16, 4))
per_ray = functools.partial(per_ray_of, field)
single_pass = functools.partial(render_single_pass, field, march=MARCH, end_threshold=END, budget=BUDGET)
SCHEDULES = pytest.mark.parametrize("render", [jax.jit(per_ray), jax.jit(single_pass)], ids=["per_ray", "single_pass"])


def assert_same(a, b, atol=1e-5):
    for name in ("rgb", "alpha", "depth"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=atol * (10 if name == "depth" else 1), err_msg=name)


def brute_force(o, d, frame, occupied):
    """One ray at a time, one sample at a time, in double precision."""
    near, far = (np.asarray(a, np.float64) for a in near_far_from_aabb(o, d, jnp.asarray(AABB), 0.05))
    occupied, o, d = np.asarray(occupied), np.asarray(o, np.float64), np.asarray(d, np.float64)
    rgb, alpha, depth = np.zeros((len(o), 3)), np.zeros(len(o)), np.zeros(len(o))
    for i in range(len(o)):
        through, taken = 1.0, 0
        for k in range(MARCH.lattice.points):
            t = near[i] + k * MARCH.lattice.step
            p = o[i] + d[i] * t
            if not t < far[i] or taken == MARCH.max_samples or through < END:
                break
            if not occupied[tuple(np.clip((0.5 * (p + 1.0) * 16).astype(int), 0, 15))]:
                continue
            taken += 1
            sigma, color = (np.asarray(a, np.float64) for a in field(jnp.asarray(p), jnp.asarray(d[i]), frame))
            weight = through * -np.expm1(-sigma * MARCH.lattice.step)
            rgb[i] += weight * color
            alpha[i] += weight
            depth[i] += weight * t
            through -= weight
    return rgb, alpha, depth


@SCHEDULES
def test_equals_a_plain_loop_over_rays_and_samples(render, scene):
    o, d, occupied = scene
    out = render(o, d, occupied)
    assert 0.1 < float(out.alpha.mean()) < 0.9 and float(out.alpha.min()) == 0.0
    for frame in range(FRAMES):
        rgb, alpha, depth = brute_force(o[frame, :40], d[frame, :40], frame, occupied)
        np.testing.assert_allclose(out.rgb[frame, :40], rgb, atol=2e-5)
        np.testing.assert_allclose(out.alpha[frame, :40], alpha, atol=2e-5)
        np.testing.assert_allclose(out.depth[frame, :40], depth, atol=2e-4)


@pytest.mark.parametrize("end_threshold", [1e-4, 1e-2, 0.3])
def test_both_schedules_give_the_same_picture(scene, end_threshold):
    rounds = jax.jit(functools.partial(per_ray, end_threshold=end_threshold))(*scene)
    once = jax.jit(functools.partial(single_pass, end_threshold=end_threshold))(*scene)
    assert_same(rounds, once)
    assert int(rounds.samples) <= int(once.samples) and int(once.dropped) == 0 and bool(once.complete.all())


@SCHEDULES
def test_the_same_in_one_or_seven_batches(render, scene):
    o, d, occupied = scene
    whole = render(o[0], d[0], occupied)
    parts = [render(o[0, i : i + RAYS // 7], d[0, i : i + RAYS // 7], occupied) for i in range(0, RAYS, RAYS // 7)]
    assert len(parts) == 7
    assert_same(whole, jax.tree.map(lambda *a: jnp.concatenate(a) if a[0].ndim else sum(a), *parts), atol=1e-6)
    assert int(whole.samples) == sum(int(part.samples) for part in parts)


@SCHEDULES
def test_a_batch_of_frames_is_its_frames(render, scene):
    o, d, occupied = scene
    batch = render(o, d, occupied)
    assert batch.rgb.shape == (FRAMES, RAYS, 3) and batch.alpha.shape == batch.complete.shape == (FRAMES, RAYS)

    @jax.jit
    def alone(o, d, frame):
        return per_ray_of(lambda points, directions, group: field(points, directions, group + frame), o, d, occupied)

    for frame in range(FRAMES):
        one = alone(o[frame], d[frame], frame)
        assert_same(jax.tree.map(lambda a, frame=frame: a[frame] if a.ndim else a, batch), one)


@SCHEDULES
def test_rays_in_another_order_give_the_same_pixels(render, scene):
    o, d, occupied = scene
    order = np.random.default_rng(1).permutation(RAYS)
    straight, shuffled = render(o[0], d[0], occupied), render(o[0, order], d[0, order], occupied)
    assert_same(jax.tree.map(lambda a: a[order] if a.ndim else a, straight), shuffled, atol=1e-6)


@SCHEDULES
def test_what_the_field_says_of_unused_points_does_not_matter(render, scene):
    o, d, occupied = scene

    def poisoned(points, directions, frame):
        """NaN at the origin, where unused places point and no sample lies (the ball is hollow)."""
        sigma, rgb = field(points, directions, frame)
        unused = jnp.linalg.norm(points, axis=-1) < 1e-6
        return jnp.where(unused, jnp.nan, sigma), jnp.where(unused[:, None], jnp.nan, rgb)

    schedule = single_pass if render.__wrapped__.func is render_single_pass else per_ray
    out = jax.jit(lambda o, d: schedule.func(poisoned, o, d, occupied, **schedule.keywords))(o, d)
    assert bool(jnp.isfinite(out.rgb).all())
    assert_same(out, render(o, d, occupied))


def test_blocks_and_rounds_do_not_show(scene):
    base = jax.jit(per_ray)(*scene)
    for sizes in ((16, 4, 16, 4), (1024, 1, 8, 1), (64, 5, 32, 3), (1024, 2, 512, 14), (1, 1, 1, 1), (96, 1, 96, 14)):
        other = jax.jit(functools.partial(per_ray, rounds=Rounds(*sizes)))(*scene)
        assert_same(base, other, atol=2e-6)
        # A round of several samples per ray evaluates some behind the one that ends the ray, never more than the ray has.
        assert int(other.samples) <= int(count_samples(*scene, MARCH)), sizes


def test_the_wanted_rays_are_rendered_and_no_others(scene):
    o, d, occupied = scene
    full = jax.jit(per_ray)(o, d, occupied)
    wanted = np.random.default_rng(2).random((FRAMES, RAYS)) < 0.3
    some = jax.jit(per_ray)(o, d, occupied, wanted=jnp.asarray(wanted))
    for name in ("rgb", "alpha", "depth"):
        ours, whole = np.asarray(getattr(some, name)), np.asarray(getattr(full, name))
        np.testing.assert_allclose(ours[wanted], whole[wanted], atol=1e-6, err_msg=name)
        assert not ours[~wanted].any() and whole[~wanted].any(), name
    assert 0 < int(some.samples) < 0.5 * int(full.samples) and bool(some.complete.all())
    nothing = jax.jit(per_ray)(o, d, occupied, wanted=jnp.zeros((FRAMES, RAYS), bool))
    assert int(nothing.samples) == 0 and not np.asarray(nothing.alpha).any()
    assert_same(jax.jit(per_ray)(o, d, occupied, wanted=jnp.ones((FRAMES, RAYS), bool)), full, atol=1e-7)


@SCHEDULES
def test_a_grid_in_bits_gives_the_same_bits(render, scene):
    o, d, _ = scene
    occupied = jnp.asarray(np.random.default_rng(3).random((64, 64, 64)) < 0.4)
    plain, packed = render(o, d, occupied), render(o, d, pack_cells(occupied))
    assert 0.05 < float(plain.alpha.mean()) < 0.9
    for name in ("rgb", "alpha", "depth", "samples"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(packed, name), err_msg=name)
    np.testing.assert_array_equal(march_bits(o[0], d[0], occupied, MARCH).bits, march_bits(o[0], d[0], pack_cells(occupied), MARCH).bits)
    assert int(count_samples(o, d, occupied, MARCH)) == int(count_samples(o, d, pack_cells(occupied), MARCH))


@SCHEDULES
def test_cells_that_do_not_show_are_skipped_but_count_as_samples(render, scene):
    """What a ray may reach stays what it was in training: skipped samples don't make room for later ones."""
    o, d, _ = scene
    rng = np.random.default_rng(4)
    occupied, shown = rng.random((32, 32, 32)) < 0.6, rng.random((64, 64, 64)) < 0.5
    cells = Cells(jnp.asarray(occupied), pack_cells(shown))
    plain, every = march_bits(o[0], d[0], cells.occupied, MARCH).bits, march_bits(o[0], d[0], cells.shown, MARCH).bits
    both = _unpacked(march_bits(o[0], d[0], cells, MARCH).bits)
    reached = np.cumsum(_unpacked(plain), axis=1) <= MARCH.max_samples
    np.testing.assert_array_equal(both, _unpacked(plain) & reached & _unpacked(every))
    assert 0.3 < both.sum() / _unpacked(plain).sum() < 0.6
    assert int(count_samples(o[0], d[0], cells, MARCH)) == both.sum()
    everything = Cells(cells.occupied, pack_cells(np.ones_like(shown)))
    assert_same(render(o, d, everything), render(o, d, cells.occupied), atol=1e-6)
    assert int(render(o, d, cells).samples) < int(render(o, d, cells.occupied).samples)


def _unpacked(bits):
    """[N, W] words -> [N, 32 W] bool, in the order of the lattice."""
    return (np.asarray(bits)[..., None] >> np.arange(32, dtype=np.uint32) & 1).astype(bool).reshape(len(bits), -1)


def test_rays_that_do_not_fit_are_reported_and_left_empty(scene):
    o, d, occupied = scene
    wanted = int(count_samples(o, d, occupied, MARCH))
    full = jax.jit(single_pass)(o, d, occupied)
    assert int(full.samples) == wanted > 1000
    short = jax.jit(functools.partial(single_pass, budget=wanted // 2))(o, d, occupied)
    assert int(short.samples) == wanted
    lost = ~np.asarray(short.complete)
    assert 0 < int(short.dropped) == lost.sum() < lost.size
    assert np.all(np.asarray(short.rgb)[lost] == 0) and np.all(np.asarray(short.alpha)[lost] == 0)
    np.testing.assert_array_equal(np.asarray(short.complete).reshape(-1), np.arange(lost.size) < np.argmax(lost.reshape(-1)))
    np.testing.assert_allclose(np.asarray(short.rgb)[~lost], np.asarray(full.rgb)[~lost], atol=1e-6)
    exact = jax.jit(functools.partial(single_pass, budget=wanted))(o, d, occupied)
    assert int(exact.dropped) == 0


@SCHEDULES
def test_an_empty_grid_renders_nothing(render, scene):
    o, d, occupied = scene
    out = render(o, d, jnp.zeros_like(occupied))
    assert int(out.samples) == 0 and float(jnp.abs(out.rgb).max()) == 0.0 and float(out.alpha.max()) == 0.0


def test_a_higher_end_threshold_saves_samples(scene):
    careful, hasty = (jax.jit(functools.partial(per_ray, end_threshold=e))(*scene) for e in (1e-4, 0.1))
    assert int(hasty.samples) < int(careful.samples)
    np.testing.assert_allclose(hasty.rgb, careful.rgb, atol=0.11)


@pytest.mark.parametrize("schedule", [per_ray, single_pass], ids=["per_ray", "single_pass"])
def test_one_trace_for_all_frames(schedule, scene):
    o, d, occupied = scene
    traces = []

    @jax.jit
    def counted(o, d, occupied, end_threshold):
        traces.append(1)
        return schedule(o, d, occupied, end_threshold=end_threshold).rgb

    for end_threshold in (1e-4, 1e-2):
        counted(o, d, occupied, end_threshold)
        counted(o + 0.01, d, ~occupied, end_threshold)
    assert len(traces) == 1


def test_bits_are_the_occupied_lattice_points(scene):
    """Every lattice point that is not within rounding of a cell's face or of the end of the ray."""
    o, d, occupied = (np.asarray(a, np.float64) for a in (scene[0][0], scene[1][0], scene[2]))
    march = FrameMarch(AABB, 0.05, Lattice(0.02, 70), max_samples=9)
    marched = march_bits(scene[0][0], scene[1][0], scene[2], march)
    assert marched.bits.shape == (RAYS, march.words) == (RAYS, 3)
    bits = np.unpackbits(np.asarray(marched.bits).view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert not bits[:, 70:].any()
    near, far = (np.asarray(a, np.float64)[:, None] for a in near_far_from_aabb(scene[0][0], scene[1][0], jnp.asarray(AABB), 0.05))
    hits = near[:, 0] < 1e30
    t = near + 0.02 * np.arange(70)
    cells = 8.0 * (o[:, None] + d[:, None] * t[..., None] + 1.0)
    clear = (np.abs(cells - np.round(cells)) > 1e-4).all(-1) & (np.abs(t - far) > 1e-4) & hits[:, None]
    cell = np.clip(np.nan_to_num(cells), 0, 15).astype(int)
    expected = (t < far) & (occupied[tuple(np.moveaxis(cell, -1, 0))] > 0)
    assert clear[hits].mean() > 0.9 and expected[clear].mean() > 0.1
    np.testing.assert_array_equal(bits[:, :70][clear], expected[clear])
    assert not bits[~hits].any()


def test_samples_come_off_in_order(scene):
    bits = march_bits(scene[0][0], scene[1][0], scene[2], FrameMarch(AABB, 0.05, Lattice(0.02, 70), max_samples=9)).bits
    hit = np.unpackbits(np.asarray(bits).view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(sample_counts(bits, 9), np.minimum(hit.sum(1), 9))
    take = jax.jit(next_samples, static_argnums=1)
    *taken, left = take(bits, 4)
    *later, rest = take(left, 12)
    first, found, then, more, rest = (np.asarray(a) for a in (*taken, *later, rest))
    for ray in range(RAYS):
        steps = np.nonzero(hit[ray])[0].tolist()
        assert [*first[ray][found[ray]], *then[ray][more[ray]]] == steps[:16]
        assert bool(rest[ray].any()) == (len(steps) > 16)


def test_budgets_hold_their_samples_and_seldom_change():
    sizes = [sufficient_budget(samples) for samples in range(0, 400_000, 997)]
    assert all(size >= 1.15 * samples for size, samples in zip(sizes, range(0, 400_000, 997), strict=True))
    assert sizes == sorted(sizes)
    assert sufficient_budget(100_000) == sufficient_budget(104_000) <= 1.15 * 1.26 * 104_000
    assert len(set(sizes)) < 40
    with pytest.raises(ValueError, match="headroom"):
        sufficient_budget(10, headroom=0.5)
    with pytest.raises(ValueError, match="steps_per_octave"):
        sufficient_budget(10, steps_per_octave=3)


@SCHEDULES
@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_input_is_named(render, scene):
    o, d, occupied = scene
    with pytest.raises(ValueError, match=r"rays_o must be \[N, 3\] or \[F, N, 3\], got"):
        render(o[..., :2], d, occupied)
    with pytest.raises(ValueError, match="rays_d must be shaped like rays_o"):
        render(o, d[:1], occupied)
    with pytest.raises(ValueError, match="occupied must be"):
        render(o, d, occupied[0])
    with pytest.raises(ValueError, match="occupied must be bool"):
        render(o, d, occupied.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"in bits \[R, R, R / 32\], got \(32, 32, 2\)"):
        render(o, d, jnp.zeros((32, 32, 2), jnp.uint32))


def test_bad_settings_are_named(scene):
    with pytest.raises(ValueError, match="budget"):
        single_pass(*scene, budget=0)
    for sizes in ((0, 1, 1, 1), (64, 0, 16, 1), (64, 1, 0, 1), (64, 1, 16, 0), (64, 1, 48, 1), (64, 1, 128, 1)):
        with pytest.raises(ValueError, match="positive, and block a multiple of last_block"):
            Rounds(*sizes)
    with pytest.raises(ValueError, match="max_samples"):
        FrameMarch(AABB, 0.05, MARCH.lattice, 0)
    with pytest.raises(ValueError, match="aabb"):
        FrameMarch(AABB[:5], 0.05, MARCH.lattice, 4)


def test_the_reference_schedule_gives_more_samples_as_rays_die(scene):
    """Its picture is ours where no cap cuts it, and its rounds follow the number of living rays."""
    o, d, occupied = scene[0][0], scene[1][0], scene[2]
    near, far = near_far_from_aabb(o, d, jnp.asarray(AABB), 0.05)
    config = MarchConfig(bound=1.0, resolution=16, cascades=1, dt_gamma=0.0, max_steps=200)
    out = render_reference(field, o, d, near, far, jnp.zeros(RAYS), occupied[None], config, END, "xla")
    before, steps, after = out.trace.T
    np.testing.assert_array_equal(before[1:], after[:-1])
    np.testing.assert_array_equal(steps, np.clip(RAYS // before, 1, 8))
    assert steps.max() > steps.min() and after[-1] == 0
    step = config.dt_min
    march = FrameMarch(AABB, 0.05, Lattice(step, Lattice.points_for(AABB, step, 60.0)), max_samples=200)
    ours = jax.jit(lambda o, d: render_per_ray(field, o, d, occupied, march, END))(o, d)
    # The reference visits one sample more after the threshold, of at most that weight.
    np.testing.assert_allclose(out.image, ours.rgb, atol=2 * END)
    np.testing.assert_allclose(out.weights_sum, ours.alpha, atol=2 * END)


def test_the_reference_picture_over_a_background(scene):
    o, d, occupied = scene[0][0], scene[1][0], scene[2]
    near, far = near_far_from_aabb(o, d, jnp.asarray(AABB), 0.05)
    config = MarchConfig(bound=1.0, resolution=16, cascades=1, dt_gamma=0.0, max_steps=16)
    out = render_reference(field, o, d, near, far, jnp.zeros(RAYS), jnp.zeros_like(occupied)[None], config, END, "xla")
    image, depth = over_background(out, near, far, jnp.asarray([0.2, 0.5, 0.8]))
    np.testing.assert_allclose(image, np.tile(np.float32([0.2, 0.5, 0.8]), (RAYS, 1)))
    assert bool(jnp.isnan(depth[near > 1e30]).all()) and bool((depth[near < 1e30] == 0).all()) and bool((near > 1e30).any())


def test_recorded_loops(shared):
    paths = sorted(p for p in (shared / "parity" / "kernels").glob("*.npz") if p.name.startswith(PREFIXES))
    seen, missed = 0, []
    for path in paths:
        checks = list(check(GoldenFile.read(path), "xla"))
        seen += bool(checks)
        missed += [f"{path.name}: {check.key} {check.worst:.2f}" for check in checks if not check.passed]
    assert not missed, "\n".join(missed)
    assert seen == len(paths) >= 4


@pytest.mark.parametrize("case", frame_rendering_cases(small=True), ids=lambda case: case.name)
def test_bench_cases_run(case):
    for implementation in case.implementations:
        rgb = jax.block_until_ready(case.run(implementation)())
        assert bool(jnp.isfinite(rgb).all()) and 0.1 < float((rgb.max(axis=-1) > 0).mean()) < 0.9
