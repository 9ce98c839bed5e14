"""SyncNet, VAE, PostNet and discriminator against golden vectors of the original PyTorch modules; skipped where the vectors are absent."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.convert import speech as convert_speech
from geneface_jax.data.sync_clips import clips_at
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.models.syncnet import SyncNet, cosine
from geneface_jax.training.losses_motion import continuity, kl_single_sample, lsgan_discriminator, lsgan_generator, masked_mse, sync_bce
from tests.parity.vectors import needs_vectors, read

pytestmark = needs_vectors


def close(ours, theirs, atol=5e-5, rtol=1e-4):
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=atol, rtol=rtol)


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def syncnet():
    return SyncNet(), convert_speech.syncnet(read("v1_syncnet/weights"))


@pytest.fixture(scope="module")
def vae():
    return Audio2Motion(), convert_speech.audio2motion(read("v1_audio2motion_lm3d_vae_sync/weights"))


@pytest.fixture(scope="module")
def vae_io():
    return read("v1_audio2motion_lm3d_vae_sync/io")


def sync_clips(audio, motion, item, start):
    """The clips that the vectors name: item and first frame of each."""
    clips = [clips_at(audio[b], motion[b], jnp.array([s])) for b, s in zip(item, start, strict=True)]
    return jnp.concatenate([a for a, _ in clips]), jnp.concatenate([m for _, m in clips])


def test_parameter_trees_are_the_modules_own(syncnet, vae):
    """Every imported array has the name and shape that the module makes for itself, and none is missing."""
    cases = [
        (*syncnet, (jnp.zeros((1, 10, 1024)), jnp.zeros((1, 5, 60)))),
        (*vae, (jnp.zeros((1, 8, 204)), jnp.ones((1, 8)), jnp.zeros((1, 16, 1024)), jnp.zeros((1, 2, 16)))),
        (CNNPostNet(), convert_speech.postnet(read("v1_postnet/weights_generator")), (jnp.zeros((1, 8, 204)),)),
        (MLPDiscriminator(), convert_speech.discriminator(read("v1_postnet/weights_discriminator")), (jnp.zeros((1, 8, 204)),)),
    ]
    for network, imported, inputs in cases:
        own = jax.eval_shape(network.init, jax.random.key(0), *inputs)
        imported = {name: tree for name, tree in imported.items() if tree}
        assert jax.tree.map(lambda x: x.shape, own) == jax.tree.map(lambda x: x.shape, imported)


def test_syncnet(syncnet):
    network, variables = syncnet
    io = read("v1_syncnet/io")
    audio, mouth = network.apply(variables, io["in_audio"], io["in_mouth_lm"])
    close(audio, io["audio_embedding"], 1e-5)
    close(mouth, io["mouth_embedding"], 1e-5)
    close(cosine(audio, mouth), io["cosine_sim"], 1e-5)
    close(sync_bce(cosine(audio, mouth), io["in_label"]), io["sync_loss_labels"], 1e-5)
    close(sync_bce(cosine(audio, mouth), 1.0), io["sync_loss_pos"], 1e-5)
    close(sync_bce(cosine(audio, mouth), 0.0), io["sync_loss_neg"], 1e-5)


def test_syncnet_training_pass(syncnet):
    network, variables = syncnet
    io = read("v1_syncnet/io")

    def loss_fn(params):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        embeddings, updates = network.apply(collections, io["in_audio"], io["in_mouth_lm"], train=True, mutable=["batch_stats"])
        return sync_bce(cosine(*embeddings), io["in_label"]), (embeddings, updates)

    (loss, (embeddings, updates)), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
    close(loss, io["train_loss"])
    close(embeddings[0], io["train_audio_embedding"])
    running = updates["batch_stats"]["audio_encoder"]["block_0"]["norm"]
    close(running["mean"], io["train_running_mean_after__hubert_encoder.0"])
    close(running["var"], io["train_running_var_after__hubert_encoder.0"])
    for key, gradient in (
        ("hubert_encoder.2.conv_block.1.bias", grads["audio_encoder"]["block_2"]["norm"]["bias"]),
        ("hubert_encoder.12.conv_block.1.weight", grads["audio_encoder"]["block_12"]["norm"]["scale"]),
        ("mouth_encoder.0.conv_block.0.weight", grads["mouth_encoder"]["block_0"]["conv"]["kernel"].transpose(2, 1, 0)),
    ):
        theirs = io[f"train_grad__{key}"]
        close(gradient, theirs, 1e-3 * np.abs(theirs).max(), 2e-3)


def test_vae_parts(vae, vae_io):
    network, variables = vae
    mask = vae_io["in_y_mask"][..., None]
    mask_down, ones = mask[:, ::STRIDE], np.ones_like(mask)

    def call(method, *inputs, **options):
        return network.apply(variables, *inputs, method=method, **options)

    condition, condition_down = call(Audio2Motion.conditions, vae_io["in_hubert"])
    close(condition, vae_io["cond_feat"])
    close(condition_down, vae_io["g_sqz"])
    mean, log_std = call(Audio2Motion.encode, vae_io["in_y"], mask_down, condition_down)
    close(mean, vae_io["enc_m"])
    close(log_std, vae_io["enc_logs"])

    def flow(z, flow_mask, inverse=False):
        return network.apply(variables, z, flow_mask, condition_down, inverse, method=lambda module, *inputs: module.flow(*inputs))

    close(flow(vae_io["enc_z"], mask_down), vae_io["flow_fwd_masked"])
    close(flow(vae_io["in_z"], ones[:, ::STRIDE]), vae_io["flow_fwd_mask1"])
    close(flow(vae_io["in_z"], ones[:, ::STRIDE], True), vae_io["flow_inv_mask1"])
    close(flow(vae_io["in_z"], mask_down, True), vae_io["flow_inv_masked"])
    close(call(Audio2Motion.decode, vae_io["in_z"], ones, condition), vae_io["dec_from_in_z_mask1"])
    close(call(Audio2Motion.decode, vae_io["in_z"], mask, condition) * mask, vae_io["dec_from_in_z_masked"] * mask)


def test_vae_forward_and_generate(vae, vae_io):
    network, variables = vae
    mask = vae_io["in_y_mask"]
    prediction, posterior = network.apply(variables, vae_io["in_y"], mask, vae_io["in_hubert"], vae_io["in_posterior_noise"])
    close(prediction, vae_io["fwd_x_recon"] * mask[..., None])
    close(posterior.z_prior, vae_io["fwd_z_p"])
    kl = kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask)
    close(kl, vae_io["fwd_loss_kl"])
    for temperature in (1.0, 0.2):
        motion = network.apply(variables, vae_io["in_hubert"], temperature * vae_io["in_z"], method=Audio2Motion.generate)
        close(motion * mask[..., None], vae_io[f"infer_pred_temp{temperature}"])
    motion = network.apply(variables, vae_io["in_long_hubert"], vae_io["in_long_z"], method=Audio2Motion.generate)
    close(motion, vae_io["long_infer_pred"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_vae_losses_and_gradients(vae, vae_io, syncnet, mode):
    network, variables = vae
    sync_network, sync_variables = syncnet
    motion, mask = vae_io["in_y"], vae_io["in_y_mask"]

    def loss_fn(params):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        (prediction, posterior), updates = network.apply(
            collections, motion, mask, vae_io["in_hubert"], vae_io["in_posterior_noise"], train=mode == "train", mutable=["batch_stats"]
        )
        clips = sync_clips(vae_io["in_hubert"], prediction, vae_io["task_clip_batch_index"], vae_io["task_clip_start"])
        audio, mouth = sync_network.apply(sync_variables, *clips)
        losses = {
            "mse": masked_mse(prediction, motion, mask),
            "continuity": continuity(prediction, motion, mask),
            "kl": kl_single_sample(posterior.mean, posterior.log_std, posterior.z, posterior.z_prior, posterior.mask),
            "sync": sync_bce(cosine(audio, mouth), 1.0),
        }
        total = 0.4 * losses["kl"] + losses["mse"] + 3.0 * losses["continuity"] + 0.01 * losses["sync"]
        return total, ({**losses, "total": total}, updates)

    grads, (losses, updates) = jax.grad(loss_fn, has_aux=True)(variables["params"])
    if mode == "train":
        close(updates["batch_stats"]["condition_encoder"]["norm"]["mean"], vae_io["task_train_running_mean_after"])
        close(updates["batch_stats"]["condition_encoder"]["norm"]["var"], vae_io["task_train_running_var_after"])
    for name, value in losses.items():
        close(value, vae_io[f"task_{mode}_{name}"], 1e-4, 2e-4)
    for key, gradient in (
        ("mel_encoder.1.weight", grads["condition_encoder"]["norm"]["scale"]),
        ("mel_encoder.3.weight", grads["condition_encoder"]["conv_out"]["kernel"].transpose(2, 1, 0)),
        ("vae.g_pre_net.0.bias", grads["condition_down"]["bias"]),
        ("vae.prior_flow.flows.0.enc.in_layers.0.weight_g", grads["flow"]["coupling_0"]["wavenet"]["gates_0"]["scale"][:, None, None]),
        ("vae.prior_flow.flows.6.post.weight", grads["flow"]["coupling_3"]["post"]["kernel"].transpose(2, 1, 0)),
        ("vae.decoder.pre_net.0.bias", grads["decoder_up"]["bias"]),
        ("vae.decoder.wn.cond_layer.weight_g", grads["decoder_wavenet"]["condition"]["scale"][:, None, None]),
    ):
        theirs = vae_io[f"task_{mode}_grad__{key}"]
        close(gradient, theirs, 1e-3 * np.abs(theirs).max(), 2e-3)


def test_postnet_and_discriminator():
    io = read("v1_postnet/io")
    generator, variables = CNNPostNet(), convert_speech.postnet(read("v1_postnet/weights_generator"))
    critic, critic_variables = MLPDiscriminator(), convert_speech.discriminator(read("v1_postnet/weights_discriminator"))
    close(generator.apply(variables, io["in_raw_lm3d"]), io["gen_refined"])
    mask = io["in_y_mask"] > 0
    close(critic.apply(critic_variables, io["in_raw_lm3d"])[mask], io["disc_on_raw"][:, 0])
    close(critic.apply(critic_variables, io["gen_refined"])[mask], io["disc_on_refined"][:, 0])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_postnet_losses_and_gradients(syncnet, mode):
    io = read("v1_postnet/io")
    sync_network, sync_variables = syncnet
    critic = MLPDiscriminator(dropout=0.0)
    critic_variables = convert_speech.discriminator(read("v1_postnet/weights_discriminator"))
    variables = convert_speech.postnet(read("v1_postnet/weights_generator"))
    mask = io["in_y_mask"]

    def generate(params, motion):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        return CNNPostNet().apply(collections, motion, train=mode == "train", mutable=["batch_stats"])[0]

    def loss_fn(params):
        own = generate(params, io["in_person_raw_lm3d"]) * mask[..., None]
        fake = generate(params, io["in_raw_lm3d"])
        clips = sync_clips(io["in_hubert"], fake, io["task_clip_batch_index"], io["task_clip_start"])
        audio, mouth = sync_network.apply(sync_variables, *clips)
        losses = {
            "mse": masked_mse(own, io["in_person_gt_lm3d"], np.ones_like(mask)) * mask.size / mask.sum(),
            "adv": lsgan_generator(critic.apply(critic_variables, fake), mask),
            "sync": sync_bce(cosine(audio, mouth), 1.0),
        }
        total = 0.05 * losses["mse"] + 0.85 * losses["adv"] + 0.1 * losses["sync"]
        return total, ({**losses, "total": total}, fake)

    grads, (losses, fake) = jax.grad(loss_fn, has_aux=True)(variables["params"])
    for name, value in losses.items():
        close(value, io[f"{mode}_genstep_{name}"], 1e-4, 2e-4)
    close(fake, io[f"{mode}_refined_for_disc"])
    for key, gradient in (
        ("block1.0.conv_block.1.weight", grads["block1_0"]["norm"]["scale"]),
        ("block3.1.weight", grads["output"]["kernel"].transpose(2, 1, 0)),
        ("block3.1.bias", grads["output"]["bias"]),
    ):
        theirs = io[f"{mode}_genstep_grad__{key}"]
        close(gradient, theirs, 1e-3 * np.abs(theirs).max(), 2e-3)
    real = io["in_person_gt_lm3d"]
    mask_real = (real.sum(-1) != 0).astype(np.float32)
    losses = lsgan_discriminator(critic.apply(critic_variables, fake), mask, critic.apply(critic_variables, real), mask_real)
    close(losses[0], io[f"{mode}_discstep_disc_fake_loss"], 1e-4)
    close(losses[1], io[f"{mode}_discstep_disc_true_loss"], 1e-4)
