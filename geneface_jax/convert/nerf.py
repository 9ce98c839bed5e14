"""State dicts of the original vanilla NeRF (Lm3dNeRF, ADNeRFTorso) -> our variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.convert.layers import Rule, convert

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


def head(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Lm3dNeRF -> {"params"} of `models.nerf.NerfHead` (a condition window of single frames, `cond_win_size` 1)."""
    return {"params": convert(weights, _HEAD)["params"]}


def torso(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """ADNeRFTorso -> {"params"} of `models.nerf.NerfTorso` whose window is 16 frames of DeepSpeech features (`AUDIO_FRAMES`)."""
    return {"params": convert(weights, _TORSO)["params"]}


AUDIO_FRAMES = 16
"""Frames of DeepSpeech features that the original torso's encoder takes at once; their number is not in its weights."""


def sizes(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
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
