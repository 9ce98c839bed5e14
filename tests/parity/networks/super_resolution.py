"""Recorded results of GeneFace++'s super-resolution network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.fields import convert_super_resolution, super_resolution_sizes
from geneface_jax.convert.rules import match
from geneface_jax.models.super_resolution import SuperResolution
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.vectors import Vectors

ATOL, MEAN_ATOL = 2e-4, 1e-5
MODES = {"none": "none", "const": "constant", "random": "constant"}
"""Noise mode of a recorded result -> ours. The original's random noise was recorded: it replaces the constant pictures."""
LAYERS = ("conv_0", "conv_1", "conv_2", "conv_3")


def load(weights: Mapping[str, np.ndarray], name: str = "weights") -> tuple[SuperResolution, dict[str, Any], Comparison]:
    """(network, its variables, whether names and shapes match) of a state_dict; its fixed filters are code here."""
    network = SuperResolution(**super_resolution_sizes(weights))
    trained = {key: value for key, value in weights.items() if not key.endswith("resample_filter")}
    picture = jnp.zeros((1, network.size, network.size, 3))
    variables, problems = match(trained, convert_super_resolution, jax.eval_shape(lambda: network.init(jax.random.key(0), picture)))
    detail = f" ({'; '.join(problems)})" if problems else ""
    return network, jax.tree.map(jnp.asarray, variables), Comparison(f"{name}: names and shapes{detail}", float("inf") if problems else 0.0)


def with_noise(variables: Mapping[str, Any], pictures: list[np.ndarray]) -> dict[str, Any]:
    """Variables with the given pictures as constant noise, one for each of `LAYERS`."""
    return {**variables, "constants": {layer: {"noise": jnp.asarray(p)} for layer, p in zip(LAYERS, pictures, strict=True)}}


def recorded_noise(vectors: Vectors, prefix: str = "") -> list[np.ndarray] | None:
    """The four noise pictures of a folder (int8 times a scale); None if not recorded."""
    if not vectors.has(*(f"in_{prefix}noise{i}_i8" for i in range(4))):
        return None
    return [vectors[f"in_{prefix}noise{i}_i8"].astype(np.float32) * vectors[f"{prefix}noise{i}_scale"] for i in range(4)]


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Both inputs under every noise mode, and the output of the first block."""
    weights = vectors.weights()
    if weights is None or not vectors.has("in_x64", "in_x256_u8"):
        return
    network, variables, fits = load(weights)
    yield fits
    noise = recorded_noise(vectors)
    enlarged = jax.image.resize(jnp.asarray(vectors["in_x64"]).transpose(0, 2, 3, 1), (1, network.size, network.size, 3), "bilinear")
    yield from vectors.compare({"x64_upsampled_256": enlarged.transpose(0, 3, 1, 2)[..., ::2, 1::2]}, ATOL)
    pictures = {"64": enlarged, "256": jnp.asarray(vectors["in_x256_u8"].transpose(0, 2, 3, 1), jnp.float32) / 256.0}
    enlarge = jax.jit(lambda noisy_variables, x, mode: network.apply(noisy_variables, x, mode), static_argnums=2)
    for found in vectors.find(r"(out(64|256)_(none|const|random)(?:_trainmode)?)__chan_mean"):
        if found[3] == "random" and noise is None:
            continue
        noisy_variables = with_noise(variables, noise) if found[3] == "random" else variables
        out = np.asarray(enlarge(noisy_variables, pictures[found[2]], MODES[found[3]]))[0].transpose(2, 0, 1)
        yield from _compare_picture(vectors, found[1], out)
    if vectors.has("block0_none_rgb_stride4"):
        yield from _first_block(vectors, network, variables, pictures)


def _compare_picture(vectors: Vectors, name: str, out: np.ndarray) -> Iterator[Comparison]:
    """The parts of a picture [3, H, W] that were recorded."""
    middle = out.shape[-1] // 2
    parts = {"chan_mean": out.mean((1, 2)), "chan_std": out.std((1, 2))}
    for match_ in vectors.find(rf"{re.escape(name)}__(stride|crop_tl|crop_br|crop_mid)(\d+)"):
        kind, n = match_[1], int(match_[2])
        half = slice(middle - n // 2, middle - n // 2 + n)
        cut = {
            "stride": out[:, ::n, ::n],
            "crop_tl": out[:, :n, :n],
            "crop_br": out[:, -n:, -n:],
            "crop_mid": out[:, half, half],
        }
        parts[f"{kind}{n}"] = cut[kind]
    for part, value in parts.items():
        key = f"{name}__{part}"
        yield from vectors.compare({key: value}, ATOL)
        if vectors.has(key):
            yield Comparison(f"{key} (mean)", float(np.abs(value - vectors[key]).mean() / MEAN_ATOL))


def _first_block(vectors: Vectors, network: SuperResolution, variables: Any, pictures: Mapping[str, Any]) -> Iterator[Comparison]:
    """Features and picture between the two blocks, of the input whose picture is closest to the recorded one."""
    candidates = []
    for picture in pictures.values():
        _, inner = network.apply(variables, picture, "none", capture_intermediates=True, mutable=["intermediates"])
        layers = inner["intermediates"]
        candidates.append((layers["conv_1"]["__call__"][0], picture + layers["rgb_0"]["__call__"][0]))
    theirs = vectors["block0_none_rgb_stride4"]

    def part(rgb: Any) -> np.ndarray:
        return np.asarray(rgb).transpose(0, 3, 1, 2)[..., ::4, ::4]

    features, rgb = min(candidates, key=lambda candidate: float(np.abs(part(candidate[1]) - theirs).max()))
    yield from vectors.compare({"block0_none_rgb_stride4": part(rgb)}, ATOL)
    recorded = np.asarray(features).transpose(0, 3, 1, 2)[:, :4, ::8, ::8]
    yield from vectors.compare({"block0_none_x_first4ch_stride8": recorded}, ATOL)
