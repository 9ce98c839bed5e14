"""Field checkpoints of GeneFace and GeneFace++ (RAD-NeRF head, torso, super-resolution; vanilla NeRF) to our work folders."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.occupancy import from_morton_order, occupied, unpack_bits
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.convert import rules
from geneface_jax.convert.speech import ORIGINAL_FEATURES
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.data.subject import record_feature_types
from geneface_jax.io import configs
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import SCALE

# -------- State dicts of RADNeRF and RADNeRFTorso (GeneFace and GeneFace++) -> our variables

HEAD_BUFFERS = ("aabb_train", "aabb_infer", "density_grid", "density_bitfield", "step_counter", "lambda_ambient")
"""Tensors of a head's state_dict that are not parameters of the network."""

TORSO_BUFFERS = ("density_grid_torso",)
"""Tensors of a torso's state_dict that are not parameters of the network."""

_TORSO_PARTS = ("torso_individual_codes", "torso_embedder.", "torso_deform_net.", "torso_canonicial_net.", "head_color_weights_encoder.")
"""Prefixes of the torso's own names; a torso's state_dict also contains its head ("canonicial" is the original's spelling)."""


def condition_rules(target: str = "", frames: int = 1) -> tuple[list[rules.Rule], dict[str, str]]:
    """(rules, values) for `rules.convert` of the condition encoder under the path `target` (ending in "/")."""
    layer_rules = [
        *rules.frame_encoder("cond_prenet", f"{target}frame_encoder", frames),
        rules.Rule(r"blink_encoder\.(\d)", "dense", rf"{target}blink_\1"),
        *rules.window_attention("cond_att_net", f"{target}attention"),
    ]
    return layer_rules, {"blink_embedding.weight": f"{target}blink_embedding"}


def convert_head(weights: rules.Weights, frames: int = 1) -> dict[str, Any]:
    """RADNeRF -> {"params"} of `models.head.Head`.

    Args:
      weights: the original's names -> arrays; buffers and the weights of torso and super-resolution are ignored.
      frames: `cond_win_size`.
    """
    layer_rules, values = condition_rules("condition_encoder/", frames)
    layer_rules += [rules.Rule(r"(ambient|sigma|color)_net\.net\.(\d)", "dense", r"\1_net/dense_\2")]
    values |= {
        "individual_embeddings": "frame_codes",
        "position_embedder.embeddings": "position_encoder/table",
        "ambient_embedder.embeddings": "ambient_encoder/table",
    }
    return {"params": rules.convert(head_part(weights), layer_rules, values)["params"]}


def convert_torso(weights: rules.Weights) -> dict[str, Any]:
    """RADNeRFTorso or RADNeRFTorsowithSR -> {"params"} of `models.torso.Torso`; the head's tensors are ignored."""
    layer_rules = [
        rules.Rule(r"torso_deform_net\.net\.(\d)", "dense", r"deform_net/dense_\1"),
        rules.Rule(r"torso_canonicial_net\.net\.(\d)", "dense", r"canonical_net/dense_\1"),
        *(rules.Rule(rf"head_color_weights_encoder\.{2 * i}", "dense", f"head_encoder/dense_{i}") for i in range(3)),
    ]
    values = {"torso_individual_codes": "frame_codes", "torso_embedder.embeddings": "encoder/table"}
    return {"params": rules.convert(torso_part(weights), layer_rules, values)["params"]}


def head_part(weights: rules.Weights) -> dict[str, np.ndarray]:
    """The head's parameters in a state_dict of a head or a torso (which contains its head)."""
    return {
        key: value
        for key, value in weights.items()
        if key not in HEAD_BUFFERS + TORSO_BUFFERS and not key.endswith(".offsets") and not key.startswith((*_TORSO_PARTS, "sr_net."))
    }


def torso_part(weights: rules.Weights) -> dict[str, np.ndarray]:
    """The torso's own parameters in a state_dict."""
    return {key: value for key, value in weights.items() if key.startswith(_TORSO_PARTS) and not key.endswith(".offsets")}


def head_sizes(weights: rules.Weights) -> dict[str, Any]:
    """Sizes of a head from its weights, as changes of `config.model` of configs/head.py:reference.

    The grids' finest resolution can't be inferred from the table; the reference's is that of every published config.
    """
    blink = weights.get("blink_encoder.1.weight")
    attention = weights.get("cond_att_net.attentionNet.0.weight")
    geometry = len(weights["sigma_net.net.2.weight"]) - 1
    return {
        "hidden": len(weights["sigma_net.net.0.weight"]),
        "hidden_color": len(weights["color_net.net.0.weight"]),
        "geometry_features": geometry,
        "condition_features": len(weights["cond_prenet.encoder_fc1.2.weight"]),
        "blink_channels": 0 if blink is None else len(blink),
        "condition_window": 1 if attention is None else len(attention),
        "attention": attention is not None,
        "codes": len(weights["individual_embeddings"]),
        "code_features": weights["individual_embeddings"].shape[1],
        "ambient_grid": {"dims": len(weights["ambient_net.net.2.weight"])},
    }


