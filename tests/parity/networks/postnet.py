"""Recorded results of CNNPostNet and MLPDiscriminator."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.speech import AUDIO2MOTION, DISCRIMINATOR, POSTNET
from geneface_jax.models.audio2motion import Audio2Motion
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.training.devices import masked_mean
from geneface_jax.training.speech_losses import lsgan_discriminator, lsgan_generator, masked_mse
from geneface_jax.training.stages.audio2motion import build_network
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks import syncnet
from tests.parity.networks.vectors import Network, Vectors

ATOL, RTOL = 5e-5, 1e-4
LOSS_ATOL, LOSS_RTOL = 1e-4, 2e-4


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Generator, discriminator, VAE followed by the generator, and both training steps with their gradients."""
    generator_weights, critic_weights = vectors.weights("weights_generator"), vectors.weights("weights_discriminator")
    if generator_weights is None:
        return
    generator = Network.from_weights(POSTNET, generator_weights, "weights_generator")
    yield generator.check
    if vectors.has("in_raw_lm3d"):
        yield from _refined(vectors, generator)
    yield from _speech_to_refined(vectors, generator)
    if critic_weights is None:
        return
    sized = dataclasses.replace(DISCRIMINATOR, sizes=lambda weights: {"base": len(weights["backbone.0.weight"])})
    critic = Network.from_weights(sized, critic_weights, "weights_discriminator")
    yield critic.check
    yield from _scores(vectors, critic)
    expert = syncnet.expert(vectors)
    motions = ("in_raw_lm3d", "in_person_raw_lm3d", "in_person_gt_lm3d", "in_y_mask")
    if expert is not None and vectors.has(*motions, "in_hubert", "task_clip_batch_index", "task_clip_start"):
        # Double precision: one unit of the recorded batch is so close to the kink of its LeakyReLU that float32 is ambiguous.
        with jax.enable_x64(True):
            for mode in ("eval", "train"):
                yield from _training_steps(vectors, generator.widened(), critic.widened(), expert.widened(), mode)


def _refined(vectors: Vectors, generator: Network) -> Iterator[Comparison]:
    motion = vectors["in_raw_lm3d"]
    refined, inner = CNNPostNet(generator.model.base).apply(
        generator.variables, motion, capture_intermediates=True, mutable=["intermediates"]
    )
    mask = np.any(motion != 0, axis=-1, keepdims=True)
    block1 = inner["intermediates"]["block1_2"]["__call__"][0] * mask
    yield from vectors.compare({"gen_refined": refined, "gen_block1": block1}, ATOL, RTOL)


def _speech_to_refined(vectors: Vectors, generator: Network) -> Iterator[Comparison]:
    weights = vectors.weights(sibling="v1_audio2motion_lm3d_vae_sync")
    if weights is None or not vectors.has("in_e2e_hubert", "in_e2e_z"):
        return
    vae = Network.from_weights(AUDIO2MOTION, weights)
    raw = build_network(vae.model).apply(vae.variables, vectors["in_e2e_hubert"], vectors["in_e2e_z"], method=Audio2Motion.generate)
    refined = CNNPostNet(generator.model.base).apply(generator.variables, raw)
    yield from vectors.compare({"e2e_raw": raw, "e2e_refined": refined}, ATOL, RTOL)


def _scores(vectors: Vectors, critic: Network) -> Iterator[Comparison]:
    """The originals drop frames that are all zero and concatenate the rest."""
    for key, source in (("disc_on_raw", "in_raw_lm3d"), ("disc_on_refined", "gen_refined"), ("disc_on_gt", "in_person_gt_lm3d")):
        if vectors.has(key, source):
            motion = vectors[source]
            scores = MLPDiscriminator(critic.model.base).apply(critic.variables, motion)
            yield from vectors.compare({key: scores[motion.sum(-1) != 0][:, None]}, ATOL, RTOL)


def _training_steps(vectors: Vectors, generator: Network, critic: Network, expert: Network, mode: str) -> Iterator[Comparison]:
    mask = vectors["in_y_mask"]
    real = vectors["in_person_gt_lm3d"]
    mask_real = (real.sum(-1) != 0).astype(np.float32)
    inputs = {name: vectors[f"in_{name}"] for name in ("person_raw_lm3d", "raw_lm3d", "hubert")}
    clips = vectors["task_clip_batch_index"], vectors["task_clip_start"]
    discriminator = MLPDiscriminator(critic.model.base, dropout=0.0)

    def generate(params: Any, motion: jax.Array) -> jax.Array:
        collections = {"params": params, "batch_stats": generator.variables["batch_stats"]}
        network = CNNPostNet(generator.model.base)
        return network.apply(collections, motion, train=mode == "train", mutable=["batch_stats"])[0]

    # Inputs and expert are arguments because XLA would take a minute to fold them as constants.
    def generator_loss(params: Any, inputs: dict[str, jax.Array], expert_variables: Any) -> Any:
        person = generate(params, inputs["person_raw_lm3d"]) * mask[..., None]
        fake = generate(params, inputs["raw_lm3d"])
        losses = {
            # The originals divide by the number of frames inside the mask but sum over all frames.
            "mse": masked_mse(person, real, np.ones_like(mask)) * mask.size / mask.sum(),
            "adv": lsgan_generator(discriminator.apply(critic.variables, fake), mask),
            "sync": syncnet.clip_loss(expert.model, expert_variables, inputs["hubert"], fake, *clips),
        }
        total = sum(vectors.meta.get(f"lambda_{name}", default) * losses[name] for name, default in _WEIGHTS.items())
        return total, ({**losses, "total": total}, fake)

    def discriminator_loss(params: Any, fake: jax.Array) -> Any:
        score_fake, score_real = (discriminator.apply({"params": params}, motion) for motion in (fake, real))
        fake_loss, true_loss = lsgan_discriminator(score_fake, mask, score_real, mask_real)
        total = fake_loss + true_loss
        return total, {
            "disc_fake_loss": fake_loss,
            "disc_true_loss": true_loss,
            "disc_neg_conf": masked_mean(score_fake, mask),
            "disc_pos_conf": masked_mean(score_real, mask_real),
            "total": total,
        }

    grads, (losses, fake) = jax.jit(jax.grad(generator_loss, has_aux=True))(generator.variables["params"], inputs, expert.variables)
    yield from vectors.compare({f"{mode}_genstep_{name}": value for name, value in losses.items()}, LOSS_ATOL, LOSS_RTOL)
    yield from vectors.compare({f"{mode}_refined_for_disc": fake}, ATOL, RTOL)
    yield from vectors.gradients(f"{mode}_genstep_grad__", grads, POSTNET.converter)
    grads, losses = jax.jit(jax.grad(discriminator_loss, has_aux=True))(critic.variables["params"], jnp.asarray(fake))
    yield from vectors.compare({f"{mode}_discstep_{name}": value for name, value in losses.items()}, LOSS_ATOL, LOSS_RTOL)
    yield from vectors.gradients(f"{mode}_discstep_grad__", grads, DISCRIMINATOR.converter)


_WEIGHTS = {"mse": 0.05, "adv": 0.85, "sync": 0.1}
"""Weights of the published config, for vectors without recorded weights."""
