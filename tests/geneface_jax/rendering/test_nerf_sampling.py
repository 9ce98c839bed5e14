"""Coarse and fine sampling, and compositing over a background pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.rendering import nerf
from geneface_jax.rendering.nerf import Noise, even_depths, jitter

composite = jax.jit(nerf.composite)
sample_pdf = jax.jit(nerf.sample_pdf)
render_rays = jax.jit(nerf.render_rays, static_argnames=("coarse", "fine", "near", "far", "samples", "fine_samples"))


def raw_of(density, color=0.0):
    """[R, S, 4] from densities [R, S]."""
    density = jnp.asarray(density, jnp.float32)
    return jnp.concatenate([jnp.full((*density.shape, 3), color), density[..., None]], axis=-1)


def test_jitter_keeps_order_and_the_last_sample():
    depths = even_depths(0.3, 0.9, 50, 16)
    moved = np.asarray(jitter(depths, jax.random.uniform(jax.random.key(0), (50, 16))))
    assert (np.diff(moved) >= 0).all() and moved.min() >= 0.3
    np.testing.assert_allclose(moved[:, -1], 0.9, rtol=1e-6)
    assert np.std(moved[:, 5]) > 0.005
    assert np.abs(moved - np.asarray(depths)).max() <= 0.6 / 15 + 1e-6


def test_all_weight_in_one_bin_draws_all_samples_there():
    edges = jnp.linspace(0.0, 1.0, 11)[None]
    weights = jnp.zeros((1, 10)).at[0, 6].set(1.0)
    found = np.asarray(sample_pdf(edges, weights, jnp.linspace(0.01, 0.99, 40)))[0]
    assert ((found > 0.6 - 1e-3) & (found < 0.7 + 1e-3)).all() and (np.diff(found) > 0).all()


def test_samples_follow_the_density():
    """The share of samples in a bin is its share of the weight."""
    rng = np.random.default_rng(0)
    edges, weights = np.sort(rng.random((3, 9)), axis=-1), rng.random((3, 8))
    found = np.asarray(sample_pdf(jnp.asarray(edges), jnp.asarray(weights), jnp.linspace(0.0, 1.0, 4001)))
    for row in range(3):
        share = np.histogram(found[row], edges[row])[0] / 4001
        np.testing.assert_allclose(share, weights[row] / weights[row].sum(), atol=2e-3)


def test_no_weight_at_all_samples_evenly():
    found = sample_pdf(jnp.linspace(0.0, 1.0, 5)[None], jnp.zeros((1, 4)), jnp.linspace(0.0, 1.0, 9))
    np.testing.assert_allclose(np.asarray(found)[0], np.linspace(0, 1, 9), atol=1e-5)


def test_an_empty_field_shows_the_background():
    background = jnp.array([[0.1, 0.5, 0.9]])
    out = composite(raw_of(-np.ones((1, 8))), even_depths(1.0, 2.0, 1, 8), jnp.array([[0.0, 0.0, -1.0]]), background)
    np.testing.assert_allclose(np.asarray(out.rgb), np.asarray(background), atol=1e-5)
    np.testing.assert_allclose(np.asarray(out.opacity), 1.0, atol=1e-5)
    assert np.asarray(out.last_weight)[0] > 0.9999


def test_a_solid_sample_hides_everything_behind_it():
    density = np.zeros((1, 8))
    density[0, 3] = 1e4
    out = composite(raw_of(density, color=2.0), even_depths(1.0, 2.0, 1, 8), jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros((1, 3)))
    np.testing.assert_allclose(np.asarray(out.rgb), 1.0 / (1.0 + np.exp(-2.0)), atol=1e-4)
    np.testing.assert_allclose(np.asarray(out.depth), 1.0 + 3.0 / 7.0, atol=1e-4)
    np.testing.assert_allclose(np.asarray(out.disparity) * np.asarray(out.depth), 1.0, atol=1e-4)


def test_the_background_is_all_that_the_last_weight_adds():
    key = jax.random.key(0)
    raw, background = jax.random.normal(key, (5, 8, 4)) * 3.0, jax.random.uniform(key, (5, 3))
    out = composite(raw, even_depths(1.0, 2.0, 5, 8), jax.random.normal(key, (5, 3)), background)
    expected = np.asarray(out.foreground) + np.asarray(out.last_weight)[:, None] * np.asarray(background)
    np.testing.assert_allclose(np.asarray(out.rgb), expected, atol=1e-6)


def test_depth_is_converted_to_distance():
    """A slanted ray passes more matter between the same depths: as much as one of twice the density."""
    depths, flat = even_depths(1.0, 2.0, 1, 8), np.ones((1, 8))
    slanted = composite(raw_of(flat), depths, jnp.array([[0.0, np.sqrt(3.0), -1.0]]), jnp.zeros((1, 3)))
    dense = composite(raw_of(2 * flat), depths, jnp.array([[0.0, 0.0, -1.0]]), jnp.zeros((1, 3)))
    np.testing.assert_allclose(np.asarray(slanted.weights), np.asarray(dense.weights), rtol=1e-5)


def test_gradients_are_those_of_differences():
    depths, background = even_depths(1.0, 2.0, 3, 5), jnp.full((3, 3), 0.3)
    rng = np.random.default_rng(2)
    raw = rng.normal(size=(3, 5, 4)).astype(np.float32) + np.array([0, 0, 0, 3], np.float32)  # away from the ReLU's corner
    along, weight = rng.normal(size=raw.shape).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)

    @jax.jit
    def loss(raw):
        return jnp.sum(weight * nerf.composite(raw, depths, jnp.ones((3, 3)), background).rgb)

    step = 1e-2
    expected = (loss(raw + step * along) - loss(raw - step * along)) / (2 * step)
    np.testing.assert_allclose(np.sum(jax.jit(jax.grad(loss))(raw) * along), expected, rtol=1e-2, atol=1e-4)


def ball(scale):
    """Query of a solid ball of radius 0.2 around the origin, `scale` its color's logit; outside it is empty."""

    def query(points, view):
        del view
        inside = jnp.linalg.norm(points, axis=-1, keepdims=True) < 0.2
        return jnp.concatenate([jnp.broadcast_to(scale, (*points.shape[:2], 3)), jnp.where(inside, 80.0, -1.0)], axis=-1)

    return query


