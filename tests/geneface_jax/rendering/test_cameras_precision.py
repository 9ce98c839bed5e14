"""Rays, poses, samples and the colors along a ray keep full float32 on every backend: seen in the lowered programs, gradients included."""

import jax
import jax.numpy as jnp
import pytest

from geneface_jax.io import configs
from geneface_jax.models.head import Head
from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import camera_angles, camera_rays, pixel_rays, pose_vector, scene_pose
from geneface_jax.rendering.field import MarchSettings, head_samples, render_groups, render_heads, render_torso
from geneface_jax.rendering.nerf import Drive, RaySettings, composite, person_pixels
from geneface_jax.training.field_base import corrected, rotation, without_gauge
from tests.geneface_jax.rendering.test_field_frames import RAYS, SETTINGS, field
from tests.lowered import products

POSE, INTRINSICS, PIXELS = jnp.eye(4)[None], jnp.ones(4), jnp.zeros((1, 6), jnp.int32)
COLORS = {"raw": jnp.ones((6, 5, 4)), "depths": jnp.ones((6, 5)), "directions": jnp.ones((6, 3)), "background": jnp.ones((6, 3))}
MARCHED = jnp.ones((1, RAYS, 3)), jnp.ones((1, RAYS, 3)), jnp.zeros((1, RAYS)), jnp.ones((16, 16, 16), bool)

GEOMETRY = {
    # function of one array, the array, number of products forth and back (0: made of sums)
    "scene_pose": (scene_pose, POSE, 0),
    "pose_vector": (pose_vector, POSE, 0),
    "camera_angles": (camera_angles, POSE, 0),
    "pixel_rays": (lambda pose: pixel_rays(pose, INTRINSICS, PIXELS, PIXELS)[1], POSE, 2),
    "camera_rays": (lambda pose: camera_rays(pose[0], INTRINSICS, PIXELS[0], PIXELS[0], 0.5)[1], POSE, 2),
    "rotation": (rotation, jnp.ones((2, 3)), 3),
    "corrected": (lambda corrections: corrected(POSE, corrections), jnp.ones((1, 6)), 5),
    "without_gauge": (lambda corrections: without_gauge(corrections, jnp.ones((4, 7))), jnp.ones((4, 6)), 4),
    "composite": (lambda raw: composite(**{**COLORS, "raw": raw}).rgb, COLORS["raw"], 2),
    "march and composite": (lambda o: render_groups(field, o, *MARCHED[1:], SETTINGS).composite.rgb, MARCHED[0], 0),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_is_exact(name):
    function, argument, expected = GEOMETRY[name]
    found = products(jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(function(x))))).lower(argument))
    assert all(product.exact for product in found) and len(found) >= expected
    assert bool(found) == bool(expected), "update the table"


def reduced(lowered):
    """Files that ask for a product in reduced precision."""
    found = products(lowered)
    assert any(product.exact for product in found)
    return {product.file for product in found if not product.exact}


def head():
    config = configs.load("head:demo", {"model.codes": 2, "model.position_grid.log2_table_size": 8, "march.grid_resolution": 16})
    return Head.from_config(config.model), MarchSettings.from_config(config.march)


@pytest.mark.parametrize("budget", [None, 2048])
def test_frames_of_the_head_multiply_in_reduced_precision_in_networks_alone(budget):
    model, settings = head()
    window, eyes, occupied = jnp.zeros((2, 5, 204)), jnp.zeros(2), jnp.ones((16, 16, 16), bool)
    params = jax.eval_shape(lambda key: model.init(key, window[:1], eyes[:1], jnp.zeros((8, 3)), method=Head.initialize), jax.random.key(0))
    poses = jnp.tile(POSE, (2, 1, 1))
    found = render_heads.lower(
        model, params["params"], occupied, poses, INTRINSICS, window, eyes, 1e-3, settings=settings, size=(8, 8), budget=budget
    )
    assert reduced(found) == {"geneface_jax/models/head.py", "geneface_jax/models/layers.py"}
    counted = products(head_samples.lower(occupied, poses, INTRINSICS, settings=settings, size=(8, 8)))
    assert counted and all(product.exact for product in counted)


def test_pixels_of_the_vanilla_nerf_multiply_in_reduced_precision_in_networks_alone():
    overrides = {"rays.near": 0.5, "rays.far": 1.0}
    settings = RaySettings.from_config(configs.load("nerf_head:demo", overrides).rays)
    networks = NerfHead.from_config(configs.load("nerf_head:demo").model), NerfTorso.from_config(configs.load("nerf_torso:demo").model)
    windows = jnp.zeros((5, 204)), jnp.zeros((8, 204))
    params = tuple(
        jax.eval_shape(lambda key, n=network, w=window: n.init(key, w, method="initialize"), jax.random.key(0))["params"]
        for network, window in zip(networks, windows, strict=True)
    )
    drive = Drive(*windows, POSE[0], POSE[0], POSE[0], jnp.bool_(True))
    colors = jnp.zeros((6, 3))
    found = person_pixels.lower(
        *networks, params, drive, INTRINSICS, jnp.zeros((6, 2), jnp.int32), colors, colors, head_settings=settings, torso_settings=settings
    )
    assert all(file.startswith("geneface_jax/models/") for file in reduced(found))


def test_the_torso_has_products_in_networks_alone():
    model = Torso.from_config(configs.load("torso:demo", {"model.codes": 2}).model)
    params = jax.eval_shape(lambda key: model.init(key, jnp.zeros((8, 2)), method=Torso.initialize), jax.random.key(0))["params"]
    found = products(render_torso.lower(model, params, jnp.zeros(6), jnp.zeros((64, 3)), size=(8, 8), head=None))
    assert {product.file for product in found} == {"geneface_jax/models/layers.py"}
