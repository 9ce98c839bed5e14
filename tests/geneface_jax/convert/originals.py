"""Small made-up state dicts with the names and layouts of the originals: our own modules' shapes, written the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np

from geneface_jax.convert import speech
from geneface_jax.convert.rules import flat_leaves
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint
from geneface_jax.io import configs

_MODULES = [
    (r"audio_encoder/block_(\d+)/conv", r"hubert_encoder.\1.conv_block.0"),
    (r"audio_encoder/block_(\d+)/norm", r"hubert_encoder.\1.conv_block.1"),
    (r"mouth_encoder/block_(\d+)/conv", r"mouth_encoder.\1.conv_block.0"),
    (r"mouth_encoder/block_(\d+)/norm", r"mouth_encoder.\1.conv_block.1"),
    (r"condition_encoder/conv_in", "mel_encoder.0"),
    (r"condition_encoder/norm", "mel_encoder.1"),
    (r"condition_encoder/conv_out", "mel_encoder.3"),
    (r"voice_encoder/(pitch|blink)_embedding", r"\1_embed"),
    (r"voice_encoder/pitch_encoder/conv_in", "pitch_encoder.0"),
    (r"voice_encoder/pitch_encoder/norm", "pitch_encoder.1"),
    (r"voice_encoder/pitch_encoder/conv_out", "pitch_encoder.3"),
    (r"voice_encoder/join", "cond_proj"),
    (r"condition_down", "vae.g_pre_net.0"),
    (r"(en|de)coder_(down|up)", r"vae.\1coder.pre_net.0"),
    (r"(en|de)coder_out", r"vae.\1coder.out_proj"),
    (r"(en|de)coder_wavenet/(.+)", r"vae.\1coder.wn.\2"),
    (r"flow/coupling_(\d+)/(pre|post)", r"vae.prior_flow.flows.<\1>.\2"),
    (r"flow/coupling_(\d+)/wavenet/(.+)", r"vae.prior_flow.flows.<\1>.enc.\2"),
    (r"block(\d)_(\d)/conv", r"block\1.\2.conv_block.0"),
    (r"block(\d)_(\d)/norm", r"block\1.\2.conv_block.1"),
    (r"output", "block3.1"),
    (r"layer_(\d+)", r"backbone.[\1]"),
    (r"score", "backbone.12"),
]
_INNER = [(r"gates_(\d+)", r"in_layers.\1"), (r"residual_skip_(\d+)", r"res_skip_layers.\1"), (r"condition$", "cond_layer")]
_LEAVES = {"scale": "weight_g", "direction": "weight_v", "kernel": "weight", "embedding": "weight"}
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def state_dict(family: speech.Family, seed: int = 0, **model: int) -> dict[str, np.ndarray]:
    """Random weights of a network of the given sizes, as the original would save them."""
    config = configs.load(f"{family.stage}:reference").model
    config.update(model)
    rng = np.random.default_rng(seed)
    weights = {}
    for path, shape in flat_leaves(jax.eval_shape(lambda: family.init(config))).items():
        module, _, leaf = path.partition("/")[2].rpartition("/")
        if leaf in ("mouth_amp", "eye_amp"):
            weights[f"{leaf}_embed"] = rng.normal(size=shape.shape).astype(np.float32)
            continue
        value = rng.normal(size=shape.shape).astype(np.float32)
        if leaf == "var":
            value = np.square(value) + 0.1
        name, value = _their_layout(_their_module(module), leaf, value, module)
        weights[name] = value
    norms = [name.removesuffix("running_mean") for name in weights if name.endswith("running_mean")]
    return weights | {f"{name}num_batches_tracked": np.array(7) for name in norms}


def checkpoint(step: int = 1000, hparams: dict | None = None, **networks: dict[str, np.ndarray]) -> TorchCheckpoint:
    """A checkpoint as read from a file; "__" in a network's name stands for a dot."""
    named = {name.replace("__", "."): weights for name, weights in networks.items()}
    return TorchCheckpoint(Path(f"model_ckpt_steps_{step}.ckpt"), step, named, hparams or {})


def _their_module(module: str) -> str:
    theirs = next(re.sub(pattern, name, module) for pattern, name in _MODULES if re.fullmatch(pattern, module))
    for pattern, name in _INNER:
        theirs = re.sub(pattern, name, theirs)
    theirs = re.sub(r"<(\d+)>", lambda found: str(2 * int(found[1])), theirs)
    return re.sub(r"\[(\d+)\]", lambda found: str(3 * int(found[1])), theirs)


def _their_layout(theirs: str, leaf: str, value: np.ndarray, module: str) -> tuple[str, np.ndarray]:
    if module.endswith("norm"):
        return f"{theirs}.{_NORM[leaf]}", value
    if leaf == "scale":
        value = value.reshape(-1, 1, 1)
    elif value.ndim == 3:
        value = value.transpose(0, 2, 1) if module == "decoder_up" else value.transpose(2, 1, 0)
    elif value.ndim == 2 and leaf != "embedding":
        value = value.T
    return f"{theirs}.{_LEAVES.get(leaf, leaf)}", value


SMALL_VAE = {
    "hidden": 16,
    "condition": 12,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "latent": 6,
    "flow_hidden": 10,
    "flow_layers": 2,
    "kernel_size": 3,
}
"""Sizes of a VAE that differ from the published ones and from each other."""
