"""Whole checkpoints of the original radiance fields (RAD-NeRF heads and torsos, with and without super-resolution) -> our work folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.occupancy import from_morton_order, occupied, unpack_bits
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.convert import hparams, radnerf
from geneface_jax.convert.imported import Imported
from geneface_jax.convert.match import match
from geneface_jax.convert.speech_checkpoint import KIND
from geneface_jax.convert.super_resolution import super_resolution, super_resolution_sizes
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.data.compatibility import record_kind
from geneface_jax.io import configs
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.build import build_head, build_torso
from geneface_jax.models.head import Head
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import SCALE

MOTION = 204
"""Numbers a landmark condition has for a frame."""

_MARK = "sigma_net.net.0.weight"
_TORSO_MARK = "torso_deform_net.net.0.weight"
_SR_PREFIX = "sr_net."
_GRIDS = {"tiledgrid": "tiled", "hashgrid": "hash"}

# What the sizes of a network are read from: without one of these nothing else can be compared.
_HEAD_SIZES = (
    "sigma_net.net.0.weight",
    "sigma_net.net.2.weight",
    "color_net.net.0.weight",
    "ambient_net.net.2.weight",
    "cond_prenet.encoder_fc1.2.weight",
    "individual_embeddings",
    "density_grid",
    "density_bitfield",
    "aabb_infer",
)
_TORSO_SIZES = ("torso_individual_codes", "torso_deform_net.net.0.weight", "torso_canonicial_net.net.0.weight")


def is_field(network: Mapping[str, np.ndarray]) -> bool:
    """Whether a state_dict is that of a RAD-NeRF head or torso."""
    return _MARK in network or _TORSO_MARK in network


def has_torso(checkpoint: TorchCheckpoint) -> bool:
    """Whether it is a torso's checkpoint, which holds its head as well."""
    return _TORSO_MARK in checkpoint.networks.get("model", {})


def import_head(checkpoint: TorchCheckpoint) -> Imported:
    """Converts the head of a head's or a torso's checkpoint: networks, density grid, bit field and, if it has one, super-resolution.

    Raises:
      InputError: keys that are unknown, missing or mis-shaped (all of them are named), or settings that our renderer does not have.
    """
    weights = checkpoint.networks["model"]
    _require(checkpoint, weights, _HEAD_SIZES, "head")
    with_sr = any(key.startswith(_SR_PREFIX) for key in weights)
    stage = "head_sr" if with_sr else "head"
    config = configs.load(f"{stage}:reference")
    frames = int(number(checkpoint.hparams, "cond_win_size") or 1)
    with config.unlocked():
        record_kind(config, KIND)
        config.model.update({**radnerf.head_sizes(weights), "condition_frames": frames})
        _apply_grids(config.model, checkpoint)
        _apply_march(config.march, checkpoint, weights)
        hparams.apply(config, checkpoint)
    model = build_head(config.model)
    window = jnp.zeros((1, config.model.condition_window, *((frames,) if frames > 1 else ()), MOTION))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), window, jnp.zeros(1), jnp.zeros((1, 3)), method=Head.initialise))
    variables, problems = match(radnerf.head_part(weights), lambda part: radnerf.head(part, frames), expected)
    params: dict[str, Any] = variables.get("params", {})
    state: dict[str, Any] = {"params": params, "occupancy": _occupancy(weights, config.march.density_threshold)}
    if with_sr:
        variables, more = _super_resolution(config, weights)
        problems += more
        state |= {"params": {"head": params, "super_resolution": variables.get("params", {})}, "constants": variables.get("constants", {})}
    _refuse(checkpoint, problems, "head")
    title = "RAD-NeRF head with super-resolution" if with_sr else "RAD-NeRF head"
    return Imported(title, stage, checkpoint.step, config, state, (*hparams.notes(checkpoint), *_head_notes(weights)))


def import_torso(checkpoint: TorchCheckpoint) -> Imported:
    """Converts the torso of a torso's checkpoint. Raises as `import_head`."""
    weights = checkpoint.networks["model"]
    _require(checkpoint, weights, _TORSO_SIZES, "torso")
    stage = "torso_sr" if any(key.startswith(_SR_PREFIX) for key in weights) else "torso"
    config = configs.load(f"{stage}:reference")
    with config.unlocked():
        record_kind(config, KIND)
        config.model.update(radnerf.torso_sizes(weights))
        shrink = number(checkpoint.hparams, "torso_shrink")
        config.model.shrink = config.model.shrink if shrink is None else shrink
        hparams.apply(config, checkpoint)
    model = build_torso(config.model)
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2)), method=Torso.initialise))
    variables, problems = match(radnerf.torso_part(weights), radnerf.torso, expected)
    _refuse(checkpoint, problems, "torso")
    head = import_head(checkpoint)
    with config.unlocked():
        config.head = ConfigDict({"step": head.step, "fingerprint": head_fingerprint(head.state["params"])})
    title = "RAD-NeRF torso for super-resolution" if stage == "torso_sr" else "RAD-NeRF torso"
    return Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(hparams.notes(checkpoint)))


