"""Recorded results of the audio2motion VAE (VAEModel)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.speech import AUDIO2MOTION
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion
from geneface_jax.training.speech_losses import continuity, kl_single_sample, masked_mse
from geneface_jax.training.stages.audio2motion import build_network
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks import syncnet
from tests.parity.networks.vectors import Network, Vectors

ATOL, RTOL = 5e-5, 1e-4
LOSS_ATOL, LOSS_RTOL = 1e-4, 2e-4


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Posterior, flow in both directions, decoder, training pass, generation, and the training losses with their gradients."""
    weights = vectors.weights()
    if weights is None:
        return
    vae = Network.from_weights(AUDIO2MOTION, weights)
    yield vae.check
    if vectors.has("in_hubert", "in_y", "in_y_mask", "in_z"):
        yield from _parts(vectors, vae)
    if vectors.has("in_hubert", "in_y", "in_y_mask", "in_posterior_noise"):
        yield from _forward(vectors, vae)
    yield from _generation(vectors, vae)
    expert = syncnet.expert(vectors)
    needed = ("in_hubert", "in_y", "in_y_mask", "in_posterior_noise", "task_clip_batch_index", "task_clip_start")
    if expert is not None and vectors.has(*needed):
        for mode in ("eval", "train"):
            yield from _training_losses(vectors, vae, expert, mode)


def _parts(vectors: Vectors, vae: Network) -> Iterator[Comparison]:
    network = build_network(vae.model)
    mask = vectors["in_y_mask"][..., None]
    mask_down, ones = mask[:, ::STRIDE], np.ones_like(mask)
    apply = functools.partial(network.apply, vae.variables)
    condition, condition_down = apply(vectors["in_hubert"], method=Audio2Motion.conditions)
    mean, log_std = apply(vectors["in_y"], mask_down, condition_down, method=Audio2Motion.encode)

    def flow(z, flow_mask, inverse=False):
        return apply(z, flow_mask, condition_down, inverse, method=lambda module, *inputs: module.flow(*inputs))

    def decode(decoder_mask):
        return apply(vectors["in_z"], decoder_mask, condition, method=Audio2Motion.decode)

    results = {
        "cond_feat": condition,
        "g_sqz": condition_down,
        "enc_m": mean,
        "enc_logs": log_std,
        "flow_fwd_mask1": flow(vectors["in_z"], ones[:, ::STRIDE]),
        "flow_inv_mask1": flow(vectors["in_z"], ones[:, ::STRIDE], True),
        "flow_inv_masked": flow(vectors["in_z"], mask_down, True),
        "dec_from_in_z_mask1": decode(ones),
    }
    if vectors.has("in_posterior_noise"):
        results["enc_z"] = mean + vectors["in_posterior_noise"] * jnp.exp(log_std)
    if vectors.has("enc_z"):
        results["flow_fwd_masked"] = flow(vectors["enc_z"], mask_down)
    yield from vectors.compare(results, ATOL, RTOL)
    yield from vectors.compare({"enc_x_mask_sqz": mask_down.transpose(0, 2, 1)}, 0.0)
    # Padding frames hold the biases of the last layer; only frames inside the mask are compared.
    yield from vectors.compare({"dec_from_in_z_masked": decode(mask)}, ATOL, RTOL, where=mask[..., 0])


def _forward(vectors: Vectors, vae: Network) -> Iterator[Comparison]:
    mask = vectors["in_y_mask"]
    prediction, posterior = build_network(vae.model).apply(
        vae.variables, vectors["in_y"], mask, vectors["in_hubert"], vectors["in_posterior_noise"]
    )
    results = {
        "fwd_m_q": posterior.mean,
        "fwd_logs_q": posterior.log_std,
        "fwd_z_p": posterior.z_prior,
        "fwd_loss_kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
    }
    yield from vectors.compare(results, ATOL, RTOL)
    yield from vectors.compare({"fwd_x_recon": prediction}, ATOL, RTOL, where=mask)


def _generation(vectors: Vectors, vae: Network) -> Iterator[Comparison]:
    network = build_network(vae.model)

    def generate(audio, z):
        return network.apply(vae.variables, audio, z, method=Audio2Motion.generate)

    if vectors.has("in_hubert", "in_z", "in_y_mask"):
        for found in vectors.find(r"infer_pred_temp([\d.]+)"):
            motion = generate(vectors["in_hubert"], float(found[1]) * vectors["in_z"]) * vectors["in_y_mask"][..., None]
            yield from vectors.compare({found[0]: motion}, ATOL, RTOL)
    if vectors.has("in_long_hubert", "in_long_z"):
        yield from vectors.compare({"long_infer_pred": generate(vectors["in_long_hubert"], vectors["in_long_z"])}, ATOL, RTOL)


def _training_losses(vectors: Vectors, vae: Network, expert: Network, mode: str) -> Iterator[Comparison]:
    network = build_network(vae.model)
    inputs = {name: vectors[f"in_{name}"] for name in ("y", "y_mask", "hubert", "posterior_noise")}
    clips = vectors["task_clip_batch_index"], vectors["task_clip_start"]

    # Inputs and expert are arguments because XLA would take a minute to fold them as constants.
    def loss_fn(params: Any, inputs: dict[str, jax.Array], expert_variables: Any) -> Any:
        collections = {"params": params, "batch_stats": vae.variables["batch_stats"]}
        motion, mask, audio = inputs["y"], inputs["y_mask"], inputs["hubert"]
        (prediction, posterior), updates = network.apply(
            collections, motion, mask, audio, inputs["posterior_noise"], train=mode == "train", mutable=["batch_stats"]
        )
        losses = {
            "mse": masked_mse(prediction, motion, mask),
            "continuity": continuity(prediction, motion, mask),
            "kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
            "sync": syncnet.clip_loss(expert.model, expert_variables, audio, prediction, *clips),
        }
        total = sum(vectors.meta.get(f"lambda_{name}", default) * losses[name] for name, default in _WEIGHTS.items())
        return total, ({**losses, "total": total}, updates["batch_stats"])

    grads, (losses, statistics) = jax.jit(jax.grad(loss_fn, has_aux=True))(vae.variables["params"], inputs, expert.variables)
    yield from vectors.compare({f"task_{mode}_{name}": value for name, value in losses.items()}, LOSS_ATOL, LOSS_RTOL)
    norm = statistics["condition_encoder"]["norm"]
    yield from vectors.compare({f"task_{mode}_running_{name}_after": norm[name] for name in ("mean", "var")}, ATOL, RTOL)
    yield from vectors.gradients(f"task_{mode}_grad__", grads, AUDIO2MOTION.converter)


_WEIGHTS = {"mse": 1.0, "continuity": 3.0, "kl": 0.4, "sync": 0.01}
"""Weights of the published config, for vectors without recorded weights."""
