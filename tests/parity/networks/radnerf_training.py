"""A recorded training step of a RAD-NeRF head: marched rays, losses, and gradients back to the condition encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.compositing.api import composite_train
from geneface_kernels.compositing.lanes import Composite
from geneface_kernels.ray_marching.api import march_train
from geneface_kernels.ray_marching.geometry import MarchConfig

from geneface_jax.convert.fields import convert_head
from geneface_jax.models.head import Head
from geneface_jax.training.field_losses import ambient_outside_face, opacity_entropy
from tests.parity.kernels.comparison import Comparison, compare
from tests.parity.networks.fields import check_table_gradients, check_typical, leaf, occupied_cells
from tests.parity.networks.radnerf_frames import GRID_RESOLUTION, PICTURE_ATOL, PICTURE_MEDIAN, entry_jitter
from tests.parity.networks.vectors import Vectors

CODE = 3
"""Appearance code of the recorded step."""
LOSS_ATOL, LOSS_RTOL = 1e-6, 1e-3
FIELD_SHARE = 1e-2
"""Tolerance of gradients as a share of the largest entry. Moving all samples by 5e-7 of the scene changes them by 3 %, because they pass
through the finest levels of the grids; the recorded ones differ by a third of that."""


def check(vectors: Vectors, head: Head, variables: Any, weights: Mapping[str, np.ndarray]) -> Iterator[Comparison]:
    """`train_*` without jitter with its losses and gradients, and `train_perturb_*` with the recorded jitter."""
    if not vectors.has("rays_o", "rays_d", "nears", "fars", "in_cond", "in_train_target", "in_train_face_mask", "in_bg_color"):
        return
    occupied = occupied_cells(weights)[None]
    near, far = jnp.asarray(vectors["nears"]), jnp.asarray(vectors["fars"])
    target, outside = jnp.asarray(vectors["in_train_target"][0]), jnp.asarray(vectors["in_train_face_mask"])

    rays = vectors["rays_o"][0], vectors["rays_d"][0]
    entry_offsets = jnp.asarray(entry_jitter(vectors, rays, near))

    def render(params: Any, noise: jax.Array) -> tuple[Composite, jax.Array, jax.Array]:
        window = vectors["in_cond"].reshape(1, len(vectors["in_cond"]), -1)
        feature = head.apply({"params": params}, window, jnp.zeros(1), method=Head.condition)
        code = head.apply({"params": params}, jnp.array([CODE]), method=Head.code)
        return _march_and_composite(vectors, head, params, feature, code, noise, near, far, occupied)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        out, rgb, samples = render(params, entry_offsets)
        losses = {
            "mse": jnp.mean((rgb - target) ** 2),
            "entropy": jnp.mean(opacity_entropy(out.alpha)),
            "ambient": jnp.mean(ambient_outside_face(out.ambient, outside.astype(jnp.float32))),
        }
        weighted = {"mse": 1.0, "entropy": vectors.meta["lambda_weights_entropy"], "ambient": vectors.meta["lambda_ambient"]}
        total = sum(weighted[name] * value for name, value in losses.items())
        return total, ({**losses, "total": total}, out, rgb, samples)

    grads, (losses, out, rgb, samples) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    yield from vectors.compare({f"train_loss_{name}": value for name, value in losses.items()}, LOSS_ATOL, LOSS_RTOL)
    if vectors.has("train_step_counter"):
        yield compare("train_step_counter", np.array([samples, len(near)]), vectors["train_step_counter"], atol=1.0, rtol=1e-3)
    yield from _pictures(vectors, "train", out, rgb, near, far)
    yield from _gradients(vectors, head, grads)
    if vectors.has("in_train_noise"):
        out, rgb, samples = jax.jit(render)(variables["params"], jnp.asarray(vectors["in_train_noise"]))
        yield from _pictures(vectors, "train_perturb", out, rgb, near, far)
        if vectors.has("train_perturb_step_counter"):
            counted = np.array([samples, len(near)])
            yield compare("train_perturb_step_counter", counted, vectors["train_perturb_step_counter"], atol=1.0, rtol=1e-3)


def _march_and_composite(
    vectors: Vectors,
    head: Head,
    params: Any,
    feature: jax.Array,
    code: jax.Array,
    noise: jax.Array,
    near: jax.Array,
    far: jax.Array,
    occupied: jax.Array,
) -> tuple[Composite, jax.Array, jax.Array]:
    """(sums per ray, picture [N, 3] over the recorded background, number of samples [])."""
    rays_o, rays_d = jnp.asarray(vectors["rays_o"][0]), jnp.asarray(vectors["rays_d"][0])
    marching = MarchConfig(
        float(vectors.meta["bound"]), GRID_RESOLUTION, dt_gamma=vectors.meta["dt_gamma"], max_steps=int(vectors.meta["max_steps"])
    )
    marched = march_train(rays_o, rays_d, near, far, noise, occupied, marching, len(near) * marching.max_steps)
    sample = head.apply({"params": params}, marched.points, marched.directions, feature, code)
    out = composite_train(
        sample.sigma,
        sample.rgb,
        jnp.sum(jnp.abs(sample.ambient), axis=-1),
        marched.deltas,
        marched.offsets,
        marched.counts,
        max_samples=marching.max_steps,
    )
    picture = jnp.clip(out.rgb + (1.0 - out.alpha)[:, None] * jnp.asarray(vectors["in_bg_color"][0]), 0.0, 1.0)
    return out, picture, marched.total


def _pictures(vectors: Vectors, prefix: str, out: Composite, rgb: Any, near: jax.Array, far: jax.Array) -> Iterator[Comparison]:
    parts = {
        "rgb": np.asarray(rgb)[None],
        "depth": np.asarray(jnp.maximum(out.depth - near, 0.0) / (far - near))[None],
        "weights_sum": out.alpha,
        "ambient": out.ambient,
    }
    stable = vectors["render_stable"]
    for name, value in parts.items():
        key = f"{prefix}_{name}"
        if vectors.has(key):
            where = stable[None] if np.ndim(value) > 1 else stable
            where = where & np.isfinite(vectors[key]).reshape(*where.shape, -1).all(-1)
            yield from check_typical(key, value, vectors[key], PICTURE_ATOL, PICTURE_MEDIAN, where)


def _gradients(vectors: Vectors, head: Head, grads: Any) -> Iterator[Comparison]:
    yield from vectors.gradients("train_grad__", grads, convert_head, skip=r"individual_embeddings_row\d+", share=FIELD_SHARE)
    for found in vectors.find(r"train_grad__individual_embeddings_row(\d+)"):
        theirs = vectors[found[0]]
        yield compare(found[0], grads["frame_codes"][int(found[1])], theirs, atol=1e-3 * np.abs(theirs).max(), rtol=2e-3)
    for name, spec in (("position", head.position_grid), ("ambient", head.ambient_grid)):
        yield from check_table_gradients(vectors, f"{name}_embedder", spec, leaf(grads, f"{name}_encoder/table"), FIELD_SHARE)
