"""State dict of GeneFace++'s super-resolution network -> our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.convert.layers import put

_LAYERS = {"block0.conv0": "conv_0", "block0.conv1": "conv_1", "block0.torgb": "rgb_0"} | {
    "block1.conv0": "conv_2",
    "block1.conv1": "conv_3",
    "block1.torgb": "rgb_1",
}


def super_resolution(weights: Mapping[str, np.ndarray], prefix: str = "sr_net.") -> dict[str, Any]:
    """Superresolution -> {"params", "constants"} of `models.super_resolution.SuperResolution`; its fixed filters are code here."""
    variables: dict[str, Any] = {"params": {}, "constants": {}}
    for key, value in weights.items():
        name = key.removeprefix(prefix)
        if name.endswith("resample_filter") or not key.startswith(prefix):
            continue
        layer, leaf = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
        value, target = np.asarray(value, np.float32), _LAYERS[layer]
        if leaf == "noise_const":
            put(variables["constants"], f"{target}/noise", value)
        elif leaf == "weight":
            put(variables["params"], f"{target}/kernel", value.transpose(2, 3, 1, 0))
        elif leaf == "affine.weight":
            put(variables["params"], f"{target}/style/kernel", value.T)
        elif leaf == "affine.bias":
            put(variables["params"], f"{target}/style/bias", value)
        else:
            put(variables["params"], f"{target}/{leaf}", value)
    return variables


def super_resolution_sizes(weights: Mapping[str, np.ndarray], prefix: str = "sr_net.") -> dict[str, Any]:
    """Attributes of `models.super_resolution.SuperResolution`, read off the weights; those of a missing one are the published sizes."""

    def length(name: str, published: int) -> int:
        value = weights.get(f"{prefix}{name}")
        return published if value is None or not np.ndim(value) else len(value)

    small, large = length("block0.conv0.bias", 128), length("block1.conv0.bias", 64)
    return {"size": length("block0.conv0.noise_const", 256), "features": (small, large)}
