"""Recorded results of the RADNeRF head: condition and point queries under every kind of grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.golden import Check, compare
from geneface_kernels.spherical_harmonics import spherical_harmonics

from geneface_jax.convert import radnerf
from geneface_jax.convert.parity.vectors import Vectors
from geneface_jax.io import configs
from geneface_jax.models.build import build_head
from geneface_jax.models.head import Head

SIGMA_RTOL, RGB_ATOL, AMBIENT_ATOL = 1e-3, 5e-4, 1e-4
SIGMA_MEDIAN, ATOL_MEDIAN = 5e-5, 2e-5
"""Fine grid levels amplify rounding at single points, so the median is held to a much smaller tolerance."""


def check(vectors: Vectors) -> Iterator[Check]:
    """Condition, density and colour of points, and the encodings they come from."""
    weights = vectors.weights()
    if weights is None:
        return
    variables = jax.tree.map(jnp.asarray, radnerf.head(weights))
    head = _head(weights)
    if vectors.has("in_cond"):
        yield from _condition(vectors, head, variables)
    if vectors.has("in_pos", "in_dir", "cond_feat"):
        for found in vectors.find(r"(query(_hash)?(_smoothstep)?)_sigma"):
            grid = {"kind": "hash"} if found[2] else {}
            grid |= {"interpolation": "smoothstep"} if found[3] else {}
            yield from _queries(vectors, _with_grids(head, **grid), variables, found[1])
        yield from _other_codes(vectors, head, variables)
        yield from _encodings(vectors, head, variables)


def _head(weights: dict[str, np.ndarray]) -> Head:
    """The published head with as many appearance codes as the weights hold; version 1 has no blink condition."""
    model = configs.load("head:reference").model
    model.update({"codes": len(weights["individual_embeddings"]), "blink_channels": 0})
    return build_head(model)


def _with_grids(head: Head, **changes: str) -> Head:
    grids = {name: dataclasses.replace(getattr(head, name), **changes) for name in ("position_grid", "ambient_grid")}
    return head.clone(**grids)


def _condition(vectors: Vectors, head: Head, variables: Any) -> Iterator[Check]:
    window = vectors["in_cond"].reshape(1, len(vectors["in_cond"]), -1)
    condition, inner = head.apply(
        variables, window, jnp.zeros(1), method=Head.condition, capture_intermediates=True, mutable=["intermediates"]
    )
    frames = inner["intermediates"]["condition_encoder"]["frame_encoder"]["__call__"][0]
    yield from vectors.compare({"cond_feat": condition[0], "cond_prenet": frames[0]}, 1e-5, 1e-4)


def _queries(vectors: Vectors, head: Head, variables: Any, prefix: str) -> Iterator[Check]:
    code = variables["params"]["frame_codes"][:1]
    out = head.apply(variables, vectors["in_pos"], vectors["in_dir"], vectors["cond_feat"][None], code)
    for name, value, atol, rtol in (
        ("sigma", out.sigma, 0.0, SIGMA_RTOL),
        ("rgb", out.rgb, RGB_ATOL, 0.0),
        ("ambient", out.ambient, AMBIENT_ATOL, 0.0),
    ):
        key = f"{prefix}_{name}"
        if vectors.has(key):
            theirs = vectors[key]
            yield compare(key, value, theirs, atol=atol, rtol=rtol)
            error = np.abs(value - theirs) / (np.abs(theirs) if rtol else 1.0)
            yield Check(f"{key} (median)", float(np.median(error) / (SIGMA_MEDIAN if rtol else ATOL_MEDIAN)))


def _other_codes(vectors: Vectors, head: Head, variables: Any) -> Iterator[Check]:
    """Colours under another frame's appearance code (the recorded name says sigma)."""
    for found in vectors.find(r"query_sigma_ind(\d+)"):
        code = variables["params"]["frame_codes"][int(found[1])][None]
        out = head.apply(variables, vectors["in_pos"], vectors["in_dir"], vectors["cond_feat"][None], code)
        yield from vectors.compare({found[0]: out.rgb}, RGB_ATOL)


def _encodings(vectors: Vectors, head: Head, variables: Any) -> Iterator[Check]:
    """Theirs were recorded for the first points alone, and the geometry feature for its first channels."""
    position = head.apply(variables, vectors["in_pos"], method=lambda module, x: module.position_encoder(x))
    density: Any = head.apply(variables, vectors["in_pos"], vectors["cond_feat"][None], method=Head.density)
    sigma, geometry, ambient = density
    ambient_features = head.apply(variables, ambient, method=lambda module, x: module.ambient_encoder(x))
    yield from vectors.compare({"density_sigma": sigma}, 0.0, SIGMA_RTOL)
    for found in vectors.find(r"density_geo_feat_first(\d+)"):
        yield from vectors.compare({found[0]: geometry[:, : int(found[1])]}, RGB_ATOL, SIGMA_RTOL)
    recorded = {
        "query_pos_feat": position,
        "query_ambient_feat": ambient_features,
        "query_dir_feat": spherical_harmonics(vectors["in_dir"], 4),
    }
    for key, value in recorded.items():
        if vectors.has(key):
            yield from vectors.compare({key: value[: len(vectors[key])]}, RGB_ATOL)
