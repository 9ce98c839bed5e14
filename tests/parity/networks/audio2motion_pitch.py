"""Recorded results of the pitch-aware audio2motion VAE (PitchContourVAEModel), GeneFace's and GeneFace++'s."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.speech import AUDIO2MOTION
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion, Voice, pitch_bins
from geneface_jax.training.speech_losses import kl_single_sample
from geneface_jax.training.stages.audio2motion import build_network
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.audio2motion import ATOL, RTOL
from tests.parity.networks.vectors import Network, Vectors


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Pitch bins, condition, training pass in both modes of batch norm, the flow and its inverse, and generation."""
    weights = _weights(vectors)
    if weights is None or not vectors.has("in_audio", "in_f0"):
        return
    vae = Network.from_weights(AUDIO2MOTION, weights)
    yield vae.check
    voice = _voice(vectors)
    bins = pitch_bins(vectors["in_f0"])
    yield from vectors.compare({"f0_coarse_full": bins, "f0_coarse_down": bins[:, ::2]}, 0.0)
    apply = functools.partial(build_network(vae.model).apply, vae.variables)
    condition, condition_down = apply(vectors["in_audio"], False, voice, method=Audio2Motion.conditions)
    yield from vectors.compare({"cond_feat": condition}, ATOL, RTOL)
    if vectors.has("in_y", "in_y_mask", "in_posterior_noise"):
        yield from _training_pass(vectors, vae, voice)
    if vectors.has("in_z", "in_y_mask"):
        ones = np.ones_like(vectors["in_y_mask"])[:, ::STRIDE, None]
        z_prior = apply(vectors["in_z"], ones, condition_down, method=lambda module, *inputs: module.flow(*inputs))
        back = apply(z_prior, ones, condition_down, True, method=lambda module, *inputs: module.flow(*inputs))
        yield Comparison("in_z (flow and its inverse)", float(np.abs(back - vectors["in_z"]).max() / ATOL))
        yield from _generation(vectors, apply, voice)


def _weights(vectors: Vectors) -> dict[str, np.ndarray] | None:
    """The state_dict: this folder's keys, and `meta.base_keys` of a sibling folder."""
    weights = vectors.weights()
    if weights is None or "base_keys" not in vectors.meta:
        return weights
    base = vectors.weights(sibling=PurePosixPath(vectors.meta["base_weights"]).parts[0])
    return None if base is None else {**{key: base[key] for key in vectors.meta["base_keys"]}, **weights}


def _voice(vectors: Vectors) -> Voice:
    """The recorded inputs, and defaults for the others; recorded blinks are at the audio rate."""
    voice = Voice.of(jnp.asarray(vectors["in_f0"]))
    blink = jnp.asarray(vectors["in_blink"])[:, ::2, 0] if vectors.has("in_blink") else voice.blink
    amplitudes = {name: jnp.asarray(vectors[f"in_{name}"])[:, 0] for name in ("mouth_amp", "eye_amp") if vectors.has(f"in_{name}")}
    return Voice(**{"f0": voice.f0, "blink": blink, "mouth_amp": voice.mouth_amp, "eye_amp": voice.eye_amp, **amplitudes})


def _training_pass(vectors: Vectors, vae: Network, voice: Voice) -> Iterator[Comparison]:
    mask = vectors["in_y_mask"]
    for prefix, train in (("fwd", False), ("trainbn", True)):
        (prediction, posterior), _ = build_network(vae.model).apply(
            vae.variables,
            vectors["in_y"],
            mask,
            vectors["in_audio"],
            vectors["in_posterior_noise"],
            train=train,
            voice=voice,
            mutable=["batch_stats"],
        )
        results = {
            "m_q": posterior.mean,
            "logs_q": posterior.log_std,
            "z_p": posterior.z_prior,
            "loss_kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
        }
        yield from vectors.compare({f"{prefix}_{name}": value for name, value in results.items()}, ATOL, RTOL)
        yield from vectors.compare({f"{prefix}_x_recon": prediction}, ATOL, RTOL, where=mask)


def _generation(vectors: Vectors, apply: Callable[..., Any], voice: Voice) -> Iterator[Comparison]:
    audio, z, mask = vectors["in_audio"], vectors["in_z"], vectors["in_y_mask"][..., None]
    for found in vectors.find(r"infer_pred_temp([\d.]+)"):
        motion = apply(audio, float(found[1]) * z, voice, method=Audio2Motion.generate) * mask
        yield from vectors.compare({found[0]: motion}, ATOL, RTOL)
    plain = Voice.of(voice.f0[:1])
    condition, _ = apply(audio[:1], False, plain, method=Audio2Motion.conditions)
    motion = apply(audio[:1], z[:1], plain, method=Audio2Motion.generate) * mask[:1]
    yield from vectors.compare({"cond_feat_defaults_b0": condition, "infer_pred_defaults_b0": motion}, ATOL, RTOL)
