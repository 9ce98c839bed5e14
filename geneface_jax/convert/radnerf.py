"""State dicts of the original radiance fields (RADNeRF, RADNeRFTorso and GeneFace++'s of the same names) -> our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.convert.layers import Rule, convert

HEAD_BUFFERS = ("aabb_train", "aabb_infer", "density_grid", "density_bitfield", "step_counter", "lambda_ambient")
"""Tensors of a head's state_dict that are not parameters of the network."""

TORSO_BUFFERS = ("density_grid_torso",)
"""The same of a torso's."""

_TORSO_PARTS = ("torso_individual_codes", "torso_embedder.", "torso_deform_net.", "torso_canonicial_net.", "head_color_weights_encoder.")
"""How the names begin that a torso's state_dict has and its head's has not ("canonicial" is theirs)."""


def frame_encoder(prefix: str, target: str, frames: int = 1) -> list[Rule]:
    """Rules of an AudioNet for windows of `frames` frames; of single frames only the middle taps ever saw anything."""
    kind = "middle_tap" if frames == 1 else "conv"
    return [
        *(Rule(rf"{prefix}\.encoder_conv\.{2 * i}", kind, f"{target}/conv_{i}") for i in range(4)),
        *(Rule(rf"{prefix}\.encoder_fc1\.{2 * i}", "dense", f"{target}/fc_{i}") for i in range(2)),
    ]


def window_attention(prefix: str, target: str) -> list[Rule]:
    """Rules of an AudioAttNet."""
    return [
        *(Rule(rf"{prefix}\.attentionConvNet\.{2 * i}", "conv", f"{target}/conv_{i}") for i in range(5)),
        Rule(rf"{prefix}\.attentionNet\.0", "dense", f"{target}/dense"),
    ]


def condition_rules(target: str = "", frames: int = 1) -> tuple[list[Rule], dict[str, str]]:
    """(rules, values) for `layers.convert` of the condition encoder, its modules under `target` (with a "/" at the end)."""
    rules = [
        *frame_encoder("cond_prenet", f"{target}frame_encoder", frames),
        Rule(r"blink_encoder\.(\d)", "dense", rf"{target}blink_\1"),
        *window_attention("cond_att_net", f"{target}attention"),
    ]
    return rules, {"blink_embedding.weight": f"{target}blink_embedding"}


def head(weights: Mapping[str, np.ndarray], frames: int = 1) -> dict[str, Any]:
    """RADNeRF -> {"params"} of `models.head.Head`.

    Args:
      weights: the original's names -> arrays; buffers, and what belongs to a torso or to super-resolution, are left out.
      frames: `cond_win_size`.
    """
    rules, values = condition_rules("condition_encoder/", frames)
    rules += [Rule(r"(ambient|sigma|color)_net\.net\.(\d)", "dense", r"\1_net/dense_\2")]
    values |= {
        "individual_embeddings": "frame_codes",
        "position_embedder.embeddings": "position_encoder/table",
        "ambient_embedder.embeddings": "ambient_encoder/table",
    }
    return {"params": convert(head_part(weights), rules, values)["params"]}


def torso(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """RADNeRFTorso or RADNeRFTorsowithSR -> {"params"} of `models.torso.Torso`; the head's tensors in it are left out."""
    rules = [
        Rule(r"torso_deform_net\.net\.(\d)", "dense", r"deform_net/dense_\1"),
        Rule(r"torso_canonicial_net\.net\.(\d)", "dense", r"canonical_net/dense_\1"),
        *(Rule(rf"head_color_weights_encoder\.{2 * i}", "dense", f"head_encoder/dense_{i}") for i in range(3)),
    ]
    values = {"torso_individual_codes": "frame_codes", "torso_embedder.embeddings": "encoder/table"}
    return {"params": convert(torso_part(weights), rules, values)["params"]}


def head_part(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a state_dict that are a head's parameters: a torso's checkpoint holds its whole head."""
    return {
        key: value
        for key, value in weights.items()
        if key not in HEAD_BUFFERS + TORSO_BUFFERS and not key.endswith(".offsets") and not key.startswith((*_TORSO_PARTS, "sr_net."))
    }


def torso_part(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a state_dict that are a torso's own parameters."""
    return {key: value for key, value in weights.items() if key.startswith(_TORSO_PARTS) and not key.endswith(".offsets")}


def head_sizes(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sizes of a head, read off its weights: what they change in `config.model` of configs/head.py:reference.

    The grids' finest resolution can't be read off a table of rows; the reference's is that of every published config.
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


def torso_sizes(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sizes of a torso, as `head_sizes`. GeneFace++'s with super-resolution hears the jaw, every other one the pose: the inputs tell."""
    codes, code_features = weights["torso_individual_codes"].shape
    inputs = weights["torso_deform_net.net.0.weight"].shape[1]
    head_aware = "head_color_weights_encoder.0.weight" in weights
    bends = inputs - _ENCODED_COORDINATES - code_features - (_HEAD_FEATURES if head_aware else 0)
    return {
        "codes": codes,
        "code_features": code_features,
        "hidden_deform": len(weights["torso_deform_net.net.0.weight"]),
        "hidden": len(weights["torso_canonicial_net.net.0.weight"]),
        "condition": "pose" if bends == _ENCODED_POSE else "jaw",
        "head_aware": head_aware,
    }


_ENCODED_COORDINATES, _ENCODED_POSE, _HEAD_FEATURES = 42, 54, 16
"""Widths of a torso's inputs: 2 numbers in 10 octaves, 6 numbers in 4 octaves, the encoded head."""
