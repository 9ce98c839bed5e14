"""Recorded results of GeneFace++'s RADNeRFTorsowithSR: points, and a whole frame from landmarks to 512 x 512."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.encodings import frequency_encode

from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import image_coords, pixel_rays, pose_vector, scene_pose
from geneface_jax.rendering.field import JAW, render_rays
from tests.parity.kernels.comparison import Comparison
from tests.parity.kernels.torso_plane import plane_lookup
from tests.parity.networks import radnerf_frames, super_resolution
from tests.parity.networks.fields import CONDITION_ATOL, CONDITION_RTOL, condition, load_head, load_torso, occupied_cells
from tests.parity.networks.radnerf_torso import compare_sample, evaluate, occupancy_plane
from tests.parity.networks.vectors import Vectors

PICTURE_ATOL, PICTURE_MEDIAN = 1e-3, 1e-4
SHARES = {"full_sr_": 0.95}
SHARE = 0.995
"""A silhouette may round to either side of a pixel: this share of a picture is within the tolerance, and half of it within the smaller one.
Super-resolution spreads such a pixel over its neighborhood."""


def check(vectors: Vectors) -> Iterator[Comparison]:
    """The torso's field, with and without a head in front; the head's condition; a frame."""
    weights = _all_weights(vectors)
    if weights is None or not vectors.has("in_x", "in_lm68", "in_head_image", "in_head_weights_sum"):
        return
    torso, variables, fits = load_torso(weights)
    yield fits
    jaw = jnp.asarray(vectors["in_lm68"]).reshape(1, 68, 2)[:, JAW].reshape(1, -1)
    yield from vectors.compare({"lm68_embed": frequency_encode(jaw, 4)}, CONDITION_ATOL)
    head_picture = jnp.concatenate([vectors["in_head_image"], vectors["in_head_weights_sum"]], axis=-1)
    yield from compare_sample(vectors, "torso", evaluate(torso, variables, vectors["in_x"], jaw, 0, head_picture))
    for found in vectors.find(r"(torso_noimage_code(\d+))_alpha"):
        yield from compare_sample(vectors, found[1], evaluate(torso, variables, vectors["in_x"], jaw, int(found[2])))
    yield from _unused_pose(vectors)
    if vectors.has("in_cond", "in_eye_area_percent"):
        head, head_variables, fits = load_head(weights, "weights of the head")
        yield fits
        feature, _ = condition(head, head_variables, vectors["in_cond"], float(vectors["in_eye_area_percent"].item()))
        yield from vectors.compare({"cond_feat": feature}, CONDITION_ATOL, CONDITION_RTOL)
        if vectors.has("in_full_c2w", "in_full_intrinsics", "in_full_bg_u8", "full_trace"):
            field = radnerf_frames.head_field(head, head_variables, feature)
            yield from _frame(vectors, weights, field, torso, variables, jaw)


def _unused_pose(vectors: Vectors) -> Iterator[Comparison]:
    """The pose recorded with the points, which is no input here, is that of the head's camera."""
    folder = vectors.folder.parent / "pp_radnerf_head_sr"
    if vectors.has("pose6") and folder.is_dir():
        camera = Vectors(folder)["in_c2w"]
        yield from vectors.compare({"pose6": pose_vector(scene_pose(jnp.asarray(camera)[None]))}, radnerf_frames.RAY_ATOL)


def _all_weights(vectors: Vectors) -> dict[str, np.ndarray] | None:
    """The complete state_dict: head and super-resolution of the sibling folders, overridden by this folder's keys."""
    parts = vectors.weights(sibling="pp_radnerf_head_sr"), vectors.weights(sibling="pp_sr_net"), vectors.weights()
    if any(part is None for part in parts):
        return None
    return {key: value for part in parts for key, value in (part or {}).items()}


def _frame(
    vectors: Vectors, weights: Mapping[str, np.ndarray], field: Any, torso: Torso, variables: Any, jaw: jax.Array
) -> Iterator[Comparison]:
    size = vectors.arrays["in_full_bg_u8"].shape[0]
    background = vectors["in_full_bg_u8"].reshape(-1, 3).astype(np.float32) / 256.0
    pose = scene_pose(jnp.asarray(vectors["in_full_c2w"])[None])
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    rays_o, rays_d = pixel_rays(pose, jnp.asarray(vectors["in_full_intrinsics"]), rows.reshape(-1), columns.reshape(-1))
    settings = radnerf_frames.march_settings(vectors, int(vectors["full_trace"][:, 1].sum()))
    out = render_rays(field, rays_o[0], rays_d[0], occupied_cells(weights), settings, radnerf_frames.END_THRESHOLD)
    head_picture = jnp.concatenate([out.rgb, out.alpha[:, None]], axis=-1)
    sample = evaluate(torso, variables, image_coords(size, size), jaw, 0, head_picture)
    # The original evaluates the torso where its occupancy plane is not empty, we evaluate it everywhere.
    occupied = plane_lookup(occupancy_plane(weights), jnp.asarray(image_coords(size, size))) > 0.0
    alpha = jnp.where(occupied, sample.alpha, 0.0)[:, None]
    torso_rgb = sample.rgb * alpha + background * (1.0 - alpha)
    picture = jnp.clip(out.rgb + (1.0 - out.alpha)[:, None] * torso_rgb, 0.0, 1.0).reshape(1, size, size, 3)
    parts = {
        "full_rgb_map_stride": np.asarray(picture).transpose(0, 3, 1, 2),
        "full_torso_rgb_map_stride": np.asarray(torso_rgb).reshape(1, size, size, 3).transpose(0, 3, 1, 2),
        "full_torso_alpha_stride": np.asarray(alpha).reshape(size, size),
    }
    noise = super_resolution.recorded_noise(vectors, "full_")
    if noise is not None:
        network, sr_variables, fits = super_resolution.load(
            {key: value for key, value in weights.items() if key.startswith("sr_net.")}, "weights of the super-resolution"
        )
        yield fits
        large = network.apply(super_resolution.with_noise(sr_variables, noise), picture, "constant")
        parts["full_sr_rgb_map_stride"] = parts["full_sr_crop_mid"] = np.clip(np.asarray(large), 0.0, 1.0).transpose(0, 3, 1, 2)
    for prefix, part in parts.items():
        for found in vectors.find(rf"{re.escape(prefix)}(\d+)"):
            n, middle = int(found[1]), part.shape[-1] // 2
            inside = slice(middle - n // 2, middle + n - n // 2)
            ours = part[..., inside, inside] if prefix.endswith("mid") else part[..., ::n, ::n]
            yield from _compare_share(found[0], ours, vectors[found[0]])


def _compare_share(key: str, ours: np.ndarray, theirs: np.ndarray) -> Iterator[Comparison]:
    if ours.shape != theirs.shape:
        yield Comparison(f"{key} (shape {ours.shape}, recorded {theirs.shape})", float("inf"))
        return
    share = next((share for prefix, share in SHARES.items() if key.startswith(prefix)), SHARE)
    error = np.abs(ours - theirs)
    yield Comparison(f"{key} ({share:.1%})", float(np.quantile(error, share) / PICTURE_ATOL))
    yield Comparison(f"{key} (median)", float(np.median(error) / PICTURE_MEDIAN))
