"""Marching: the packed samples are those of a plain loop over each ray's lattice."""

import json

import jax.numpy as jnp
import numpy as np
from geneface_kernels.ray_box import FAR_AWAY, near_far_from_aabb
from geneface_kernels.ray_marching import Lattice, first_occupied, lattice_occupancy, pack_samples

AABB = (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0)


def scene(n=40, resolution=8, seed=0):
    rng = np.random.default_rng(seed)
    o = rng.normal(size=(n, 3)) * 0.2 + np.array([0.0, 3.0, 0.0])
    target = rng.uniform(-0.8, 0.8, (n, 3))
    d = target - o
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    occupied = rng.random((resolution,) * 3) < 0.3
    return jnp.asarray(o, jnp.float32), jnp.asarray(d, jnp.float32), jnp.asarray(occupied)


def march(noise=0.0, seed=0):
    o, d, occupied = scene(seed=seed)
    step = 0.05
    lattice = Lattice(step, Lattice.points_for(AABB, step, 60.0))
    near, far = near_far_from_aabb(o, d, jnp.asarray(AABB), 0.05)
    u = jnp.full(len(o), noise)
    return (o, d, near, far, u, occupied, lattice), lattice_occupancy(o, d, near, far, u, occupied, lattice)


def brute_force(o, d, near, far, u, occupied, lattice, max_samples):
    resolution = occupied.shape[0]
    rays = []
    for i in range(len(o)):
        found, k = [], 0
        while True:
            t = np.float32(near[i]) + np.float32(u[i]) * np.float32(lattice.step) + np.float32(k) * np.float32(lattice.step)
            if not t < far[i] or len(found) == max_samples:
                break
            p = np.asarray(o[i]) + np.asarray(d[i]) * t
            cell = np.clip((0.5 * (p + 1.0) * resolution).astype(int), 0, resolution - 1)
            if occupied[tuple(cell)]:
                found.append(k)
            k += 1
        rays.append(found)
    return rays


def test_marching_equals_a_dense_march():
    for noise in (0.0, 0.7):
        args, (_, hit) = march(noise)
        expected = brute_force(*(np.asarray(a) for a in args[:-1]), args[-1], max_samples=6)
        steps, counts = first_occupied(hit, 6)
        assert counts.tolist() == [len(e) for e in expected]
        assert max(counts.tolist()) == 6 and min(counts.tolist()) < 6
        for i, e in enumerate(expected):
            assert steps[i, : len(e)].tolist() == e
        packed = pack_samples(hit, 6, 1000)
        assert bool(packed.complete.all())
        got = [[] for _ in expected]
        for ray, slot, step, used in zip(*(np.asarray(a) for a in packed[:4]), strict=True):
            if used:
                assert len(got[ray]) == slot
                got[ray].append(int(step))
        assert got == expected


def test_a_budget_that_runs_out_marks_the_rays_it_cut():
    _, (_, hit) = march()
    full = pack_samples(hit, 6, 1000)
    total = int(full.used.sum())
    cut = pack_samples(hit, 6, total // 2)
    assert int(cut.used.sum()) == total // 2
    complete = np.asarray(cut.complete)
    assert complete.any() and not complete.all()
    wanted = np.asarray(first_occupied(hit, 6)[1])
    have = np.bincount(np.asarray(cut.ray)[np.asarray(cut.used)], minlength=len(wanted))
    np.testing.assert_array_equal(have[complete], wanted[complete])


def test_rays_that_miss_the_box_have_no_samples():
    near, far = near_far_from_aabb(jnp.array([[0.0, 3.0, 0.0]]), jnp.array([[0.0, 1e-9, 1.0]]), jnp.asarray(AABB), 0.05)
    assert near[0] == FAR_AWAY and far[0] == FAR_AWAY
    _, hit = lattice_occupancy(
        jnp.array([[0.0, 3.0, 0.0]]), jnp.array([[0.0, 0.0, 1.0]]), near, far, jnp.zeros(1), jnp.ones((4, 4, 4), bool), Lattice(0.1, 20)
    )
    assert not hit.any()


def test_axis_parallel_rays_hit_the_box():
    near, far = near_far_from_aabb(jnp.array([[0.0, 3.0, 0.0]]), jnp.array([[0.0, -1.0, 0.0]]), jnp.asarray(AABB), 0.05)
    np.testing.assert_allclose([near[0], far[0]], [2.5, 3.5], rtol=1e-6)


def test_box_equals_the_original_kernel(shared):
    z = np.load(shared / "parity" / "kernels" / "near_far_sph.npz", allow_pickle=False)
    meta = json.loads(str(z["meta"]))
    near, far = near_far_from_aabb(jnp.asarray(z["rays_o"]), jnp.asarray(z["rays_d"]), jnp.asarray(z["aabb"]), meta["min_near"])
    np.testing.assert_allclose(near, z["nears"], rtol=2e-6)
    np.testing.assert_allclose(far, z["fars"], rtol=2e-6)
