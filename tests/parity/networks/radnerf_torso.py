"""Recorded results of GeneFace's RADNeRFTorso: points, pictures under its occupancy plane, a training step, an update of the plane."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.encodings import frequency_encode

from geneface_jax.convert.fields import convert_torso, torso_part
from geneface_jax.models.torso import Torso, TorsoSample
from geneface_jax.rendering.field import render_rays
from geneface_jax.training.field_losses import opacity_entropy
from tests.parity.kernels.comparison import Comparison, compare
from tests.parity.kernels.torso_plane import plane_cell_points, plane_lookup, plane_update
from tests.parity.networks import radnerf_frames
from tests.parity.networks.fields import check_table_gradients, check_typical, condition, leaf, load_head, load_torso, occupied_cells
from tests.parity.networks.radnerf_training import FIELD_SHARE
from tests.parity.networks.vectors import GRADIENT_SHARE, Vectors

ATOL = 3e-4
"""The highest octave multiplies rounding errors of the coordinates by 512."""
_THROUGH_GRID = "torso_deform_net.*"
"""Parameters with gradients through the grid's coordinates: a point at the border of a fine cell may round to either side."""
TRAINED_CODE, UPDATED_CODE = 3, 1
"""Appearance codes of the recorded training step and of the recorded update of the plane."""
TRAINED_MEAN = 0.02
"""Mean of the plane in the `render_meandens_*` pictures; a loaded checkpoint does not hold it, so the other pictures use 0."""


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Everything recorded; ours has no occupancy plane, so pictures are compared where theirs evaluates the torso."""
    weights = vectors.weights()
    if weights is None or not vectors.has("pose6"):
        return
    torso, variables, fits = load_torso(weights)
    yield fits
    yield from _points(vectors, torso, variables)
    plane = occupancy_plane(weights)
    if vectors.has("bg_coords", "in_bg_color"):
        yield from _pictures(vectors, torso, variables, plane)
    if vectors.has("bg_coords", "in_bg_color", "in_train_target"):
        yield from _training_step(vectors, torso, variables, plane)
    if vectors.has("in_update_noise_u8"):
        yield from _plane_update(vectors, torso, variables, plane)


def occupancy_plane(weights: Mapping[str, np.ndarray]) -> jax.Array:
    """[R, R] `density_grid_torso` in our axis order."""
    flat = jnp.asarray(weights["density_grid_torso"])
    return flat.reshape(math.isqrt(flat.size), -1).T


def evaluate(torso: Torso, variables: Any, coords: Any, condition: Any, code: int, head: Any = None) -> TorsoSample:
    """The field at [M, 2] under one condition [1, C] and the code of a frame."""
    row = torso.apply(variables, jnp.array([code]), method=Torso.code)
    return torso.apply(variables, jnp.asarray(coords), jnp.asarray(condition), row, None, head)


def compare_sample(vectors: Vectors, prefix: str, sample: TorsoSample) -> Iterator[Comparison]:
    """`<prefix>_alpha`, `_color`, `_deform` of recorded points."""
    found = {"alpha": sample.alpha[:, None], "color": sample.rgb, "deform": sample.deformation}
    yield from vectors.compare({f"{prefix}_{name}": value for name, value in found.items()}, ATOL)


def _points(vectors: Vectors, torso: Torso, variables: Any) -> Iterator[Comparison]:
    if not vectors.has("in_x", "in_pose"):
        return
    for found in vectors.find(r"(torso_code(\d+))_alpha"):
        yield from compare_sample(vectors, found[1], evaluate(torso, variables, vectors["in_x"], vectors["in_pose"], int(found[2])))
    yield from vectors.compare({"torso_pose_embed": frequency_encode(jnp.asarray(vectors["in_pose"]), 4)}, ATOL)
    for found in vectors.find(r"torso_x_embed_first(\d+)"):
        shrunk = jnp.asarray(vectors["in_x"][: int(found[1])]) * torso.shrink
        yield from vectors.compare({found[0]: frequency_encode(shrunk, 10)}, ATOL)


def _pictures(vectors: Vectors, torso: Torso, variables: Any, plane: jax.Array) -> Iterator[Comparison]:
    coords, background = vectors["bg_coords"][0], vectors["in_bg_color"][0]
    occupancy = np.asarray(plane_lookup(plane, jnp.asarray(coords)))
    sample = evaluate(torso, variables, coords, vectors["pose6"], 0)
    head_picture = _head_picture(vectors)
    for name, mean in (("render", 0.0), ("render_meandens", TRAINED_MEAN)):
        if not vectors.has(f"{name}_torso_alpha"):
            continue
        evaluated = occupancy > min(vectors.meta["density_thresh_torso"], mean)
        yield from vectors.compare({f"{name}_n_deform": evaluated.sum()}, 0.0)
        alpha = np.where(evaluated, sample.alpha, 0.0)[:, None]
        rgb = np.asarray(sample.rgb) * alpha + background * (1.0 - alpha)
        yield from vectors.compare({f"{name}_torso_alpha": alpha, f"{name}_torso_rgb": rgb[None]}, ATOL)
        if head_picture is not None and vectors.has(f"{name}_rgb", "render_stable"):
            composited = np.clip(head_picture[0] + (1.0 - head_picture[1])[:, None] * rgb, 0.0, 1.0)
            stable = vectors["render_stable"][None]
            atol, median = radnerf_frames.PICTURE_ATOL, radnerf_frames.PICTURE_MEDIAN
            yield from check_typical(f"{name}_rgb", composited[None], vectors[f"{name}_rgb"], atol, median, stable)


def _head_picture(vectors: Vectors) -> tuple[np.ndarray, np.ndarray] | None:
    """(color, opacity) of the head in the recorded rays; None without the head's folder."""
    folder = vectors.folder.parent / "v1_radnerf_head"
    if not folder.is_dir() or not vectors.has("rays_o", "rays_d", "in_cond"):
        return None
    head_vectors = Vectors(folder)
    weights = head_vectors.weights()
    head, variables, _ = load_head(weights)
    feature, _ = condition(head, variables, vectors["in_cond"])
    field = radnerf_frames.head_field(head, variables, feature)
    rays = jnp.asarray(vectors["rays_o"][0]), jnp.asarray(vectors["rays_d"][0])
    traced = head_vectors.has("render_trace")
    max_samples = int(head_vectors["render_trace"][:, 1].sum()) if traced else int(vectors.meta["max_steps"])
    settings = radnerf_frames.march_settings(vectors, max_samples)
    out = render_rays(field, *rays, occupied_cells(weights), settings, radnerf_frames.END_THRESHOLD)
    return np.asarray(out.rgb), np.asarray(out.alpha)


