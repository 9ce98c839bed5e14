"""Recorded results of LandmarkHubertSyncNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.convert.speech import SYNCNET
from geneface_jax.data.speech_batches import MOUTH
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES, SyncNet, cosine
from geneface_jax.training.speech_losses import sync_bce
from tests.parity.kernels.comparison import Comparison
from tests.parity.networks.vectors import Network, Vectors

ATOL, RTOL = 1e-5, 1e-4


def check(vectors: Vectors) -> Iterator[Comparison]:
    """Embeddings, losses, the training step, and the loss of a validation batch."""
    weights = vectors.weights()
    if weights is None:
        return
    syncnet = Network.from_weights(SYNCNET, weights)
    yield syncnet.check
    network = SyncNet(syncnet.model.base)
    if vectors.has("in_audio", "in_mouth_lm"):
        yield from _forward(vectors, network, syncnet.variables)
    if vectors.has("in_audio", "in_mouth_lm", "in_label"):
        yield from _training_step(vectors, network, syncnet.variables)
    if vectors.has("in_seq_hubert", "in_seq_mouth", "seq_clip_batch_index", "seq_clip_start"):
        yield from _sequences(vectors, network, syncnet.variables)


def _forward(vectors: Vectors, network: SyncNet, variables: Any) -> Iterator[Comparison]:
    inputs = vectors["in_audio"], vectors["in_mouth_lm"]
    audio, mouth = network.apply(variables, *inputs)

    def raw(module, audio, mouth):
        return module.audio_encoder(audio, False)[:, 0], module.mouth_encoder(mouth, False)[:, 0]

    audio_raw, mouth_raw = network.apply(variables, *inputs, method=raw)
    similarity = cosine(audio, mouth)
    results = {
        "audio_feat_raw": audio_raw,
        "mouth_feat_raw": mouth_raw,
        "audio_embedding": audio,
        "mouth_embedding": mouth,
        "cosine_sim": similarity,
        "sync_loss_pos": sync_bce(similarity, 1.0),
        "sync_loss_neg": sync_bce(similarity, 0.0),
    }
    if vectors.has("in_label"):
        results["sync_loss_labels"] = sync_bce(similarity, vectors["in_label"])
    yield from vectors.compare(results, ATOL, RTOL)


def _training_step(vectors: Vectors, network: SyncNet, variables: Any) -> Iterator[Comparison]:
    def loss_fn(params, audio, mouth):
        collections = {"params": params, "batch_stats": variables["batch_stats"]}
        embeddings, updates = network.apply(collections, audio, mouth, train=True, mutable=["batch_stats"])
        similarity = cosine(*embeddings)
        return sync_bce(similarity, vectors["in_label"]), (embeddings, similarity, updates["batch_stats"])

    step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    (loss, (embeddings, similarity, statistics)), grads = step(variables["params"], vectors["in_audio"], vectors["in_mouth_lm"])
    results = {
        "train_audio_embedding": embeddings[0],
        "train_mouth_embedding": embeddings[1],
        "train_loss": loss,
        "train_cosine_sim": similarity,
    }
    for found in vectors.find(r"train_running_(mean|var)_after__(hubert|mouth)_encoder\.(\d+)"):
        encoder = "audio_encoder" if found[2] == "hubert" else "mouth_encoder"
        results[found[0]] = statistics[encoder][f"block_{found[3]}"]["norm"][found[1]]
    yield from vectors.compare(results, 5e-5, RTOL)
    yield from vectors.gradients("train_grad__", grads, SYNCNET.converter)


def _sequences(vectors: Vectors, network: SyncNet, variables: Any) -> Iterator[Comparison]:
    item, start = vectors["seq_clip_batch_index"], vectors["seq_clip_start"]
    if vectors.has("in_seq_y_mask"):
        inside = vectors["in_seq_y_mask"][item[:, None], start[:, None] + np.arange(MOUTH_FRAMES)].all()
        yield Comparison("seq_clip_start (inside in_seq_y_mask)", 0.0 if inside else float("inf"))
    embeddings = _embed(network, variables, vectors["in_seq_hubert"], vectors["in_seq_mouth"], item, start)
    yield from vectors.compare({"seq_sync_loss": sync_bce(cosine(*embeddings), 1.0)}, ATOL, RTOL)


def expert(vectors: Vectors) -> Network | None:
    """The SyncNet of the other folders' sync losses; None if its folder is missing."""
    weights = vectors.weights(sibling="v1_syncnet")
    return None if weights is None else Network.from_weights(SYNCNET, weights)


def clip_loss(model: Any, variables: Any, audio: jax.Array, motion: jax.Array, item: np.ndarray, start: np.ndarray) -> jax.Array:
    """Sync loss of the recorded clips (item and first video frame of each) under the expert of a model config."""
    return sync_bce(cosine(*_embed(SyncNet(model.base), variables, audio, motion[..., MOUTH], item, start)), 1.0)


def _embed(network: SyncNet, variables: Any, audio: Any, mouth: Any, item: np.ndarray, start: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Embeddings of clips of [B, 2T, C] audio and [B, T, 60] mouths."""
    item, start = item[:, None], start[:, None]
    audio_clips = jnp.asarray(audio)[item, 2 * start + np.arange(AUDIO_FRAMES)]
    return network.apply(variables, audio_clips, jnp.asarray(mouth)[item, start + np.arange(MOUTH_FRAMES)])
