"""Recorded results of GeneFace's RADNeRF head: condition and point queries under every kind of grid; frames and a training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from geneface_kernels.encodings import spherical_harmonics

from geneface_jax.models.head import Head
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks import radnerf_frames, radnerf_training
from tests.parity.networks.fields import (
    CONDITION_ATOL,
    CONDITION_RTOL,
    RGB_ATOL,
    SIGMA_RTOL,
    check_geometry,
    check_points,
    condition,
    load_head,
)
from tests.parity.networks.vectors import Vectors


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Condition, density and color of points, encodings, pictures, and the training losses with their gradients."""
    weights = vectors.weights()
    if weights is None or not vectors.has("in_cond", "cond_feat"):
        return
    head, variables, fits = load_head(weights)
    yield fits
    found, frames = condition(head, variables, vectors["in_cond"])
    yield from vectors.compare({"cond_feat": found, "cond_prenet": frames}, CONDITION_ATOL, CONDITION_RTOL)
    if vectors.has("in_pos", "in_dir"):
        for match in vectors.find(r"(query(_hash)?(_smoothstep)?)_sigma"):
            grid = {"kind": "hash"} if match[2] else {}
            grid |= {"interpolation": "smoothstep"} if match[3] else {}
            yield from check_points(vectors, _with_grids(head, **grid), variables, vectors["cond_feat"], match[1])
        yield from _other_codes(vectors, head, variables)
        yield from _encodings(vectors, head, variables)
    yield from radnerf_frames.check_rays(vectors)
    yield from radnerf_frames.check_frames(vectors, head, variables, weights)
    yield from radnerf_training.check(vectors, head, variables, weights)


def _with_grids(head: Head, **changes: str) -> Head:
    grids = {name: dataclasses.replace(getattr(head, name), **changes) for name in ("position_grid", "ambient_grid")}
    return head.clone(**grids)


def _other_codes(vectors: Vectors, head: Head, variables: Any) -> Iterator[Comparison]:
    """Colors under another frame's appearance code (the recorded name says sigma)."""
    for found in vectors.find(r"query_sigma_ind(\d+)"):
        code = variables["params"]["frame_codes"][int(found[1])][None]
        out = head.apply(variables, vectors["in_pos"], vectors["in_dir"], vectors["cond_feat"][None], code)
        yield from vectors.compare({found[0]: out.rgb}, RGB_ATOL)


def _encodings(vectors: Vectors, head: Head, variables: Any) -> Iterator[Comparison]:
    """Recorded for the first points only, and the geometry feature for its first channels."""
    position = head.apply(variables, vectors["in_pos"], method=lambda module, x: module.position_encoder(x))
    density: Any = head.apply(variables, vectors["in_pos"], vectors["cond_feat"][None], method=Head.density)
    sigma, geometry, ambient = density
    ambient_features = head.apply(variables, ambient, method=lambda module, x: module.ambient_encoder(x))
    yield from vectors.compare({"density_sigma": sigma}, 0.0, SIGMA_RTOL)
    yield from check_geometry(vectors, geometry)
    recorded = {
        "query_pos_feat": position,
        "query_ambient_feat": ambient_features,
        "query_dir_feat": spherical_harmonics(vectors["in_dir"], 4),
    }
    for key, value in recorded.items():
        if vectors.has(key):
            yield from vectors.compare({key: value[: len(vectors[key])]}, RGB_ATOL)
