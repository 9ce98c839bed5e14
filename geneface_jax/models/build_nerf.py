"""The networks of the vanilla NeRF from their configs."""

from __future__ import annotations

from ml_collections import ConfigDict

from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.models.nerf_field import NerfField


def build_nerf_head(model: ConfigDict) -> NerfHead:
    """The head network of `config.model` (stage "nerf_head")."""
    return NerfHead(_field(model), _field(model), model.condition_features, model.condition_frames)


def build_nerf_torso(model: ConfigDict) -> NerfTorso:
    """The torso network of `config.model` (stage "nerf_torso")."""
    return NerfTorso(_field(model), _field(model), model.condition_features, model.condition_frames)


def _field(model: ConfigDict) -> NerfField:
    return NerfField(
        hidden=model.hidden,
        layers=model.layers,
        skip=model.skip,
        color_hidden=model.color_hidden,
        color_layers=model.color_layers,
        octaves=model.octaves,
        view_octaves=model.view_octaves,
        density_start=model.density_start,
    )
