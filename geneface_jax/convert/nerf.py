"""Vanilla NeRF checkpoints (Lm3dNeRF, ADNeRFTorso) to our variables and work folders."""

from typing import Any

import jax
import jax.numpy as jnp

from geneface_jax.convert.rules import (
    Imported,
    Rule,
    Weights,
    apply_hparams,
    axis_size,
    convert,
    count_layers,
    frame_encoder,
    hparams_notes,
    match,
    positive,
    require_match,
    window_attention,
)
from geneface_jax.convert.speech import ORIGINAL_FEATURES
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.data.compatibility import record_feature_types
from geneface_jax.io import configs
from geneface_jax.models.nerf import NerfHead, NerfTorso

# -------- State dicts of Lm3dNeRF and ADNeRFTorso -> our variables

_FIELDS = [
    Rule(r"model_(coarse|fine)\.(density|color)_linears\.(\d+)", "dense", r"\1/\2_\3"),
    Rule(r"model_(coarse|fine)\.(density|color)_out_linear", "dense", r"\1/\2_out"),
]


AUDIO_FRAMES = 16
"""Frames of DeepSpeech features per input of the torso's frame encoder; can't be inferred from its weights."""

_HEAD = [*_FIELDS, *frame_encoder("lm_encoder", "frame_encoder"), *window_attention("lmatt_encoder", "attention")]
_TORSO = [
    *_FIELDS,
    *frame_encoder("aud_net", "frame_encoder", AUDIO_FRAMES),
    *window_attention("audatt_net", "attention"),
    *(Rule(rf"color_encoder\.{2 * i}", "dense", f"color_encoder_{i}") for i in range(3)),
]


def convert_nerf_head(weights: Weights) -> dict[str, Any]:
    """Lm3dNeRF -> {"params"} of `models.nerf.NerfHead` for a condition window of single frames (`cond_win_size` 1)."""
    return {"params": convert(weights, _HEAD)["params"]}


def convert_nerf_torso(weights: Weights) -> dict[str, Any]:
    """ADNeRFTorso -> {"params"} of `models.nerf.NerfTorso` for windows of `AUDIO_FRAMES` frames of DeepSpeech features."""
    return {"params": convert(weights, _TORSO)["params"]}


def nerf_sizes(weights: Weights) -> dict[str, Any]:
    """Sizes of either network as changes of `model` in our reference configs; sizes of missing weights are left out."""
    found = {
        "hidden": axis_size(weights, "model_coarse.density_linears.0.weight", 0),
        "layers": count_layers(weights, r"model_coarse\.density_linears\.\d+\.weight"),
        "color_hidden": axis_size(weights, "model_coarse.color_linears.0.weight", 0),
        "color_layers": count_layers(weights, r"model_coarse\.color_linears\.\d+\.weight"),
    }
    for encoder, attention in (("lm_encoder", "lmatt_encoder"), ("aud_net", "audatt_net")):
        if f"{encoder}.encoder_fc1.2.weight" in weights:
            found["condition_features"] = axis_size(weights, f"{encoder}.encoder_fc1.2.weight", 0)
            found["condition_window"] = axis_size(weights, f"{attention}.attentionNet.0.weight", 0)
    if "aud_net.encoder_conv.0.weight" in weights:
        found["condition_frames"] = AUDIO_FRAMES
    return positive(**found)


# -------- Checkpoints of vanilla NeRF heads and torsos -> imported checkpoints

DEEPSPEECH_CHANNELS = 29
"""Channels of the audio features that condition the original torso."""

_KEY = "model_coarse.density_linears.0.weight"


def is_nerf(network: Weights) -> bool:
    """Whether a state_dict is that of a vanilla NeRF."""
    return _KEY in network


def import_nerf(checkpoint: TorchCheckpoint) -> Imported:
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
        apply_hparams(config, checkpoint)
    build, converter = (NerfTorso.from_config, convert_nerf_torso) if torso else (NerfHead.from_config, convert_nerf_head)
    model = config.model
    inner = (DEEPSPEECH_CHANNELS,) if torso else (204,)
    frames = (model.condition_frames,) if model.condition_frames > 1 else ()
    window = jnp.zeros((model.condition_window, *frames, *inner))
    network = build(model)
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))
    variables, problems = match(weights, converter, expected)
    title = "vanilla NeRF torso" if torso else "vanilla NeRF head"
    require_match(checkpoint, problems, title)
    notes = list(hparams_notes(checkpoint))
    if torso:
        notes.append("It is conditioned on DeepSpeech features, which can't be computed here: it can be loaded, but not driven by audio.")
    return Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(notes))
