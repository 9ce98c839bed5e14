"""Recorded results of GeneFace++'s heads: RADNeRFwithSR without super-resolution (condition, points, pictures), and plain RADNeRF."""

from __future__ import annotations

from collections.abc import Iterator

from geneface_jax.models.head import Head
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks import radnerf_frames
from tests.parity.networks.fields import CONDITION_ATOL, CONDITION_RTOL, check_geometry, check_points, condition, load_head
from tests.parity.networks.vectors import Vectors

_BLINK = ("blink_embedding.", "blink_encoder.")


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Condition, points and pictures of both."""
    weights = vectors.weights()
    if weights is None:
        return
    if vectors.has("in_cond", "in_eye_area_percent", "cond_feat"):
        head, variables, fits = load_head(weights)
        yield fits
        closed, frames = condition(head, variables, vectors["in_cond"])
        found, _ = condition(head, variables, vectors["in_cond"], float(vectors["in_eye_area_percent"].item()))
        results = {"cond_feat_noeye": closed, "cond_feat": found, "cond_prenet": frames}
        yield from vectors.compare(results, CONDITION_ATOL, CONDITION_RTOL)
        if vectors.has("in_pos", "in_dir"):
            yield from check_points(vectors, head, variables, vectors["cond_feat"], "query")
            geometry = head.apply(variables, vectors["in_pos"], vectors["cond_feat"][None], method=Head.density)[1]
            yield from check_geometry(vectors, geometry)
        yield from radnerf_frames.check_rays(vectors)
        yield from radnerf_frames.check_frames(vectors, head, variables, weights)
    extra = vectors.weights("weights_plain_extra")
    if extra is not None and vectors.has("in_plain_cond", "plain_cond_feat"):
        plain = {key: value for key, value in weights.items() if not key.startswith(_BLINK)} | extra
        head, variables, fits = load_head(plain, "weights_plain_extra")
        yield fits
        found, _ = condition(head, variables, vectors["in_plain_cond"])
        yield from vectors.compare({"plain_cond_feat": found}, CONDITION_ATOL, CONDITION_RTOL)
        if vectors.has("in_pos", "in_dir"):
            yield from check_points(vectors, head, variables, vectors["plain_cond_feat"], "plain")
        yield from radnerf_frames.check_frames(vectors, head, variables, weights, "plain_cond_feat", "plain_")