def _super_resolution(config: ConfigDict, weights: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], list[str]]:
    """Converts the network that enlarges, writes its sizes to `config`; returns as `match`."""
    # Their fixed filters are code here.
    network = {key: value for key, value in weights.items() if key.startswith(_SR_PREFIX) and not key.endswith("resample_filter")}
    with config.unlocked():
        config.super_resolution = ConfigDict(super_resolution_sizes(network))
    module = SuperResolution(**config.super_resolution)
    picture = jnp.zeros((1, module.size, module.size, 3))
    return match(network, super_resolution, jax.eval_shape(lambda: module.init(jax.random.key(0), picture)))


def _apply_grids(model: ConfigDict, checkpoint: TorchCheckpoint) -> None:
    """The grids' kind and resolution, which a table does not tell."""
    settings = checkpoint.hparams
    kind = str(settings.get("grid_type", "tiledgrid"))
    if kind not in _GRIDS:
        raise InputError(f"the config.yaml beside {checkpoint.path} has grid_type {kind!r}: known are {' and '.join(_GRIDS)}.")
    common: dict[str, Any] = {"kind": _GRIDS[kind], "interpolation": str(settings.get("grid_interpolation_type", "linear"))}
    size = number(settings, "log2_hashmap_size")
    if size is not None:
        common["log2_table_size"] = int(size)
    bound = number(settings, "bound")
    model.bound = float(bound) if bound is not None else model.bound
    for name, extent in (("position_grid", model.bound), ("ambient_grid", 1.0)):
        model[name].update(common)
        finest = number(settings, "desired_resolution")
        model[name].finest_resolution = int((model[name].finest_resolution if finest is None else finest) * extent)


def _apply_march(march: ConfigDict, checkpoint: TorchCheckpoint, weights: Mapping[str, np.ndarray]) -> None:
    """Box, step and budget of a ray. The original's step is constant as long as it takes at most as many steps as the grid has cells."""
    cells = weights["density_grid"].shape[-1]
    resolution = round(cells ** (1 / 3))
    settings = checkpoint.hparams
    steps = int(number(settings, "max_steps") or march.max_samples)
    scale = number(settings, "camera_scale")
    offset = settings.get("camera_offset") or [0, 0, 0]
    where = f"the config.yaml beside {checkpoint.path}"
    if resolution**3 != cells or weights["density_grid"].size != cells:
        raise InputError(f"{checkpoint.path} has a density grid of {weights['density_grid'].shape}: only one cube is supported.")
    if steps > resolution:
        raise InputError(f"{where} has max_steps {steps}, more than the {resolution} cells of its grid: such steps are not supported.")
    if (scale is not None and scale != SCALE) or any(float(value) for value in offset):
        raise InputError(f"{where} has another camera_scale than {SCALE:g}, or a camera_offset: such scenes are not supported.")
    march.aabb = tuple(float(value) for value in weights["aabb_infer"])
    march.grid_resolution = resolution
    march.step = 2.0 * math.sqrt(3.0) / resolution
    march.max_samples = steps
    march.budget = float(steps)
    for theirs, ours in (("min_near", "min_near"), ("density_thresh", "density_threshold")):
        value = number(settings, theirs)
        if value is not None:
            march[ours] = value


def _occupancy(weights: Mapping[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
    """Density grid [R, R, R] in our order. The cells that the original visits follow from it as a rule; where they do not, `occupied` holds
    them."""
    morton = jnp.asarray(weights["density_grid"], jnp.float32).reshape(1, -1)
    bits = unpack_bits(jnp.asarray(weights["density_bitfield"], jnp.uint8).reshape(-1)).reshape(1, -1)
    if bits.size != morton.size:
        raise InputError(f"the bit field has {bits.size} cells and the density grid {morton.size}: the checkpoint is damaged.")
    grid, visited = from_morton_order(morton)[0], from_morton_order(bits)[0]
    occupancy = {"grid": np.asarray(grid)}
    if (occupied(grid, limit) != visited).any():
        occupancy["occupied"] = np.asarray(visited)
    return occupancy


def _head_notes(weights: Mapping[str, np.ndarray]) -> list[str]:
    if np.any(weights["density_bitfield"]):
        return []
    return ["its occupancy grid is empty, so its pictures will be too: that training collapsed; take another step or train again."]


def _require(checkpoint: TorchCheckpoint, weights: Mapping[str, np.ndarray], names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if name not in weights or not np.size(weights[name])]
    _refuse(checkpoint, [f"{name} is missing" for name in missing], what)


def _refuse(checkpoint: TorchCheckpoint, problems: list[str], what: str) -> None:
    if problems:
        raise InputError(f"{checkpoint.path} does not fit our {what}, so nothing was imported: {'; '.join(problems)}.")
