"""Distortion of rays: the double sum of its definition, its gradient, and rows that belong to no ray."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.distortion import ray_distortion

MAX_SAMPLES = 9
COUNTS = np.array([5, 0, 1, 9, 3, 0, 2])
GAP = 4
"""Rows between rays that no ray visits."""

distortion = jax.jit(functools.partial(ray_distortion, max_samples=MAX_SAMPLES))


@pytest.fixture(scope="module")
def rays():
    """sigma [M], deltas [M, 2], offsets [N], counts [N]: steps of changing length, gaps between samples and between rays."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(COUNTS + GAP)[:-1]]) + 2
    rows = int(offsets[-1] + COUNTS[-1] + GAP)
    step = rng.uniform(0.02, 0.05, rows)
    # The first sample of each ray is far away, and empty space lies between some samples.
    end = 3.0 + np.cumsum(step + 0.1 * (rng.random(rows) < 0.3))
    sigma = rng.gamma(1.0, 25.0, rows)
    sigma[offsets[4] + 1] = 0.0
    return sigma, np.stack([step, end], axis=1), offsets, COUNTS


def on_device(sigma, deltas, offsets, counts):
    return jnp.float32(sigma), jnp.float32(deltas), jnp.int32(offsets), jnp.int32(counts)


def brute_force(sigma, deltas, offsets, counts, xp=np):
    """All pairs of samples, one ray at a time; `xp` is numpy (in double precision) or jax.numpy."""
    found = []
    for first, count in zip(offsets, counts, strict=True):
        total = 0.0 * sigma[0]
        light, weights = 1.0, []
        for k in range(first, first + count):
            through = xp.exp(-sigma[k] * deltas[k, 0])
            weights.append(light * (1.0 - through))
            light = light * through
        for i in range(count):
            for j in range(count):
                total += weights[i] * weights[j] * abs(deltas[first + i, 1] - deltas[first + j, 1]) / deltas[first, 0]
            total += weights[i] ** 2 * deltas[first + i, 0] / deltas[first, 0] / 3.0
        found.append(total)
    return xp.stack(found)


def test_equals_the_sum_over_all_pairs(rays):
    expected = brute_force(*rays)
    found = distortion(*on_device(*rays))
    assert found.shape == COUNTS.shape and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)
    assert expected[3] > 1.0 and np.all(np.asarray(found)[COUNTS == 0] == 0.0)
    # As Barron et al. define it: the same rays through intervals of the length of their step.
    np.testing.assert_allclose(found[2], (1 - np.exp(-rays[0][rays[2][2]] * rays[1][rays[2][2], 0])) ** 2 / 3, rtol=1e-5)


def test_its_gradient_is_that_of_the_sum(rays):
    sigma, deltas, offsets, counts = rays
    upstream = np.random.default_rng(1).normal(size=len(counts))
    ours = jax.grad(lambda s: jnp.sum(distortion(s, *on_device(*rays)[1:]) * jnp.float32(upstream)))(jnp.float32(sigma))
    near = deltas - [0.0, 3.0]  # only differences of positions count: without the distance of the camera single precision keeps them
    theirs = jax.grad(lambda s: jnp.sum(brute_force(s, jnp.float32(near), offsets, counts, jnp) * jnp.float32(upstream)))(
        jnp.float32(sigma)
    )
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=2e-5)
    visited = np.zeros(len(sigma), bool)
    for first, count in zip(offsets, counts, strict=True):
        visited[first : first + count] = True
    assert not np.asarray(ours)[~visited].any() and np.asarray(ours)[visited].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_rows_that_no_ray_visits_have_no_effect(rays, value):
    sigma, deltas, offsets, counts = (np.array(part, np.float64) for part in rays)
    offsets, counts = offsets.astype(int), counts.astype(int)
    visited = np.zeros(len(sigma), bool)
    for first, count in zip(offsets, counts, strict=True):
        visited[first : first + count] = True
    assert not visited[0], "row 0, which stands for samples that a ray lacks, is one of them"
    sigma[~visited], deltas[~visited] = value, value

    def total(s):
        return jnp.sum(distortion(s, *on_device(sigma, deltas, offsets, counts)[1:]))

    np.testing.assert_array_equal(distortion(*on_device(sigma, deltas, offsets, counts)), distortion(*on_device(*rays)))
    gradient = jax.grad(total)(jnp.float32(sigma))
    assert bool(jnp.isfinite(gradient).all()) and not np.asarray(gradient)[~visited].any()


def test_light_that_stops_in_one_sample_has_a_third_and_spread_light_a_third_for_each(rays):
    step = np.full((8, 1), 0.03)
    deltas = np.concatenate([step, 2.0 + np.cumsum(step, axis=0)], axis=1)

    def of(sigma):
        return float(distortion(*on_device(np.float64(sigma), deltas, np.array([0]), np.array([8])))[0])

    wall = of([0, 0, 0, 1e5, 0, 0, 0, 0])
    even = of([-np.log1p(-1 / (8 - k)) / 0.03 if k < 7 else 1e5 for k in range(8)])
    assert wall == pytest.approx(1 / 3, rel=1e-4) and even == pytest.approx(8 / 3, rel=1e-3)
    assert of(np.zeros(8)) == 0.0


@pytest.mark.usefixtures("unchecked_annotations")
def test_bad_shapes_are_named(rays):
    sigma, deltas, offsets, counts = on_device(*rays)
    with pytest.raises(ValueError, match=r"sigma must be \[M\] and deltas \[M, 2\]"):
        distortion(sigma, deltas[:-1], offsets, counts)
    with pytest.raises(ValueError, match=r"offsets and counts must be \[N\]"):
        distortion(sigma, deltas, offsets, counts[:-1])
