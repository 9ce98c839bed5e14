"""The torso where it can be seen: the picture of the whole torso to half a level, and the background everywhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels.grid_encoding import GridSpec

from geneface_jax.models.torso import Torso
from geneface_jax.rendering import field as module
from geneface_jax.rendering.field import HIDDEN, render_torso, render_visible_torso

SIZE = 64
GRID = GridSpec(dims=2, levels=2, features=2, base_resolution=4, finest_resolution=32, log2_table_size=8, kind="hash")


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "head-aware"])
def torso(request):
    model = Torso(GRID, codes=3, code_features=4, hidden_deform=16, hidden=16, head_aware=request.param)
    params = model.init(jax.random.key(1), jnp.zeros((4, 2)), method=Torso.initialize)["params"]
    return model, jax.tree.map(lambda p: 3.0 * p, params)


@pytest.fixture(scope="module")
def scene():
    """(background [N, 3], head [N, 4] premultiplied: an opaque disc with a soft edge)."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:SIZE, :SIZE]
    alpha = np.clip((20.0 - np.hypot(row - 24, column - 32)) / 4.0, 0.0, 1.0).reshape(-1, 1).astype(np.float32)
    color = rng.random((SIZE * SIZE, 3), dtype=np.float32)
    background = rng.random((SIZE * SIZE, 3), dtype=np.float32)
    return jnp.asarray(background), jnp.asarray(np.concatenate([alpha * color, alpha], axis=1))


CONDITION = jnp.asarray(np.linspace(-0.2, 0.3, 6), jnp.float32)


def composite(behind, head):
    return np.asarray(head[:, :3] + (1.0 - head[:, 3:]) * behind)


def pictures(torso, scene, pixels, head=None):
    model, params = torso
    background, over = scene
    over = over if head is None else head
    full = render_torso(model, params, CONDITION, background, size=(SIZE, SIZE), head=over if model.head_aware else None)
    seen = render_visible_torso(model, params, CONDITION, background, jnp.asarray(pixels, jnp.int32), over, size=(SIZE, SIZE))
    return full, seen, over


def test_under_the_head_the_picture_is_that_of_the_whole_torso(torso, scene):
    (full, full_alpha), (seen, seen_alpha), head = pictures(torso, scene, np.arange(SIZE * SIZE))
    assert 0.05 < float(full_alpha.mean()) < 0.95 and float(full_alpha.std()) > 0.05
    assert np.abs(composite(seen, head) - composite(full, head)).max() < 0.5 / 255
    hidden = np.asarray(head[:, 3]) >= HIDDEN
    assert 0.05 < hidden.mean() < 0.5
    np.testing.assert_allclose(seen[~hidden], full[~hidden], atol=1e-5)
    np.testing.assert_allclose(seen_alpha[~hidden], full_alpha[~hidden], atol=1e-5)
    np.testing.assert_array_equal(seen[hidden], scene[0][hidden])
    assert not np.asarray(seen_alpha)[hidden].any(), "not evaluated"


@pytest.mark.parametrize("count", [1, module.TORSO_BLOCK - 1, module.TORSO_BLOCK, 3000])
def test_other_pixels_show_the_background(torso, scene, count):
    chosen = np.sort(np.random.default_rng(1).permutation(SIZE * SIZE)[:count])
    nothing = jnp.zeros((SIZE * SIZE, 4))
    (full, full_alpha), (seen, seen_alpha), _ = pictures(torso, scene, chosen, nothing)
    inside = np.isin(np.arange(SIZE * SIZE), chosen)
    np.testing.assert_allclose(seen[inside], full[inside], atol=1e-5)
    np.testing.assert_allclose(seen_alpha[inside], full_alpha[inside], atol=1e-5)
    np.testing.assert_array_equal(seen[~inside], scene[0][~inside])
    assert not np.asarray(seen_alpha)[~inside].any() and np.asarray(full_alpha)[~inside].any()


def test_a_torso_that_is_nowhere_and_one_behind_a_head_that_is_everywhere(torso, scene):
    everywhere = jnp.ones((SIZE * SIZE, 4))
    for pixels, head in ((np.zeros(0, int), None), (np.arange(SIZE * SIZE), everywhere)):
        _, (seen, alpha), _ = pictures(torso, scene, pixels, head)
        np.testing.assert_array_equal(seen, scene[0])
        assert not np.asarray(alpha).any()
