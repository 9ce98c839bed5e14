"""The vanilla NeRF networks: sizes of the originals, and effects of the condition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.io import configs
from geneface_jax.models.layers import JointDense
from geneface_jax.models.nerf import NerfHead, NerfTorso, TwoFields


def parameters(network, window):
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def test_reference_sizes_are_the_originals():
    # The outer two taps of the head's four convolutions only ever see padding: they are dense layers here.
    padding = 2 * (204 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    assert parameters(NerfHead.from_config(configs.from_file("nerf_head:reference").model), jnp.zeros((5, 204))) + padding == 1_244_931
    model = configs.from_file("nerf_torso:reference").model
    model.condition_frames = 16
    assert parameters(NerfTorso.from_config(model), jnp.zeros((8, 16, 29))) == 1_325_565


def test_joint_dense_is_dense_on_the_concatenation():
    rng = np.random.default_rng(0)
    sample, ray, frame = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 6, 3), (4, 1, 5), (1, 1, 2)))
    layer = JointDense(7)
    variables = jax.jit(layer.init)(jax.random.key(0), [sample, ray, frame])
    concatenated = jnp.concatenate([sample, jnp.broadcast_to(ray, (4, 6, 5)), jnp.broadcast_to(frame, (4, 6, 2))], axis=-1)
    expected = concatenated @ variables["params"]["kernel"] + variables["params"]["bias"]
    found = jax.jit(layer.apply)(variables, [sample, ray, frame])
    assert found.shape == (4, 6, 7)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=1e-5)
    bound = 1 / np.sqrt(10)
    assert 0.5 * bound < np.abs(variables["params"]["kernel"]).max() <= bound


@pytest.fixture(scope="module")
def head():
    config = configs.from_file("nerf_head:demo").model
    config.update({"hidden": 8, "layers": 3, "skip": 1, "color_hidden": 8})
    network = NerfHead.from_config(config)
    window = jax.random.normal(jax.random.key(1), (5, 204))
    return network, jax.jit(lambda: network.init(jax.random.key(0), window, method=NerfHead.initialize))(), window


def test_without_attention_the_middle_frame_counts_alone(head):
    network, variables, window = head

    @jax.jit
    def condition(window, attend):
        return network.apply(variables, window, attend, method=NerfHead.condition)

    others = window.at[jnp.array([0, 1, 3, 4])].add(1.0)
    np.testing.assert_array_equal(np.asarray(condition(window, False)), np.asarray(condition(others, False)))
    assert np.abs(np.asarray(condition(window, True)) - np.asarray(condition(others, True))).max() > 1e-4
    assert condition(window, True).shape == (1, 64)


def test_the_condition_changes_density_and_color(head):
    network, variables, _ = head
    points, view = jax.random.normal(jax.random.key(2), (3, 4, 3)), jnp.ones((3, 3)) / np.sqrt(3)
    query = jax.jit(lambda c: network.apply(variables, points, view, jnp.full((1, 64), c), method=TwoFields.query_fine))
    raw = [np.asarray(query(c)) for c in (0.0, 1.0)]
    assert raw[0].shape == (3, 4, 4) and (raw[0] != raw[1]).any(axis=(0, 1)).all()


def test_every_pixel_of_a_torso_has_a_condition_of_its_own():
    network = NerfTorso.from_config(configs.from_file("nerf_torso:demo").model)
    window, zeros, colors = jnp.ones((8, 204)), jnp.zeros(3), jnp.eye(3)

    @jax.jit
    def begin():
        variables = network.init(jax.random.key(0), window, method=NerfTorso.initialize)
        return network.apply(variables, window, zeros, zeros, colors, method=NerfTorso.condition)

    condition = np.asarray(begin())
    assert condition.shape == (3, 64 + 39 + 39 + 16)
    assert (condition[0, :142] == condition[1, :142]).all() and (condition[0, 142:] != condition[1, 142:]).any()