RAYS = jnp.tile(jnp.array([[0.0, 0.0, 1.0]]), (2, 1)), jnp.array([[0.0, 0.0, -1.0], [0.5, 0.0, -1.0]]), jnp.full((2, 3), 0.25)
RANGE = {"near": 0.5, "far": 1.5}


@pytest.mark.parametrize("noise", [None, Noise(jnp.full((2, 9), 0.7), jnp.tile(jnp.linspace(0, 0.99, 24), (2, 1)))])
def test_the_fine_pass_finds_the_surface_better(noise):
    out = render_rays(ball(1.0), ball(1.0), *RAYS, **RANGE, samples=9, fine_samples=24, noise=noise)
    errors = [abs(float(part.depth[0]) - 0.8) for part in (out.coarse, out.fine)]
    assert errors[1] < 0.06 and errors[1] <= errors[0] + 1e-6
    np.testing.assert_allclose(np.asarray(out.fine.rgb[1]), 0.25, atol=1e-4)


def test_without_a_fine_pass_the_coarse_one_is_shown():
    def never(points, view):
        raise AssertionError("the fine field was evaluated")

    out = render_rays(ball(1.0), never, *RAYS, **RANGE, samples=9, fine_samples=0)
    np.testing.assert_array_equal(np.asarray(out.fine.rgb), np.asarray(out.coarse.rgb))
    assert not np.asarray(out.spread).any()


def test_the_fine_loss_does_not_move_the_coarse_field():
    def fine_only(scale):
        out = nerf.render_rays(ball(scale), ball(1.0), *RAYS, **RANGE, samples=9, fine_samples=8)
        return jnp.sum(out.fine.rgb), jnp.sum(out.coarse.rgb)

    fine, coarse = jax.jit(jax.jacfwd(fine_only))(0.5)
    assert float(fine) == 0.0 and abs(float(coarse)) > 0.1
