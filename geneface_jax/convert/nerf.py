"""Vanilla NeRF checkpoints (Lm3dNeRF, ADNeRFTorso) to our variables and work folders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert.rules import Imported, Rule, apply_hparams, convert, hparams_notes, match
from geneface_jax.convert.speech import KIND
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.data.compatibility import record_feature_types
from geneface_jax.io import configs
from geneface_jax.models.nerf import NerfHead, NerfTorso

# ----------------------------------------------------------------------------------------------------
# State dicts of the original vanilla NeRF (Lm3dNeRF, ADNeRFTorso) -> our variables.

_FIELDS = [
    Rule(r"model_(coarse|fine)\.(density|color)_linears\.(\d+)", "dense", r"\1/\2_\3"),
    Rule(r"model_(coarse|fine)\.(density|color)_out_linear", "dense", r"\1/\2_out"),
]


def _encoder(frames: str, attention: str, kind: str) -> list[Rule]:
    return [
        *(Rule(rf"{frames}\.encoder_conv\.{2 * i}", kind, f"frame_encoder/conv_{i}") for i in range(4)),
        *(Rule(rf"{frames}\.encoder_fc1\.{2 * i}", "dense", f"frame_encoder/fc_{i}") for i in range(2)),
        *(Rule(rf"{attention}\.attentionConvNet\.{2 * i}", "conv", f"attention/conv_{i}") for i in range(5)),
        Rule(rf"{attention}\.attentionNet\.0", "dense", "attention/dense"),
    ]


_HEAD = [*_FIELDS, *_encoder("lm_encoder", "lmatt_encoder", "middle_tap")]
_TORSO = [
    *_FIELDS,
    *_encoder("aud_net", "audatt_net", "conv"),
    *(Rule(rf"color_encoder\.{2 * i}", "dense", f"color_encoder_{i}") for i in range(3)),
]


def convert_nerf_head(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Lm3dNeRF -> {"params"} of `models.nerf.NerfHead` (a condition window of single frames, `cond_win_size` 1)."""
    return {"params": convert(weights, _HEAD)["params"]}


def convert_nerf_torso(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """ADNeRFTorso -> {"params"} of `models.nerf.NerfTorso` whose window is 16 frames of DeepSpeech features (`AUDIO_FRAMES`)."""
    return {"params": convert(weights, _TORSO)["params"]}


AUDIO_FRAMES = 16
"""Frames of DeepSpeech features that the original torso's encoder takes at once; their number is not in its weights."""


def nerf_sizes(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the shapes of either network's weights say about `model` of our reference configs; unknown ones are left out."""
    found = {
        "hidden": _size(weights, "model_coarse.density_linears.0.weight", 0),
        "layers": _count(weights, r"model_coarse\.density_linears\.\d+\.weight"),
        "color_hidden": _size(weights, "model_coarse.color_linears.0.weight", 0),
        "color_layers": _count(weights, r"model_coarse\.color_linears\.\d+\.weight"),
    }
    for encoder, attention in (("lm_encoder", "lmatt_encoder"), ("aud_net", "audatt_net")):
        if f"{encoder}.encoder_fc1.2.weight" in weights:
            found["condition_features"] = _size(weights, f"{encoder}.encoder_fc1.2.weight", 0)
            found["condition_window"] = _size(weights, f"{attention}.attentionNet.0.weight", 0)
    if "aud_net.encoder_conv.0.weight" in weights:
        found["condition_frames"] = AUDIO_FRAMES
    return {name: size for name, size in found.items() if size > 0}


def _size(weights: Mapping[str, np.ndarray], name: str, axis: int) -> int:
    shape = np.shape(weights.get(name, ()))
    return shape[axis] if axis < len(shape) else 0


def _count(weights: Mapping[str, np.ndarray], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in weights)


# ----------------------------------------------------------------------------------------------------
# Whole checkpoints of the original vanilla NeRF (head, torso) -> our work folders.

DEEPSPEECH = 29
"""Channels of the audio features that the original torso hears."""

_MARK = "model_coarse.density_linears.0.weight"


def is_nerf(network: Mapping[str, np.ndarray]) -> bool:
    """Whether a state_dict is that of a vanilla NeRF."""
    return _MARK in network


def import_nerf(checkpoint: TorchCheckpoint) -> Imported:
    """Converts a vanilla head or torso.

    Raises:
      InputError: keys that are unknown, missing or mis-shaped (all of them are named).
    """
    weights = checkpoint.networks["model"]
    torso = any(key.startswith("aud_net.") for key in weights)
    stage = "nerf_torso" if torso else "nerf_head"
    config = configs.load(f"{stage}:reference")
    with config.unlocked():
        record_feature_types(config, KIND)
        config.model.update(nerf_sizes(weights))
        # The original's rays go through the pixels' corners, between depths that its config.yaml states; these are its own defaults.
        config.rays.update({"offset": 0.0, "near": 0.3, "far": 0.9})
        for theirs, ours in (
            ("near", "near"),
            ("far", "far"),
            ("n_samples_per_ray", "samples"),
            ("n_samples_per_ray_fine", "fine_samples"),
        ):
            value = number(checkpoint.hparams, theirs)
            if value is not None:
                config.rays[ours] = type(config.rays[ours])(value)
        without_attention = number(checkpoint.hparams, "no_smo_iterations")
        if not torso and without_attention is not None:
            config.model.attention_from = int(without_attention)
        apply_hparams(config, checkpoint)
    build, convert = (NerfTorso.from_config, convert_nerf_torso) if torso else (NerfHead.from_config, convert_nerf_head)
    model = config.model
    inner = (DEEPSPEECH,) if torso else (204,)
    frames = (model.condition_frames,) if model.condition_frames > 1 else ()
    window = jnp.zeros((model.condition_window, *frames, *inner))
    network = build(model)
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))
    variables, problems = match(weights, convert, expected)
    if problems:
        what = "vanilla NeRF torso" if torso else "vanilla NeRF head"
        raise InputError(f"{checkpoint.path} does not fit our {what}, so nothing was imported: {'; '.join(problems)}.")
    notes = list(hparams_notes(checkpoint))
    if torso:
        notes.append("it hears DeepSpeech features, which are not computed here: it can be read and compared, but not driven by sound.")
    title = "vanilla NeRF torso" if torso else "vanilla NeRF head"
    return Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(notes))
