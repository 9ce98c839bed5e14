"""State dicts of the original radiance fields (RADNeRF) -> our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.convert.layers import Rule, convert

_BUFFERS = ("aabb_train", "aabb_infer", "density_grid", "density_bitfield", "step_counter", "lambda_ambient")
"""Tensors of a head's state_dict that are not parameters of the network."""


def head(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """RADNeRF -> {"params"} of `models.head.Head` (a condition window of single frames, `cond_win_size` 1)."""
    layers = {k: v for k, v in weights.items() if k not in _BUFFERS and not k.endswith(".offsets")}
    rules = [
        *(Rule(rf"cond_prenet\.encoder_conv\.{2 * i}", "middle_tap", f"condition_encoder/frame_encoder/conv_{i}") for i in range(4)),
        *(Rule(rf"cond_prenet\.encoder_fc1\.{2 * i}", "dense", f"condition_encoder/frame_encoder/fc_{i}") for i in range(2)),
        Rule(r"blink_encoder\.(\d)", "dense", r"condition_encoder/blink_\1"),
        *(Rule(rf"cond_att_net\.attentionConvNet\.{2 * i}", "conv", f"condition_encoder/attention/conv_{i}") for i in range(5)),
        Rule(r"cond_att_net\.attentionNet\.0", "dense", "condition_encoder/attention/dense"),
        Rule(r"(ambient|sigma|color)_net\.net\.(\d)", "dense", r"\1_net/dense_\2"),
    ]
    values = {
        "individual_embeddings": "frame_codes",
        "blink_embedding.weight": "condition_encoder/blink_embedding",
        "position_embedder.embeddings": "position_encoder/table",
        "ambient_embedder.embeddings": "ambient_encoder/table",
    }
    return {"params": convert(layers, rules, values)["params"]}
