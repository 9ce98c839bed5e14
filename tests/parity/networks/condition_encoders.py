"""Recorded results of the condition encoders: frames, windows of frames, attention, blink, and the frames of a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.fields import condition_rules
from geneface_jax.convert.rules import convert, frame_encoder, window_attention
from geneface_jax.data.motion import windows
from geneface_jax.models.head import ConditionEncoder, FrameEncoder, WindowAttention
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.fields import CONDITION_ATOL, CONDITION_RTOL
from tests.parity.networks.vectors import Vectors


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Every encoder that a config uses (GeneFace++'s encoder of heat maps is in none)."""
    weights = vectors.weights()
    if weights is None:
        return
    for found in vectors.find(r"in_((?:nerf_|adnerf_)?audionet_(?:\w+_)?win(\d+))"):
        tag, frames = found[1], int(found[2])
        network = FrameEncoder(len(weights[f"{tag}.encoder_fc1.2.weight"]), frames)
        variables = _variables(weights, tag, frame_encoder("net", "net", frames))
        x = vectors[f"in_{tag}"]
        yield from _compare(vectors, tag, network.apply(variables, x if frames > 1 else x[:, 0]))
    for found in vectors.find(r"in_(audioattnet_seq\d+)"):
        variables = _variables(weights, found[1], window_attention("net", "net"))
        yield from _compare(vectors, found[1], WindowAttention().apply(variables, vectors[found[0]]))
    for found in vectors.find(r"in_(calcond_blink(\d+)_smo\d+)_0"):
        tag = found[1]
        rules, values = condition_rules()
        variables = convert(_part(weights, tag), rules, values)
        eyes = jnp.asarray(vectors[f"in_{tag}_1"]).reshape(-1)
        network = ConditionEncoder(len(weights[f"{tag}.cond_prenet.encoder_fc1.2.weight"]), int(found[2]))
        yield from _compare(vectors, tag, network.apply({"params": variables["params"]}, vectors[found[0]][None, :, 0], eyes)[0])
    if vectors.has("in_window_features"):
        yield from _windows(vectors)


def _part(weights: Mapping[str, np.ndarray], tag: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The state_dict of one encoder, with `prefix` prepended to its names."""
    return {f"{prefix}{key.removeprefix(tag + '.')}": value for key, value in weights.items() if key.startswith(tag + ".")}


def _variables(weights: Mapping[str, np.ndarray], tag: str, rules: Any) -> dict[str, Any]:
    return {"params": convert(_part(weights, tag, "net."), rules)["params"]["net"]}


def _compare(vectors: Vectors, tag: str, value: Any) -> Iterator[Comparison]:
    yield from vectors.compare({f"out_{tag}": value}, CONDITION_ATOL, CONDITION_RTOL)


def _windows(vectors: Vectors) -> Iterator[Comparison]:
    """Centered windows. Frames outside the video are zeros there, the first or last frame here: only frames inside are compared."""
    features = vectors["in_window_features"]
    for found in vectors.find(r"win_mode2_smo(\d+)_idx(\d+)"):
        size, center = int(found[1]), int(found[2])
        frame = np.arange(size) + center - size // 2
        ours = windows(features[:, 0], size)[center][:, None]
        yield from vectors.compare({found[0]: ours}, 0.0, where=(frame >= 0) & (frame < len(features)))
