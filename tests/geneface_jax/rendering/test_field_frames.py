"""Frame rendering equals the training renderer, is independent of the batch, and saves samples by early termination."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.ray_marching import Lattice

from geneface_jax.models.head import FieldSample
from geneface_jax.rendering.field import MarchSettings, render_groups, render_rays

# Depth 0.47: a box face on a cell face would leave the first sample of a ray to rounding.
AABB = (-1.0, -0.47, -1.0, 1.0, 0.47, 1.0)
SETTINGS = MarchSettings(AABB, 0.05, Lattice(0.04, Lattice.points_for(AABB, 0.04, 50.0)), max_samples=14, budget=14.0)
RAYS = 300


def field(x, d, frame):
    """A soft ball of radius 0.4 whose color is its position."""
    del frame
    radius = jnp.linalg.norm(x, axis=-1)
    return FieldSample(30.0 * jax.nn.sigmoid((0.4 - radius) * 40.0), 0.5 + 0.5 * x, x[:, :2])


@pytest.fixture(scope="module")
def rays():
    rng = np.random.default_rng(0)
    o = np.broadcast_to(np.array([0.1, 4.0, -0.1]), (RAYS, 3))
    d = rng.uniform(-0.6, 0.6, (RAYS, 3)) - o
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    occupied = np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 3, indexing="ij"), -1), axis=-1) < 0.65
    return jnp.asarray(o, jnp.float32), jnp.asarray(d, jnp.float32), jnp.asarray(occupied)


render = jax.jit(functools.partial(render_rays, field, settings=SETTINGS))


def test_equals_the_training_renderer_without_jitter(rays):
    o, d, occupied = rays
    ours = render(o, d, occupied, end_threshold=1e-4)
    theirs = render_groups(field, o[None], d[None], jnp.zeros((1, RAYS)), occupied, SETTINGS)
    assert bool(theirs.complete.all())
    np.testing.assert_allclose(ours.rgb, theirs.composite.rgb, atol=2e-5)
    np.testing.assert_allclose(ours.alpha, theirs.composite.alpha, atol=2e-5)
    np.testing.assert_allclose(ours.depth, theirs.composite.depth, atol=2e-4)
    assert 0.2 < float(jnp.mean(ours.alpha)) < 0.9


def test_rays_are_independent_of_their_batch(rays):
    o, d, occupied = rays
    together = render(o, d, occupied, end_threshold=1e-3)
    parts = [render(o[i : i + 50], d[i : i + 50], occupied, end_threshold=1e-3) for i in range(0, RAYS, 50)]
    np.testing.assert_allclose(together.rgb, jnp.concatenate([p.rgb for p in parts]), atol=1e-6)


def test_a_higher_end_threshold_saves_samples(rays):
    o, d, occupied = rays
    careful, hasty = (render(o, d, occupied, end_threshold=e) for e in (1e-4, 0.1))
    assert int(hasty.samples) < int(careful.samples)
    np.testing.assert_allclose(hasty.rgb, careful.rgb, atol=0.11)


def test_an_empty_grid_renders_nothing(rays):
    o, d, occupied = rays
    out = render(o, d, jnp.zeros_like(occupied), end_threshold=1e-4)
    assert int(out.samples) == 0 and float(jnp.abs(out.rgb).max()) == 0.0


def test_one_trace_for_all_frames(rays):
    o, d, occupied = rays
    traces = []

    @jax.jit
    def counted(o, d, occupied, end_threshold):
        traces.append(1)
        return render_rays(field, o, d, occupied, SETTINGS, end_threshold)

    for threshold in (1e-4, 1e-2):
        counted(o, d, occupied, threshold)
        counted(o + 0.01, d, ~occupied, threshold)
    assert len(traces) == 1