def torso_sizes(weights: rules.Weights) -> dict[str, Any]:
    """Sizes of a torso, as `head_sizes`. The input width tells the condition: jaw (GeneFace++ with super-resolution) or head pose."""
    codes, code_features = weights["torso_individual_codes"].shape
    inputs = weights["torso_deform_net.net.0.weight"].shape[1]
    head_aware = "head_color_weights_encoder.0.weight" in weights
    condition_width = inputs - _ENCODED_COORDINATES - code_features - (_HEAD_FEATURES if head_aware else 0)
    return {
        "codes": codes,
        "code_features": code_features,
        "hidden_deform": len(weights["torso_deform_net.net.0.weight"]),
        "hidden": len(weights["torso_canonicial_net.net.0.weight"]),
        "condition": "pose" if condition_width == _ENCODED_POSE else "jaw",
        "head_aware": head_aware,
    }


_ENCODED_COORDINATES, _ENCODED_POSE, _HEAD_FEATURES = 42, 54, 16
"""Widths of a torso's inputs: frequency encodings of 2 coordinates (10 octaves) and 6 pose numbers (4 octaves), encoded head."""

# -------- GeneFace++'s super-resolution network

_LAYERS = {
    "block0.conv0": "conv_0",
    "block0.conv1": "conv_1",
    "block0.torgb": "rgb_0",
    "block1.conv0": "conv_2",
    "block1.conv1": "conv_3",
    "block1.torgb": "rgb_1",
}


def convert_super_resolution(weights: rules.Weights, prefix: str = "sr_net.") -> dict[str, Any]:
    """Superresolution -> {"params", "constants"} of `models.super_resolution.SuperResolution`; fixed filters are ignored."""
    variables: dict[str, Any] = {"params": {}, "constants": {}}
    for key, value in weights.items():
        name = key.removeprefix(prefix)
        if name.endswith("resample_filter") or not key.startswith(prefix):
            continue
        layer, leaf = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
        value, target = np.asarray(value, np.float32), _LAYERS[layer]
        if leaf == "noise_const":
            rules.put(variables["constants"], f"{target}/noise", value)
        elif leaf == "weight":
            rules.put(variables["params"], f"{target}/kernel", value.transpose(2, 3, 1, 0))
        elif leaf == "affine.weight":
            rules.put(variables["params"], f"{target}/style/kernel", value.T)
        elif leaf == "affine.bias":
            rules.put(variables["params"], f"{target}/style/bias", value)
        else:
            rules.put(variables["params"], f"{target}/{leaf}", value)
    return variables


def super_resolution_sizes(weights: rules.Weights, prefix: str = "sr_net.") -> dict[str, Any]:
    """Attributes of `models.super_resolution.SuperResolution` from the weights; the published sizes for missing weights."""

    def length(name: str, published: int) -> int:
        value = weights.get(f"{prefix}{name}")
        return published if value is None or not np.ndim(value) else len(value)

    small, large = length("block0.conv0.bias", 128), length("block1.conv0.bias", 64)
    return {"size": length("block0.conv0.noise_const", 256), "features": (small, large)}


# -------- Checkpoints of RAD-NeRF heads and torsos, with and without super-resolution -> imported checkpoints

MOTION_CHANNELS = 204
"""Channels of a landmark condition: 68 landmarks, 3 coordinates."""

_HEAD_KEY = "sigma_net.net.0.weight"
_TORSO_KEY = "torso_deform_net.net.0.weight"
_SR_PREFIX = "sr_net."
_GRIDS = {"tiledgrid": "tiled", "hashgrid": "hash"}

