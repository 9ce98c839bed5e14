"""Small made-up state dicts of the original radiance fields, with the names and layouts of the originals."""

from __future__ import annotations

import numpy as np
from geneface_kernels.grid_encoding import GridSpec

HPARAMS = {"log2_hashmap_size": 8, "desired_resolution": 32, "max_steps": 6, "min_near": 0.05, "density_thresh": 10, "camera_scale": 4.0}
"""What their config.yaml would say of these sizes."""

RESOLUTION, HIDDEN, GEOMETRY, CONDITION, CODES = 8, 12, 6, 8, 30


def head(seed: int = 0, *, blink: int = 0, window: int = 5, ambient: int = 2, channels: int = 204, super_resolution: bool = False):
    """RADNeRF, or with `blink` and `super_resolution` GeneFace++'s; a ball of density in the middle."""
    rng = np.random.default_rng(seed)
    half, full = CONDITION // 2, CONDITION
    weights = {"individual_embeddings": rng.normal(size=(CODES, 4))}
    for i, (out, wide) in enumerate(((half, channels), (half, half), (full, half), (full, full))):
        weights |= _layer(rng, f"cond_prenet.encoder_conv.{2 * i}", (out, wide, 3))
    for i in range(2):
        weights |= _layer(rng, f"cond_prenet.encoder_fc1.{2 * i}", (full, full))
    for i, (out, wide) in enumerate(((16, full), (8, 16), (4, 8), (2, 4), (1, 2))):
        weights |= _layer(rng, f"cond_att_net.attentionConvNet.{2 * i}", (out, wide, 3))
    weights |= _layer(rng, "cond_att_net.attentionNet.0", (window, window))
    if blink:
        weights["blink_embedding.weight"] = rng.normal(size=(1, half))
        weights |= _layer(rng, "blink_encoder.0", (half, half)) | _layer(rng, "blink_encoder.1", (blink, half))
    for name, dims in (("position", 3), ("ambient", ambient)):
        weights |= _grid(rng, f"{name}_embedder", dims)
    for name, sizes in (
        ("ambient_net", (32 + full, HIDDEN, HIDDEN, ambient)),
        ("sigma_net", (64, HIDDEN, HIDDEN, 1 + GEOMETRY)),
        ("color_net", (16 + GEOMETRY + 4, HIDDEN, 3)),
    ):
        for i in range(len(sizes) - 1):
            weights[f"{name}.net.{i}.weight"] = rng.normal(size=(sizes[i + 1], sizes[i])) / np.sqrt(sizes[i])
    weights |= _buffers()
    if super_resolution:
        weights |= {"lambda_ambient": np.ones(1), **_super_resolution(rng)}
    return {name: np.asarray(value) if np.asarray(value).dtype.kind in "iu" else np.float32(value) for name, value in weights.items()}


def torso(head_weights: dict[str, np.ndarray], seed: int = 1, *, jaw: bool = False, head_aware: bool = False) -> dict[str, np.ndarray]:
    """RADNeRFTorso around a head."""
    rng = np.random.default_rng(seed)
    shared = 42 + (126 if jaw else 54) + 8 + (16 if head_aware else 0)
    spec = GridSpec(dims=2, kind="tiled")
    weights = {
        "torso_individual_codes": rng.normal(size=(CODES, 8)),
        "density_grid_torso": np.zeros(16),
        "torso_embedder.embeddings": rng.uniform(-0.5, 0.5, (spec.rows, 2)),
        "torso_embedder.offsets": np.zeros(17, np.int32),
    }
    for name, sizes in (("torso_deform_net", (shared, 64, 64, 2)), ("torso_canonicial_net", (32 + shared, 32, 32, 4))):
        for i in range(3):
            weights[f"{name}.net.{i}.weight"] = rng.normal(size=(sizes[i + 1], sizes[i])) / np.sqrt(sizes[i])
    if head_aware:
        for i, (out, wide) in enumerate(((16, 4), (32, 16), (16, 32))):
            weights |= _layer(rng, f"head_color_weights_encoder.{2 * i}", (out, wide))
    weights = {name: np.asarray(value) if np.asarray(value).dtype.kind in "iu" else np.float32(value) for name, value in weights.items()}
    return {name: value for name, value in head_weights.items() if name != "lambda_ambient"} | weights


def _layer(rng, name, shape):
    return {f"{name}.weight": rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])), f"{name}.bias": 0.1 * rng.normal(size=shape[0])}


def _grid(rng, name, dims):
    spec = GridSpec(dims=dims, kind="tiled", log2_table_size=8, finest_resolution=32)
    return {f"{name}.embeddings": rng.uniform(-0.5, 0.5, (spec.rows, 2)), f"{name}.offsets": np.zeros(17, np.int32)}


def _buffers():
    """A ball, as densities along the Morton curve and as bits."""
    from tests.parity.kernels.morton import pack_bits, to_morton_order

    axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION * 2 - 1
    distance = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1)
    # Not the same along every axis, so that an order that is mistaken shows.
    grid = np.where(distance < 0.6, 40.0 + axis[:, None, None], np.where(distance < 1.2, 0.0, -1.0)).astype(np.float32)
    grid[0, 1, 2] = 50.0
    morton = np.asarray(to_morton_order(grid[None]))
    box = np.array([-1, -0.5, -1, 1, 0.5, 1], np.float32)
    return {
        "aabb_train": box,
        "aabb_infer": box,
        "density_grid": morton,
        "density_bitfield": np.asarray(pack_bits(morton, 10.0)),
        "step_counter": np.zeros((16, 2), np.int32),
    }


def _super_resolution(rng, size: int = 16, small: int = 4, large: int = 3):
    weights = {"sr_net.resample_filter": np.ones((4, 4))}
    for block, (inputs, features) in enumerate(((3, small), (small, large))):
        side = size * (block + 1)
        weights[f"sr_net.block{block}.resample_filter"] = np.ones((4, 4))
        for layer, wide in (("conv0", inputs), ("conv1", features)):
            name = f"sr_net.block{block}.{layer}"
            weights |= {
                f"{name}.weight": rng.normal(size=(features, wide, 3, 3)),
                f"{name}.bias": np.zeros(features),
                f"{name}.noise_strength": np.zeros(()),
                f"{name}.noise_const": rng.normal(size=(side, side)),
                f"{name}.resample_filter": np.ones((4, 4)),
            }
            weights |= {f"{name}.affine.weight": rng.normal(size=(wide, 16)), f"{name}.affine.bias": np.ones(wide)}
        name = f"sr_net.block{block}.torgb"
        weights |= {f"{name}.weight": 0.1 * rng.normal(size=(3, features, 1, 1)), f"{name}.bias": np.zeros(3)}
        weights |= {f"{name}.affine.weight": rng.normal(size=(features, 16)), f"{name}.affine.bias": np.ones(features)}
    return weights
