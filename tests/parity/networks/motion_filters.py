"""Recorded results of the originals' post-processing of landmarks (LLE, clamp, smoothing, blinks) and camera paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geneface_jax.data.motion import windows
from geneface_jax.inference import motion_filters as filters
from geneface_jax.inference.blinks import blink_envelope
from geneface_jax.inference.motion import smooth_cameras
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.vectors import Vectors

ATOL = 1e-4
OPEN, CLOSED, PERIOD = 0.57, 0.13, 100
"""Eye openness of the recorded blinks, and frames between them."""

_UPPER = 144
"""Coordinates of jaw, brows, nose and eyes, which the originals' vanilla NeRF projects."""


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Everything with a counterpart here; intended deviations (docs/deviations.md) are excluded."""
    if vectors.has("in_feats", "in_database"):
        yield from _projections(vectors)
    if vectors.has("in_pp_pred_lm3d", "in_pp_mean", "in_pp_std"):
        yield from _post_processing(vectors)
    if vectors.has("in_smooth_x"):
        yield from _moving_averages(vectors)
    if vectors.has("in_cam_path"):
        yield from _camera_paths(vectors)
    if vectors.has("blink_eye_area_percent"):
        yield from _blinks(vectors)


def _projections(vectors: Vectors) -> Iterator[Comparison]:
    """Without our ridge regularization, which the originals do not have."""
    feats, database = vectors["in_feats"], vectors["in_database"]
    for found in vectors.find(r"(c(\d+)_k(\d+)_)fuse"):
        prefix, dims, neighbors = found[1], int(found[2]), int(found[3])
        ours = filters.lle_project(feats[:, :dims], database[:, :dims], neighbors, 1.0, ridge=0.0)
        yield from vectors.compare({f"{prefix}fuse": ours, f"{prefix}errors": np.abs(ours - feats[:, :dims]).mean(-1)}, ATOL)
        if not vectors.has(f"{prefix}index"):
            continue
        # Ours does not return weights: their neighbors combined with their weights must equal our projection.
        points = database[:, :dims].astype(np.float64)[vectors[f"{prefix}index"]]
        for key in (f"{prefix}weights", f"{prefix}weights_exact_f64"):
            if vectors.has(key):
                theirs = np.einsum("tk,tkd->td", vectors[key].astype(np.float64), points)
                tolerance = ATOL if key.endswith("weights") else 1e-6
                yield Comparison(f"{key} of {prefix}index", float(np.abs(theirs - ours).max() / tolerance))
    if vectors.has("k1_fuse"):
        yield from vectors.compare({"k1_fuse": filters.lle_project(feats, database, 1, 1.0, ridge=0.0)}, ATOL)
        yield from vectors.compare({"k1_weights": np.ones((len(feats), 1), np.float32)}, ATOL)
    for found in vectors.find(r"blend_p([\d.]+)"):
        yield from vectors.compare({found[0]: filters.lle_project(feats, database, 10, float(found[1]), ridge=0.0)}, ATOL)


def _post_processing(vectors: Vectors) -> Iterator[Comparison]:
    motion = vectors["in_pp_pred_lm3d"]
    mean, std = (vectors[f"in_pp_{name}"].reshape(-1) for name in ("mean", "std"))

    def clamped(limit: float) -> np.ndarray:
        return filters.clamp(motion, mean, std, limit)

    def normal(x: np.ndarray) -> np.ndarray:
        return (x - mean) / std

    yield from vectors.compare({"pp_nerf_clamp2_cond": normal(clamped(2.0))}, ATOL)
    limit = float(vectors["pp_radnerf_clamp_std"]) if vectors.has("pp_radnerf_clamp_std") else 2.5
    smoothed = normal(filters.smooth_exponential(clamped(limit)))
    first_second_middle_last = windows(smoothed, 5)[[0, 1, len(smoothed) // 2, -1]][:, :, None]
    yield from vectors.compare({"pp_radnerf_cond": smoothed, "pp_radnerf_cond_wins_idx_0_1_mid_last": first_second_middle_last}, ATOL)
    if vectors.has("in_database"):
        projected = normal(clamped(2.0))
        database = vectors["in_database"][:, :_UPPER]
        projected[:, :_UPPER] = filters.lle_project(projected[:, :_UPPER], database, 10, 0.5, ridge=0.0)
        yield from vectors.compare({"pp_nerf_lle05_cond": projected}, ATOL)


def _moving_averages(vectors: Vectors) -> Iterator[Comparison]:
    """Theirs repeats the edge frame when reflecting, ours does not: frames whose window lies inside are compared."""
    x = vectors["in_smooth_x"]
    for found in vectors.find(r"smooth_k(\d+)"):
        window = int(found[1])
        inside = np.zeros(len(x), bool)
        inside[window // 2 : len(x) - window // 2] = True
        yield from vectors.compare({found[0]: filters.smooth_moving_average(x, window)}, 1e-5, where=inside)


def _camera_paths(vectors: Vectors) -> Iterator[Comparison]:
    """Smoothed poses. At the ends theirs averages the available frames, ours repeats the first and last one."""
    cameras = vectors["in_cam_path"]
    for found in vectors.find(r"cam_path_smooth_k(\d+)"):
        window = int(found[1])
        inside = np.zeros(len(cameras), bool)
        inside[window // 2 : len(cameras) - window // 2] = True
        yield from vectors.compare({found[0]: smooth_cameras(cameras, window)}, 1e-5, where=inside)


def _blinks(vectors: Vectors) -> Iterator[Comparison]:
    """Times and depths of blinks; the originals' openness between blinks is always 0.6, so only frames of blinks are compared."""
    closed = blink_envelope(vectors.arrays["blink_eye_area_percent"].shape[0], PERIOD)
    openness = (OPEN * (1.0 - closed) + CLOSED * closed)[:, None]
    yield from vectors.compare({"blink_eye_area_percent": openness}, ATOL, where=closed > 0)