# Weights that the sizes are inferred from; without them no comparison is possible.
_HEAD_REQUIRED = (
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
_TORSO_REQUIRED = ("torso_individual_codes", "torso_deform_net.net.0.weight", "torso_canonicial_net.net.0.weight")


def is_field(network: rules.Weights) -> bool:
    """Whether a state_dict is that of a RAD-NeRF head or torso."""
    return _HEAD_KEY in network or _TORSO_KEY in network


def has_torso(checkpoint: TorchCheckpoint) -> bool:
    """Whether a checkpoint holds a torso (together with its head)."""
    return _TORSO_KEY in checkpoint.networks.get("model", {})


def import_head(checkpoint: TorchCheckpoint) -> rules.Imported:
    """Converts the head of a head's or torso's checkpoint: networks, occupancy grid and, if present, super-resolution.

    Raises:
      InputError: keys that are unknown, missing or of a wrong shape (all are listed), or settings that our renderer does not support.
    """
    weights = checkpoint.networks["model"]
    _require(checkpoint, weights, _HEAD_REQUIRED, "head")
    with_sr = any(key.startswith(_SR_PREFIX) for key in weights)
    stage = "head_sr" if with_sr else "head"
    config = configs.load(f"{stage}:reference")
    frames = _whole(checkpoint, "cond_win_size", 1, 1000) or 1
    with config.unlocked():
        record_feature_types(config, ORIGINAL_FEATURES)
        config.model.update({**head_sizes(weights), "condition_frames": frames})
        _apply_grids(config.model, checkpoint)
        _apply_march(config.march, checkpoint, weights)
        rules.apply_hparams(config, checkpoint)
    model = Head.from_config(config.model)
    window = jnp.zeros((1, config.model.condition_window, *((frames,) if frames > 1 else ()), MOTION_CHANNELS))
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), window, jnp.zeros(1), jnp.zeros((1, 3)), method=Head.initialize))
    variables, problems = rules.match(head_part(weights), lambda part: convert_head(part, frames), expected)
    params: dict[str, Any] = variables.get("params", {})
    state: dict[str, Any] = {"params": params, "occupancy": _occupancy(weights, config.march.density_threshold)}
    if with_sr:
        variables, sr_problems = _super_resolution(config, weights)
        problems += sr_problems
        state |= {"params": {"head": params, "super_resolution": variables.get("params", {})}, "constants": variables.get("constants", {})}
    rules.require_match(checkpoint, problems, "head")
    title = "RAD-NeRF head with super-resolution" if with_sr else "RAD-NeRF head"
    return rules.Imported(title, stage, checkpoint.step, config, state, (*rules.hparams_notes(checkpoint), *_head_notes(weights)))


def import_torso(checkpoint: TorchCheckpoint) -> rules.Imported:
    """Converts the torso of a torso's checkpoint. Raises as `import_head`."""
    weights = checkpoint.networks["model"]
    _require(checkpoint, weights, _TORSO_REQUIRED, "torso")
    stage = "torso_sr" if any(key.startswith(_SR_PREFIX) for key in weights) else "torso"
    config = configs.load(f"{stage}:reference")
    with config.unlocked():
        record_feature_types(config, ORIGINAL_FEATURES)
        config.model.update(torso_sizes(weights))
        shrink = number(checkpoint.hparams, "torso_shrink")
        config.model.shrink = config.model.shrink if shrink is None else shrink
        rules.apply_hparams(config, checkpoint)
    model = Torso.from_config(config.model)
    expected = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2)), method=Torso.initialize))
    variables, problems = rules.match(torso_part(weights), convert_torso, expected)
    rules.require_match(checkpoint, problems, "torso")
    head = import_head(checkpoint)
    with config.unlocked():
        config.head = ConfigDict({"step": head.step, "fingerprint": head_fingerprint(head.state["params"])})
    title = "RAD-NeRF torso for super-resolution" if stage == "torso_sr" else "RAD-NeRF torso"
    return rules.Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(rules.hparams_notes(checkpoint)))


def _super_resolution(config: ConfigDict, weights: rules.Weights) -> tuple[dict[str, Any], list[str]]:
    """Converts the super-resolution network and sets its sizes in `config`; returns as `match`."""
    network = {key: value for key, value in weights.items() if key.startswith(_SR_PREFIX) and not key.endswith("resample_filter")}
    with config.unlocked():
        config.super_resolution = ConfigDict(super_resolution_sizes(network))
    module = SuperResolution(**config.super_resolution)
    picture = jnp.zeros((1, module.size, module.size, 3))
    return rules.match(network, convert_super_resolution, jax.eval_shape(lambda: module.init(jax.random.key(0), picture)))


def _whole(checkpoint: TorchCheckpoint, key: str, low: int, high: int) -> int | None:
    """A setting of config.yaml that decides about sizes in memory; None if it is missing. Raises InputError outside of [low, high]."""
    value = number(checkpoint.hparams, key)
    if value is not None and not low <= value <= high:
        raise InputError(f"The config.yaml of {checkpoint.path} has {key} {value:g}: only {low} to {high} are supported.")
    return None if value is None else int(value)


