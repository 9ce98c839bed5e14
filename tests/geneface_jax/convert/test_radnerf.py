"""Importing the originals' radiance fields: sizes, buffers, everything that can be wrong, and which head belongs to a torso."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.convert.fields import import_head, is_nerf
from geneface_jax.convert.release import import_checkpoint
from geneface_jax.convert.rules import write_work_folder
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import head_fingerprint
from tests.geneface_jax.convert import original_fields as fields
from tests.geneface_jax.convert.originals import checkpoint


def imported(weights, **hparams):
    return import_checkpoint(checkpoint(model=weights, hparams={**fields.HPARAMS, **hparams}))


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, {"blink_channels": 0, "condition_window": 5}),
        ({"blink": 2, "window": 3, "ambient": 3}, {"blink_channels": 2, "condition_window": 3}),
        ({"blink": 4, "window": 3, "ambient": 3}, {"blink_channels": 4}),
    ],
)
def test_a_head_keeps_its_sizes_and_settings(options, sizes):
    result = imported(fields.head(**options), max_updates=777, lr="5e-4")
    model, march = result.config.model, result.config.march
    assert result.stage == result.config.stage == "head" and result.step == 1000
    assert {name: model[name] for name in sizes} == sizes
    assert (model.hidden, model.codes, model.geometry_features) == (fields.HIDDEN, fields.CODES, fields.GEOMETRY)
    assert model.ambient_grid.dims == options.get("ambient", 2) and model.position_grid.kind == "tiled"
    assert march.aabb == (-1, -0.5, -1, 1, 0.5, 1) and march.max_samples == 6 and march.grid_resolution == fields.RESOLUTION
    assert march.step == pytest.approx(2 * np.sqrt(3) / fields.RESOLUTION)
    assert result.config.train.steps == 777 and result.config.source.step == 1000
    hashed = imported(fields.head(**options), grid_type="hashgrid", grid_interpolation_type="smoothstep").config.model.position_grid
    assert (hashed.kind, hashed.interpolation) == ("hash", "smoothstep")


def test_the_occupancy_comes_along_in_our_order(tmp_path):
    write_work_folder(imported(fields.head()), tmp_path / "head")
    occupancy = checkpoints.load(tmp_path / "head").state["occupancy"]
    grid = occupancy["grid"]
    assert grid.shape == (8, 8, 8) and grid[0, 1, 2] == 50.0 and grid[0, 2, 1] != 50.0
    assert grid[5, 4, 4] > 40 > grid[2, 4, 4] > 10
    assert "occupied" not in occupancy, "the bit field is what the density grid says"


def test_a_bit_field_of_its_own_is_kept(tmp_path):
    weights = fields.head()
    weights["density_bitfield"] = np.zeros_like(weights["density_bitfield"])
    result = imported(weights)
    assert not result.state["occupancy"]["occupied"].any()
    assert any("grid is empty" in note for note in result.notes)


def test_super_resolution_comes_along(tmp_path):
    write_work_folder(imported(fields.head(super_resolution=True, blink=2)), tmp_path / "head_sr")
    read = checkpoints.load(tmp_path / "head_sr")
    assert read.config.stage == "head_sr" and read.config.super_resolution.to_dict() == {"size": 16, "features": (4, 3)}
    assert set(read.state["params"]) == {"head", "super_resolution"}
    assert read.state["constants"]["conv_3"]["noise"].shape == (32, 32)


@pytest.mark.parametrize(("jaw", "aware"), [(False, False), (False, True), (True, True)])
def test_a_torso_tells_its_head(jaw, aware):
    head = fields.head()
    weights = fields.torso(head, jaw=jaw, head_aware=aware)
    result = imported(weights)
    assert result.stage == "torso" and (result.config.model.condition, result.config.model.head_aware) == ("jaw" if jaw else "pose", aware)
    own = imported(head)
    assert result.config.head.fingerprint == head_fingerprint(own.state["params"])
    carried = import_head(checkpoint(model=weights, hparams=fields.HPARAMS))
    assert head_fingerprint(carried.state["params"]) == result.config.head.fingerprint
    other = imported(fields.torso(fields.head(seed=9), jaw=jaw, head_aware=aware))
    assert other.config.head.fingerprint != result.config.head.fingerprint


def test_a_fingerprint_survives_half_precision_and_another_blink_size():
    params = imported(fields.head(blink=2)).state["params"]
    half = {name: {k: _half(v) for k, v in part.items()} if isinstance(part, dict) else part for name, part in params.items()}
    assert head_fingerprint(half) == head_fingerprint(params)
    weights = fields.head(blink=2)
    weights |= {"blink_encoder.1.weight": np.ones((4, 4), np.float32), "blink_encoder.1.bias": np.ones(4, np.float32)}
    assert head_fingerprint(imported(weights).state["params"]) == head_fingerprint(params)


def _half(value):
    return {name: _half(item) for name, item in value.items()} if isinstance(value, dict) else np.float16(value).astype(np.float32)


def test_every_wrong_key_is_named_and_nothing_is_imported():
    broken = fields.head() | {"extra.weight": np.ones((2, 2)), "sigma_net.net.1.weight": np.ones((3, 7))}
    del broken["cond_att_net.attentionConvNet.2.bias"]
    with pytest.raises(InputError) as caught:
        imported(broken)
    for part in ("extra.weight is unknown", "sigma_net.net.1.weight is 3x7", "condition_encoder/attention/conv_1/bias is missing"):
        assert part in str(caught.value)
    for name in ("individual_embeddings", "density_bitfield"):
        without = fields.head()
        del without[name]
        with pytest.raises(InputError, match=f"{name} is missing"):
            imported(without)
    torso = fields.torso(fields.head())
    torso["torso_deform_net.net.2.weight"] = np.ones((3, 64))
    with pytest.raises(InputError, match="torso_deform_net.net.2.weight is 3x64"):
        imported(torso)
    enlarging = fields.head(super_resolution=True)
    enlarging["sr_net.block0.conv1.weight"] = np.ones((4, 5, 3, 3))
    with pytest.raises(InputError, match="sr_net.block0.conv1.weight is 4x5x3x3"):
        imported(enlarging)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"grid_type": "densegrid"}, "grid_type 'densegrid'"),
        ({"max_steps": 1024}, "max_steps 1024"),
        ({"camera_scale": 3.0}, "camera_scale"),
        ({"camera_offset": [0, 0.1, 0]}, "camera_offset"),
    ],
)
def test_settings_that_would_change_the_picture_are_refused(hparams, message):
    with pytest.raises(InputError, match=message):
        imported(fields.head(), **hparams)


def test_a_head_that_hears_audio_is_refused():
    with pytest.raises(InputError, match="cond_prenet.encoder_conv.0.weight is 4x44x3"):
        imported(fields.head(channels=44))


def test_a_vanilla_nerf_is_told_by_its_weights():
    with pytest.raises(InputError, match=r"vanilla NeRF head.*missing"):
        imported({"model_coarse.density_linears.0.weight": np.ones((8, 71), np.float32)})
    assert is_nerf({"model_coarse.density_linears.0.weight": np.ones(1)})
    with pytest.raises(InputError, match="remove --audio2motion"):
        import_checkpoint(checkpoint(model=fields.head()), object())
