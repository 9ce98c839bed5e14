"""Recorded results of the vanilla NeRF: condition, point queries, sampling, compositing and rays of head and torso."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.encodings import frequency_encode

from geneface_jax.convert.fields import convert_nerf_head, convert_nerf_torso, nerf_sizes
from geneface_jax.convert.rules import Converter, match
from geneface_jax.io import configs
from geneface_jax.models.nerf import NerfHead, NerfTorso, TwoFields
from geneface_jax.rendering.cameras import camera_rays
from geneface_jax.rendering.nerf import Composite, Noise, Rendered, composite, render_rays, sample_pdf
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.vectors import Vectors

ATOL, RTOL = 2e-4, 1e-4
LAST_WEIGHT_ATOL = 5e-4
CONDITION = 1e-5, 1e-4


def check_head(vectors: Vectors) -> Iterator[Comparison]:
    """Everything of Lm3dNeRF."""
    loaded = _load(vectors, "nerf_head", convert_nerf_head)
    if loaded is None:
        return
    head, variables, fits = loaded
    assert isinstance(head, NerfHead)
    yield fits
    yield from _sampling_and_compositing(vectors)
    yield from _queries(vectors, head, variables)
    if vectors.has("in_c2w", "in_bg", "focal"):
        condition = _head_condition(vectors, head, variables, attend=True)
        yield from _rays(vectors, head, variables, condition)


def check_torso(vectors: Vectors) -> Iterator[Comparison]:
    """Everything of ADNeRFTorso. Its camera is the head's, recorded in the sibling folder."""
    loaded = _load(vectors, "nerf_torso", convert_nerf_torso)
    if loaded is None:
        return
    torso, variables, fits = loaded
    assert isinstance(torso, NerfTorso)
    yield fits
    inputs = vectors["in_deepspeech_wins"], vectors["in_euler"], vectors["in_trans"], vectors["in_color"]
    condition = torso.apply(variables, *inputs, method=NerfTorso.condition)
    yield from vectors.compare({"cond_feat": condition}, *CONDITION)
    yield from _rays(vectors, torso, variables, condition)


def _load(vectors: Vectors, stage: str, converter: Converter) -> tuple[TwoFields, Any, Comparison] | None:
    """(network, variables, whether names and shapes match); None without weights."""
    weights = vectors.weights()
    if weights is None:
        return None
    model = configs.load(f"{stage}:reference").model
    model.update(nerf_sizes(weights))
    network: Any = NerfHead.from_config(model) if stage == "nerf_head" else NerfTorso.from_config(model)
    first = "lm_encoder" if stage == "nerf_head" else "aud_net"
    inputs = weights[f"{first}.encoder_conv.0.weight"].shape[1]
    frames = (model.condition_frames,) if model.condition_frames > 1 else ()
    window = jnp.zeros((model.condition_window, *frames, inputs))
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialize"))
    variables, problems = match(weights, converter, expected)
    detail = f" ({'; '.join(problems)})" if problems else ""
    fits = Comparison(f"weights: names and shapes{detail}", float("inf") if problems else 0.0)
    return network, jax.tree.map(jnp.asarray, variables), fits


def _head_condition(vectors: Vectors, head: NerfHead, variables: Any, attend: bool) -> jax.Array:
    window = vectors["in_cond_wins" if attend else "in_cond_win"]
    window = window.reshape(len(window), -1)
    if not attend:  # one frame: repeated over the window
        window = np.repeat(window, vectors["in_cond_wins"].shape[0], axis=0)
    return head.apply(variables, window, attend, method=NerfHead.condition)


def _queries(vectors: Vectors, head: NerfHead, variables: Any) -> Iterator[Comparison]:
    """Encodings, conditions, and both fields at points."""
    if vectors.has("in_pos", "in_view"):
        yield from vectors.compare(
            {"pos_embed": frequency_encode(vectors["in_pos"], 10), "view_embed": frequency_encode(vectors["in_view"], 4)}, 1e-5
        )
    if vectors.has("in_cond_wins", "in_cond_win"):
        found = {"cond_feat_noatt": False, "cond_feat_att": True}
        conditions = {key: _head_condition(vectors, head, variables, attend)[0] for key, attend in found.items()}
        yield from vectors.compare(conditions, *CONDITION)
    if vectors.has("in_pos", "in_view", "cond_feat_att"):
        query = vectors["in_pos"], vectors["in_view"], vectors["cond_feat_att"][None]
        raw = {
            "rgb_sigma_coarse": head.apply(variables, *query, method=NerfHead.query_coarse),
            "rgb_sigma_fine": head.apply(variables, *query, method=NerfHead.query_fine),
        }
        yield from vectors.compare(raw, ATOL, RTOL)