def _training_step(vectors: Vectors, torso: Torso, variables: Any, plane: jax.Array) -> Iterator[Comparison]:
    coords, background = jnp.asarray(vectors["bg_coords"][0]), jnp.asarray(vectors["in_bg_color"][0])
    target = jnp.asarray(vectors["in_train_target"][0])
    evaluated = plane_lookup(plane, coords) > 0.0

    def loss(params: Any) -> tuple[jax.Array, Any]:
        sample = evaluate(torso, {"params": params}, coords, vectors["pose6"], TRAINED_CODE)
        alpha = jnp.where(evaluated, sample.alpha, 0.0)[:, None]
        rgb = sample.rgb * alpha + background * (1.0 - alpha)
        mse, entropy = jnp.mean((rgb - target) ** 2), jnp.mean(opacity_entropy(alpha))
        return mse + 1e-4 * entropy, (mse, entropy, alpha, rgb)

    grads, (mse, entropy, alpha, rgb) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    yield from vectors.compare({"train_torso_alpha": alpha, "train_torso_rgb": rgb[None]}, ATOL)
    yield from vectors.compare({"train_loss_mse": mse, "train_loss_entropy": entropy}, 1e-6, 1e-3)
    yield from vectors.gradients("train_grad__", grads, convert_torso, skip=rf"torso_individual_codes_row\d+|{_THROUGH_GRID}")
    yield from vectors.gradients("train_grad__", grads, convert_torso, skip=rf"(?!{_THROUGH_GRID}).*", share=FIELD_SHARE)
    for found in vectors.find(r"train_grad__torso_individual_codes_row(\d+)"):
        theirs = vectors[found[0]]
        yield compare(found[0], grads["frame_codes"][int(found[1])], theirs, atol=GRADIENT_SHARE * np.abs(theirs).max(), rtol=2e-3)
    yield from check_table_gradients(vectors, "torso_embedder", torso.grid, leaf(grads, "encoder/table"), GRADIENT_SHARE)
    if vectors.has("train_params_with_grad"):
        theirs = {str(name) for name in vectors["train_params_with_grad"]}
        ours = set(torso_part(vectors.weights() or {}))
        yield Comparison("train_params_with_grad", 0.0 if ours == theirs else float("inf"))


def _plane_update(vectors: Vectors, torso: Torso, variables: Any, plane: jax.Array) -> Iterator[Comparison]:
    side = len(plane)
    noise = jnp.asarray(vectors["in_update_noise_u8"].reshape(side, side, 2), jnp.float32) / 256.0
    points = plane_cell_points(noise).reshape(-1, 2)
    sample = evaluate(torso, variables, points, vectors["pose6"], UPDATED_CODE)
    updated = plane_update(plane, sample.alpha.reshape(side, side))
    yield from vectors.compare({"update_density_grid_torso": updated.T.reshape(-1)}, ATOL)
    yield from vectors.compare({"update_mean_density_torso": jnp.mean(updated)}, 1e-4)
