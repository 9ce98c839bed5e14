"""PyTorch state_dict keys of the original speech networks -> our parameter trees, for tests against the golden vectors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_BATCH_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def _put(tree: dict[str, Any], path: list[str], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _convert(weights: dict[str, np.ndarray], modules: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Builds {"params", "batch_stats"} from rules (key pattern of the module, kind of layer, our module path)."""
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for key, value in weights.items():
        if key.endswith("num_batches_tracked"):
            continue
        value = np.asarray(value, np.float32)
        prefix, leaf = key.rsplit(".", 1)
        matches = [(re.fullmatch(pattern, prefix), kind, target) for pattern, kind, target in modules]
        match, kind, target = next(found for found in matches if found[0])
        path = match.expand(target).split("/")
        if kind == "norm":
            collection, name = _BATCH_NORM[leaf]
            _put(variables[collection], [*path, name], value)
        elif kind == "dense":
            _put(variables["params"], [*path, {"weight": "kernel", "bias": "bias"}[leaf]], value.T if leaf == "weight" else value)
        elif leaf in ("weight", "weight_v"):
            name = "direction" if leaf == "weight_v" else "kernel"
            # Convolutions [O, I, K] -> [K, I, O]; the transposed one [I, O, K] -> [I, K, O].
            order = (0, 2, 1) if kind == "transposed" else (2, 1, 0)
            _put(variables["params"], [*path, name], value.transpose(order))
        elif leaf == "weight_g":
            _put(variables["params"], [*path, "scale"], value.reshape(-1))
        else:
            _put(variables["params"], [*path, "bias"], value)
    return variables


def syncnet(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> SyncNet."""
    rules = []
    for theirs, ours in (("hubert_encoder", "audio_encoder"), ("mouth_encoder", "mouth_encoder")):
        rules += [
            (rf"{theirs}\.(\d+)\.conv_block\.0", "conv", rf"{ours}/block_\1/conv"),
            (rf"{theirs}\.(\d+)\.conv_block\.1", "norm", rf"{ours}/block_\1/norm"),
        ]
    return _convert(weights, rules)


def audio2motion(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """VAEModel -> Audio2Motion."""

    def wavenet(theirs: str, ours: str) -> list[tuple[str, str, str]]:
        return [
            (rf"{theirs}\.in_layers\.(\d+)", "conv", rf"{ours}/gates_\1"),
            (rf"{theirs}\.res_skip_layers\.(\d+)", "conv", rf"{ours}/residual_skip_\1"),
            (rf"{theirs}\.cond_layer", "conv", ours + "/condition"),
        ]

    rules = [
        (r"mel_encoder\.0", "conv", "condition_encoder/conv_in"),
        (r"mel_encoder\.1", "norm", "condition_encoder/norm"),
        (r"mel_encoder\.3", "conv", "condition_encoder/conv_out"),
        (r"vae\.g_pre_net\.0", "conv", "condition_down"),
        (r"vae\.encoder\.pre_net\.0", "conv", "encoder_down"),
        (r"vae\.encoder\.out_proj", "conv", "encoder_out"),
        (r"vae\.decoder\.pre_net\.0", "transposed", "decoder_up"),
        (r"vae\.decoder\.out_proj", "conv", "decoder_out"),
    ]
    for part in ("encoder", "decoder"):
        rules += wavenet(rf"vae\.{part}\.wn", f"{part}_wavenet")
    for number in range(4):
        theirs, ours = rf"vae\.prior_flow\.flows\.{2 * number}", f"flow/coupling_{number}"
        rules += [(rf"{theirs}\.(pre|post)", "conv", rf"{ours}/\1")]
        rules += wavenet(rf"{theirs}\.enc", f"{ours}/wavenet")
    return _convert(weights, rules)


def postnet(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """CNNPostNet -> CNNPostNet."""
    rules = [
        (r"block3\.1", "conv", "output"),
        (r"block(\d)\.(\d)\.conv_block\.0", "conv", r"block\1_\2/conv"),
        (r"block(\d)\.(\d)\.conv_block\.1", "norm", r"block\1_\2/norm"),
    ]
    return _convert(weights, rules)


def discriminator(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """MLPDiscriminator -> MLPDiscriminator."""
    rules = [(r"backbone\.12", "dense", "score")]
    rules += [(rf"backbone\.{3 * i}", "dense", f"layer_{i}") for i in range(4)]
    return _convert(weights, rules)
