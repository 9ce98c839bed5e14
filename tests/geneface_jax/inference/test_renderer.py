"""The renderer's batches, budgets and sizes: none of them shows in the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.grid_encoding import GridSpec
from geneface_kernels.ray_marching import Lattice
from ml_collections import ConfigDict

from geneface_jax.inference import renderer as module
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.models.head import Head
from geneface_jax.rendering.field import MarchSettings, render_heads
from tests.tiny_person import partial_subject

FRAMES, SIZE = 5, 24
AABB = (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def renderer():
    """An untrained head, with the occupancy of a ball, in front of a checkered background."""
    grid = {"levels": 2, "base_resolution": 4, "finest_resolution": 8, "log2_table_size": 8}
    head = Head(GridSpec(**grid), GridSpec(**grid, dims=2), hidden=8, hidden_color=8, geometry_features=4, condition_features=8, codes=2)
    params = head.init(jax.random.key(0), jnp.zeros((1, 3, 204)), jnp.zeros(1), jnp.zeros((1, 3)), method=Head.initialize)["params"]
    # Larger than at the start of training, so that frames differ.
    params = jax.tree.map(lambda p: 3.0 * p, params)
    centers = np.linspace(-1, 1, 16)
    ball = np.linalg.norm(np.stack(np.meshgrid(centers, centers, centers, indexing="ij"), -1), axis=-1) < 0.5
    board = ((np.indices((SIZE, SIZE)) // 6).sum(0) % 2 * 255).astype(np.uint8)
    subject = partial_subject(
        size=SIZE,
        intrinsics=(100.0, 100.0, SIZE / 2, SIZE / 2),
        motion_mean=np.zeros((68, 3), np.float32),
        motion_std=np.ones((68, 3), np.float32),
        background=np.repeat(board[..., None], 3, axis=2),
    )
    march = MarchSettings(AABB, 0.05, Lattice(0.05, Lattice.points_for(AABB, 0.05, 50.0)), max_samples=10, budget=10.0)
    config = ConfigDict({"model": {"condition_window": 3}})
    return SubjectRenderer(subject, head, params, jnp.asarray(ball), march, config, None, None)


@pytest.fixture(scope="module")
def drive():
    """Motion, cameras that come nearer from frame to frame, and eyes."""
    rng = np.random.default_rng(0)
    cameras = np.tile(np.eye(4, dtype=np.float32), (FRAMES, 1, 1))
    cameras[:, 2, 3] = np.linspace(3.0, 0.7, FRAMES)
    return rng.normal(size=(FRAMES, 204)).astype(np.float32), cameras, rng.uniform(0, 0.4, FRAMES).astype(np.float32)


@pytest.fixture(scope="module")
def one_by_one(renderer, drive):
    return np.stack(list(renderer.render(*drive, batch=1, single_pass=False)))


def assert_same_picture(found, expected):
    difference = np.abs(np.stack(list(found)).astype(int) - expected)
    assert difference.max() <= 1 and (difference.max(axis=-1) > 0).mean() < 1e-3


def test_frames_come_in_order_and_show_a_head_that_comes_nearer(renderer, one_by_one):
    assert one_by_one.shape == (FRAMES, SIZE, SIZE, 3) and one_by_one.dtype == np.uint8
    head = (np.abs(one_by_one.astype(int) - renderer.subject.background) > 4).any(-1).mean((1, 2))
    assert np.all(np.diff(head) >= 0) and head[0] < 0.5 * head[-1]


@pytest.mark.parametrize(("batch", "single_pass"), [(2, False), (8, False), (2, True), (8, True)])
def test_batches_and_schedules_do_not_show(renderer, drive, one_by_one, batch, single_pass):
    """Also the last batch, which is not full, and a person shorter than one batch."""
    assert_same_picture(renderer.render(*drive, batch=batch, single_pass=single_pass), one_by_one)


def test_a_budget_that_became_too_small_is_raised(renderer, drive, one_by_one, monkeypatch):
    budgets = []
    render = render_heads

    def spy(*args, budget, **named):
        budgets.append(budget)
        return render(*args, budget=budget, **named)

    monkeypatch.setattr(module, "render_heads", spy)
    monkeypatch.setattr(module, "sufficient_budget", lambda samples: samples + 1)
    assert_same_picture(renderer.render(*drive, batch=1, single_pass=True), one_by_one)
    assert len(budgets) > FRAMES and len(set(budgets)) > 1 and budgets[-1] == max(budgets)


def test_another_size_is_rendered_directly(renderer, drive):
    """The same picture in the mean over pixels, but with edges that enlarging would not have."""
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    small, large = (np.stack(list(renderer.render(*drive, background=white, size=size))).astype(int) for size in (SIZE, 2 * SIZE))
    assert large.shape == (FRAMES, 2 * SIZE, 2 * SIZE, 3)
    assert np.abs(large.reshape(FRAMES, SIZE, 2, SIZE, 2, 3).mean((2, 4)) - small).mean() < 4
    assert np.abs(large - small.repeat(2, axis=1).repeat(2, axis=2)).max() > 20


def test_a_background_per_frame_stands_behind_its_frame(renderer, drive):
    backgrounds = np.stack([np.full((SIZE, SIZE, 3), 40 * i, np.uint8) for i in range(FRAMES)])
    frames = np.stack(list(renderer.render(*drive, background=backgrounds, batch=2)))
    # In the last frame the head covers the corner.
    np.testing.assert_array_equal(frames[:-1, 0, 0], backgrounds[:-1, 0, 0])
