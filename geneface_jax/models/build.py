"""Networks from their configs: maps config fields to the attributes of the head, torso and vanilla NeRF modules."""

from __future__ import annotations

from geneface_kernels.grid_encoding import GridSpec
from ml_collections import ConfigDict

from geneface_jax.models.head import Head
from geneface_jax.models.nerf import NerfField, NerfHead, NerfTorso
from geneface_jax.models.torso import Torso

# ----------------------------------------------------------------------------------------------------
# Networks from their configs: the only place that maps config fields to module attributes of the fields.


def grid_spec(grid: ConfigDict) -> GridSpec:
    """A `GridSpec` from a config section with the same field names."""
    return GridSpec(
        dims=grid.dims,
        levels=grid.levels,
        features=grid.features,
        base_resolution=grid.base_resolution,
        finest_resolution=grid.finest_resolution,
        log2_table_size=grid.log2_table_size,
        kind=grid.kind,
        interpolation=grid.get("interpolation", "linear"),
        align_corners=grid.get("align_corners", False),
    )


def build_head(model: ConfigDict) -> Head:
    """The head network of `config.model` (stage "head")."""
    return Head(
        position_grid=grid_spec(model.position_grid),
        ambient_grid=grid_spec(model.ambient_grid),
        hidden=model.hidden,
        hidden_color=model.hidden_color,
        geometry_features=model.geometry_features,
        condition_features=model.condition_features,
        blink_channels=model.blink_channels,
        codes=model.codes,
        code_features=model.code_features,
        bound=model.bound,
        # Configs of earlier checkpoints don't have these two.
        condition_frames=model.get("condition_frames", 1),
        attention=model.get("attention", True),
    )


def build_torso(model: ConfigDict) -> Torso:
    """The torso network of `config.model` (stage "torso")."""
    return Torso(
        grid=grid_spec(model.grid),
        codes=model.codes,
        code_features=model.code_features,
        hidden_deform=model.hidden_deform,
        hidden=model.hidden,
        shrink=model.shrink,
        # Configs of earlier checkpoints don't have these two.
        condition=model.get("condition", "pose"),
        head_aware=model.get("head_aware", False),
    )


# ----------------------------------------------------------------------------------------------------
# The networks of the vanilla NeRF from their configs.


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