def _apply_grids(model: ConfigDict, checkpoint: TorchCheckpoint) -> None:
    """Sets the grids' kind and resolution, which the tables do not show, from config.yaml."""
    settings = checkpoint.hparams
    kind = str(settings.get("grid_type", "tiledgrid"))
    if kind not in _GRIDS:
        raise InputError(f"The config.yaml of {checkpoint.path} has grid_type {kind!r}: only {' and '.join(_GRIDS)} are supported.")
    common: dict[str, Any] = {"kind": _GRIDS[kind], "interpolation": str(settings.get("grid_interpolation_type", "linear"))}
    size = _whole(checkpoint, "log2_hashmap_size", 1, 30)
    if size is not None:
        common["log2_table_size"] = size
    bound = number(settings, "bound")
    model.bound = float(bound) if bound is not None else model.bound
    for name, extent in (("position_grid", model.bound), ("ambient_grid", 1.0)):
        model[name].update(common)
        finest = _whole(checkpoint, "desired_resolution", 1, 1 << 20)
        model[name].finest_resolution = int((model[name].finest_resolution if finest is None else finest) * extent)


def _apply_march(march: ConfigDict, checkpoint: TorchCheckpoint, weights: rules.Weights) -> None:
    """Sets the box and the ray marching parameters. The original's step is constant as long as `max_steps` <= grid resolution."""
    cells = weights["density_grid"].shape[-1]
    resolution = round(cells ** (1 / 3))
    settings = checkpoint.hparams
    steps = int(number(settings, "max_steps") or march.max_samples)
    scale = number(settings, "camera_scale")
    offset = settings.get("camera_offset") or [0, 0, 0]
    offset = offset if isinstance(offset, list) else [offset]
    where = f"The config.yaml of {checkpoint.path}"
    if resolution**3 != cells or weights["density_grid"].size != cells:
        raise InputError(
            f"{checkpoint.path} has a density grid of shape {weights['density_grid'].shape}: only one cubic grid is supported."
        )
    if steps > resolution:
        raise InputError(f"{where} has max_steps {steps}: only up to the grid resolution {resolution} is supported.")
    if (scale is not None and scale != SCALE) or any(number({"value": value}, "value") != 0 for value in offset):
        raise InputError(f"{where} has a camera_scale other than {SCALE:g} or a camera_offset: such scenes are not supported.")
    march.aabb = tuple(float(value) for value in weights["aabb_infer"])
    march.grid_resolution = resolution
    march.step = 2.0 * math.sqrt(3.0) / resolution
    march.max_samples = steps
    march.budget = float(steps)
    for theirs, ours in (("min_near", "min_near"), ("density_thresh", "density_threshold")):
        value = number(settings, theirs)
        if value is not None:
            march[ours] = value


def _occupancy(weights: rules.Weights, limit: float) -> dict[str, np.ndarray]:
    """Density grid [R, R, R] in row-major order, and `occupied` if the original's bit field differs from the thresholded grid."""
    morton = jnp.asarray(weights["density_grid"], jnp.float32).reshape(1, -1)
    bits = unpack_bits(jnp.asarray(weights["density_bitfield"], jnp.uint8).reshape(-1)).reshape(1, -1)
    if bits.size != morton.size:
        raise InputError(f"The bit field has {bits.size} cells and the density grid {morton.size}: get the checkpoint again.")
    grid, in_bit_field = from_morton_order(morton)[0], from_morton_order(bits)[0]
    occupancy = {"grid": np.asarray(grid)}
    if (occupied(grid, limit) != in_bit_field).any():
        occupancy["occupied"] = np.asarray(in_bit_field)
    return occupancy


def _head_notes(weights: rules.Weights) -> list[str]:
    if np.any(weights["density_bitfield"]):
        return []
    return ["The occupancy grid is empty and so are the pictures, because the training collapsed: use another step or train again."]


def _require(checkpoint: TorchCheckpoint, weights: rules.Weights, names: tuple[str, ...], what: str) -> None:
    missing = [name for name in names if name not in weights or not np.size(weights[name])]
    rules.require_match(checkpoint, [f"{name} is missing" for name in missing], what)


# -------- State dicts of Lm3dNeRF and ADNeRFTorso -> our variables

_FIELDS = [
    rules.Rule(r"model_(coarse|fine)\.(density|color)_linears\.(\d+)", "dense", r"\1/\2_\3"),
    rules.Rule(r"model_(coarse|fine)\.(density|color)_out_linear", "dense", r"\1/\2_out"),
]


AUDIO_FRAMES = 16
"""Frames of DeepSpeech features per input of the torso's frame encoder; can't be inferred from its weights."""