def _sampling_and_compositing(vectors: Vectors) -> Iterator[Comparison]:
    """Inverse transform sampling and compositing."""
    if vectors.has("in_pdf_bins", "in_pdf_weights", "pdf_det"):
        quantiles = jnp.linspace(0.0, 1.0, vectors["pdf_det"].shape[-1])
        found = sample_pdf(jnp.asarray(vectors["in_pdf_bins"]), jnp.asarray(vectors["in_pdf_weights"]), quantiles)
        yield from vectors.compare({"pdf_det": found}, 1e-5, RTOL)
    if vectors.has("in_raw", "in_z", "in_raw_rays_d", "in_raw_bg"):
        keys = ("in_raw", "in_z", "in_raw_rays_d", "in_raw_bg")
        out = composite(*(jnp.asarray(vectors[key]) for key in keys))
        parts = {"rgb": out.rgb, "disp": out.disparity, "acc": out.opacity, "weights": out.weights, "depth": out.depth}
        parts |= {"rgb_fg": out.foreground}
        yield from vectors.compare({f"raw2out_{name}": value for name, value in parts.items()}, 1e-5, RTOL)


def _rays(vectors: Vectors, network: TwoFields, variables: Any, condition: jax.Array) -> Iterator[Comparison]:
    """Rays of a small picture: evenly sampled, with recorded draws, and of the coarse field alone."""
    size = vectors["in_bg"].shape[0]
    if vectors.has("in_c2w", "focal"):
        rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
        intrinsics = jnp.array([vectors["focal"], vectors["focal"], size / 2, size / 2])
        origins, directions = camera_rays(jnp.asarray(vectors["in_c2w"]), intrinsics, rows, columns, 0.0)
        yield from vectors.compare({"rays_o": origins, "rays_d": directions}, 1e-6, 1e-6)
    rays = (jnp.asarray(vectors[key]).reshape(-1, 3) for key in ("rays_o", "rays_d", "in_bg"))
    origins, directions, background = rays

    def query(method: Any) -> Any:
        return lambda points, view: network.apply(variables, points, view, condition, method=method)

    def render(fine_samples: int, noise: Noise | None) -> Rendered:
        return render_rays(
            query(TwoFields.query_coarse),
            query(TwoFields.query_fine),
            origins,
            directions,
            background,
            near=vectors.meta["near"],
            far=vectors.meta["far"],
            samples=vectors.meta["n_samples_per_ray"],
            fine_samples=fine_samples,
            noise=noise,
        )

    fine_samples = vectors.meta["n_samples_per_ray_fine"]
    out = render(fine_samples, None)
    yield from _compare(vectors, "det", out)
    if vectors.has("com_rgb"):
        composited = vectors["in_color"] * out.fine.last_weight[:, None] + out.fine.foreground
        yield from vectors.compare({"com_rgb": composited}, ATOL)
    if vectors.has("in_t_rand", "in_pdf_u"):
        noise = Noise(jnp.asarray(vectors["in_t_rand"]), jnp.asarray(vectors["in_pdf_u"]))
        yield from _compare(vectors, "pert", render(fine_samples, noise))
    if vectors.has("coarse_only_rgb"):
        only = render(0, None)
        yield from vectors.compare({"coarse_only_rgb": only.fine.rgb}, ATOL)
        for found in vectors.find(r"coarse_only_raw_first(\d+)"):
            depths = jnp.linspace(vectors.meta["near"], vectors.meta["far"], vectors.meta["n_samples_per_ray"])
            first = int(found[1])
            points = origins[:first, None] + directions[:first, None] * depths[:, None]
            view = directions[:first] / jnp.linalg.norm(directions[:first], axis=-1, keepdims=True)
            yield from vectors.compare({found[0]: query(TwoFields.query_coarse)(points, view)}, ATOL, RTOL)


def _compare(vectors: Vectors, prefix: str, out: Rendered) -> Iterator[Comparison]:
    """The original's names: suffix `0` or `_coarse` for the coarse pass; `acc` and `accu` for the opacity."""
    fine: Composite = out.fine
    coarse: Composite = out.coarse
    colors = {
        "rgb_map": fine.rgb,
        "rgb_map_fg": fine.foreground,
        "rgb_map_coarse": coarse.rgb,
        "rgb_map_fg0": coarse.foreground,
        "acc_map": fine.opacity,
        "accu_map_coarse": coarse.opacity,
        "disp_map": fine.disparity,
        "disp_map_coarse": coarse.disparity,
        "z_std": out.spread,
    }
    yield from vectors.compare({f"{prefix}_{name}": value for name, value in colors.items()}, ATOL, RTOL)
    weights = {"last_weight": fine.last_weight, "last_weight0": coarse.last_weight}
    yield from vectors.compare({f"{prefix}_{name}": value for name, value in weights.items()}, LAST_WEIGHT_ATOL)
