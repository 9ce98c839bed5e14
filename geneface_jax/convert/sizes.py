"""The sizes of an original network, read off the shapes of its weights: what it changes in the model part of our reference configs.

A size whose weight is missing is left out, so that the reference's holds and the comparison with the model names the weight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Weights = Mapping[str, np.ndarray]


def syncnet(weights: Weights) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> `model` of configs/syncnet.py."""
    return _known(base=_size(weights, "hubert_encoder.1.conv_block.0.weight", 0))


def audio2motion(weights: Weights) -> dict[str, Any]:
    """VAEModel or PitchContourVAEModel -> `model` of configs/audio2motion.py. The originals keep every second audio frame.

    GeneFace's pitch variant is told from GeneFace++'s by the projection that only the latter has; it always hears blinks.
    """
    condition = _known(condition=_size(weights, "mel_encoder.3.weight", 0), pitch=_size(weights, "pitch_encoder.3.weight", 0))
    heard = {"blink": "cond_proj.weight", "mouth_amp": "mouth_amp_embed", "eye_amp": "eye_amp_embed"}
    return {**autoencoder(weights), **condition, **{name: key in weights for name, key in heard.items()}, "pairing": "even"}


def autoencoder(weights: Weights) -> dict[str, Any]:
    """The sizes that every audio2motion VAE has, whatever it makes its condition of."""
    flow = "vae.prior_flow.flows"
    return _known(
        motion_dim=_size(weights, "vae.decoder.out_proj.weight", 0),
        hidden=_size(weights, "vae.encoder.pre_net.0.weight", 0),
        kernel_size=_size(weights, "vae.encoder.wn.in_layers.0.weight_v", 2),
        encoder_layers=_count(weights, r"vae\.encoder\.wn\.in_layers\.\d+\.weight_v"),
        decoder_layers=_count(weights, r"vae\.decoder\.wn\.in_layers\.\d+\.weight_v"),
        latent=_size(weights, "vae.encoder.out_proj.weight", 0) // 2,
        flow_blocks=_count(weights, r"vae\.prior_flow\.flows\.\d+\.pre\.weight"),
        flow_hidden=_size(weights, f"{flow}.0.pre.weight", 0),
        flow_layers=_count(weights, r"vae\.prior_flow\.flows\.0\.enc\.in_layers\.\d+\.weight_v"),
        flow_kernel_size=_size(weights, f"{flow}.0.enc.in_layers.0.weight_v", 2),
    )


def postnet(weights: Weights) -> dict[str, Any]:
    """CNNPostNet -> `model` of configs/postnet.py; the original starts its residual at random (`zero_init`)."""
    return {**_known(base=_size(weights, "block1.0.conv_block.0.weight", 0)), "zero_init": False}


def _known(**sizes: int) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size > 0}


def _size(weights: Weights, name: str, axis: int) -> int:
    """Length of an axis; 0 when the weight is missing or has too few axes."""
    shape = np.shape(weights[name]) if name in weights else ()
    return shape[axis] if axis < len(shape) else 0


def _count(weights: Weights, pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in weights)