_HEAD = [*_FIELDS, *rules.frame_encoder("lm_encoder", "frame_encoder"), *rules.window_attention("lmatt_encoder", "attention")]
_TORSO = [
    *_FIELDS,
    *rules.frame_encoder("aud_net", "frame_encoder", AUDIO_FRAMES),
    *rules.window_attention("audatt_net", "attention"),
    *(rules.Rule(rf"color_encoder\.{2 * i}", "dense", f"color_encoder_{i}") for i in range(3)),
]


def convert_nerf_head(weights: rules.Weights) -> dict[str, Any]:
    """Lm3dNeRF -> {"params"} of `models.nerf.NerfHead` for a condition window of single frames (`cond_win_size` 1)."""
    return {"params": rules.convert(weights, _HEAD)["params"]}


def convert_nerf_torso(weights: rules.Weights) -> dict[str, Any]:
    """ADNeRFTorso -> {"params"} of `models.nerf.NerfTorso` for windows of `AUDIO_FRAMES` frames of DeepSpeech features."""
    return {"params": rules.convert(weights, _TORSO)["params"]}


def nerf_sizes(weights: rules.Weights) -> dict[str, Any]:
    """Sizes of either network as changes of `model` in our reference configs; sizes of missing weights are left out."""
    found = {
        "hidden": rules.axis_size(weights, "model_coarse.density_linears.0.weight", 0),
        "layers": rules.count_layers(weights, r"model_coarse\.density_linears\.\d+\.weight"),
        "color_hidden": rules.axis_size(weights, "model_coarse.color_linears.0.weight", 0),
        "color_layers": rules.count_layers(weights, r"model_coarse\.color_linears\.\d+\.weight"),
    }
    for encoder, attention in (("lm_encoder", "lmatt_encoder"), ("aud_net", "audatt_net")):
        if f"{encoder}.encoder_fc1.2.weight" in weights:
            found["condition_features"] = rules.axis_size(weights, f"{encoder}.encoder_fc1.2.weight", 0)
            found["condition_window"] = rules.axis_size(weights, f"{attention}.attentionNet.0.weight", 0)
    if "aud_net.encoder_conv.0.weight" in weights:
        found["condition_frames"] = AUDIO_FRAMES
    return rules.positive(**found)


# -------- Checkpoints of vanilla NeRF heads and torsos -> imported checkpoints

DEEPSPEECH_CHANNELS = 29
"""Channels of the audio features that condition the original torso."""

_KEY = "model_coarse.density_linears.0.weight"


def is_nerf(network: rules.Weights) -> bool:
    """Whether a state_dict is that of a vanilla NeRF."""
    return _KEY in network


def import_nerf(checkpoint: TorchCheckpoint) -> rules.Imported:
    """Converts a vanilla head or torso.

    Raises:
      InputError: keys that are unknown, missing or of a wrong shape (all are listed).
    """
    weights = checkpoint.networks["model"]
    torso = any(key.startswith("aud_net.") for key in weights)
    stage = "nerf_torso" if torso else "nerf_head"
    config = configs.load(f"{stage}:reference")
    with config.unlocked():
        record_feature_types(config, ORIGINAL_FEATURES)
        config.model.update(nerf_sizes(weights))
        # The original's rays pass through pixel corners (offset 0); near and far are its defaults, which its config.yaml overrides.
        config.rays.update({"offset": 0.0, "near": 0.3, "far": 0.9})
        settings = {"near": "near", "far": "far", "n_samples_per_ray": "samples", "n_samples_per_ray_fine": "fine_samples"}
        for theirs, ours in settings.items():
            value = number(checkpoint.hparams, theirs)
            if value is not None:
                config.rays[ours] = type(config.rays[ours])(value)
        without_attention = number(checkpoint.hparams, "no_smo_iterations")
        if not torso and without_attention is not None:
            config.model.attention_from = int(without_attention)
        rules.apply_hparams(config, checkpoint)
    build, converter = (NerfTorso.from_config, convert_nerf_torso) if torso else (NerfHead.from_config, convert_nerf_head)
    model = config.model
    inner = (DEEPSPEECH_CHANNELS,) if torso else (204,)
    frames = (model.condition_frames,) if model.condition_frames > 1 else ()
    window = jnp.zeros((model.condition_window, *frames, *inner))
    network = build(model)
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))
    variables, problems = rules.match(weights, converter, expected)
    title = "vanilla NeRF torso" if torso else "vanilla NeRF head"
    rules.require_match(checkpoint, problems, title)
    notes = list(rules.hparams_notes(checkpoint))
    if torso:
        notes.append("It is conditioned on DeepSpeech features, which can't be computed here: it can be loaded, but not driven by audio.")
    return rules.Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(notes))
