"""State dicts of the original speech networks -> our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geneface_jax.convert.layers import Rule, convert


def syncnet(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """LandmarkHubertSyncNet -> `models.syncnet.SyncNet`."""
    rules = []
    for theirs, ours in (("hubert_encoder", "audio_encoder"), ("mouth_encoder", "mouth_encoder")):
        rules += [
            Rule(rf"{theirs}\.(\d+)\.conv_block\.0", "conv", rf"{ours}/block_\1/conv"),
            Rule(rf"{theirs}\.(\d+)\.conv_block\.1", "norm", rf"{ours}/block_\1/norm"),
        ]
    return convert(weights, rules)


def audio2motion(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """VAEModel, or PitchContourVAEModel of GeneFace or GeneFace++ -> `models.audio2motion.Audio2Motion`."""
    rules = [
        Rule(r"(pitch|blink)_embed", "embedding", r"voice_encoder/\1_embedding"),
        Rule(r"pitch_encoder\.0", "conv", "voice_encoder/pitch_encoder/conv_in"),
        Rule(r"pitch_encoder\.1", "norm", "voice_encoder/pitch_encoder/norm"),
        Rule(r"pitch_encoder\.3", "conv", "voice_encoder/pitch_encoder/conv_out"),
        Rule(r"cond_proj", "dense", "voice_encoder/join"),
        Rule(r"mel_encoder\.0", "conv", "condition_encoder/conv_in"),
        Rule(r"mel_encoder\.1", "norm", "condition_encoder/norm"),
        Rule(r"mel_encoder\.3", "conv", "condition_encoder/conv_out"),
        Rule(r"vae\.g_pre_net\.0", "conv", "condition_down"),
        Rule(r"vae\.encoder\.pre_net\.0", "conv", "encoder_down"),
        Rule(r"vae\.encoder\.out_proj", "conv", "encoder_out"),
        Rule(r"vae\.decoder\.pre_net\.0", "transposed", "decoder_up"),
        Rule(r"vae\.decoder\.out_proj", "conv", "decoder_out"),
    ]
    for part in ("encoder", "decoder"):
        rules += _wavenet(rf"vae\.{part}\.wn", f"{part}_wavenet")
    for number in range(4):
        theirs, ours = rf"vae\.prior_flow\.flows\.{2 * number}", f"flow/coupling_{number}"
        rules += [Rule(rf"{theirs}\.(pre|post)", "conv", rf"{ours}/\1")]
        rules += _wavenet(rf"{theirs}\.enc", f"{ours}/wavenet")
    return convert(weights, rules, {f"{part}_amp_embed": f"voice_encoder/{part}_amp" for part in ("mouth", "eye")})


def postnet(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """CNNPostNet -> `models.postnet.CNNPostNet`."""
    rules = [
        Rule(r"block3\.1", "conv", "output"),
        Rule(r"block(\d)\.(\d)\.conv_block\.0", "conv", r"block\1_\2/conv"),
        Rule(r"block(\d)\.(\d)\.conv_block\.1", "norm", r"block\1_\2/norm"),
    ]
    return convert(weights, rules)


def discriminator(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """MLPDiscriminator -> `models.postnet.MLPDiscriminator`."""
    rules = [Rule(r"backbone\.12", "dense", "score")]
    rules += [Rule(rf"backbone\.{3 * i}", "dense", f"layer_{i}") for i in range(4)]
    return convert(weights, rules)


def _wavenet(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(rf"{theirs}\.in_layers\.(\d+)", "conv", rf"{ours}/gates_\1"),
        Rule(rf"{theirs}\.res_skip_layers\.(\d+)", "conv", rf"{ours}/residual_skip_\1"),
        Rule(rf"{theirs}\.cond_layer", "conv", ours + "/condition"),
    ]
