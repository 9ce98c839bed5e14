"""Stage: PostNet, a GAN that moves the VAE's landmarks into one person's domain, after fine-tuning the VAE on that person.

Steps 0 .. finetune_audio2motion.steps - 1 train a copy of the VAE on the person's own speech and landmarks, mixed with the corpus so that
it does not forget other voices; all later steps train the generator and the discriminator on the frozen copy. A metric that belongs to
the other phase reads 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from geneface_jax.data.audio_batches import sample_windows
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.data_kind import kind_of, record_kind, require_same
from geneface_jax.data.model_audio import silence
from geneface_jax.data.network_space import corpus_pairs, subject_pairs
from geneface_jax.data.subject_motion import SubjectMotion
from geneface_jax.errors import InputError
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.models.speech_to_motion import generate
from geneface_jax.training import devices
from geneface_jax.training.audio_augment import augment_batch
from geneface_jax.training.losses_motion import lsgan_discriminator, lsgan_generator, masked_mean, masked_mse, sync_bce
from geneface_jax.training.motion_metrics import summarise
from geneface_jax.training.speech_optimizer import adam, rmsprop
from geneface_jax.training.stage import Evaluation, Metrics, State
from geneface_jax.training.stages.audio2motion import EVAL_SEED, expert_cosines, load_expert
from geneface_jax.training.sync_expert import SyncExpert
from geneface_jax.training.vae_step import build_network, item_noise, vae_gradients

NETWORKS = ("postnet", "discriminator", "audio2motion")
METRICS = ("mse", "sync", "adv", "disc_neg_conf", "disc_pos_conf", "disc_fake_loss", "disc_true_loss")
FINETUNE_METRICS = ("mse", "continuity", "kl", "sync")


class PostNetStage:
    """Generator and discriminator of one person; see the module's docstring.

    Batches hold `batch` corpus windows and `person_batch` windows of the person. The original takes the whole training sequence of the
    person each step; windows of it are as good and do not grow with the video.
    """

    unit = "clips"
    best = ("val/mse", "min")

    def __init__(self, config: ConfigDict):
        self.config = config
        self.items_per_step = config.data.batch + config.data.person_batch
        if not config.data.audio2motion:
            raise InputError("config.data.audio2motion is empty: give the work folder of a trained audio2motion VAE.")
        from geneface_jax.io import checkpoints

        vae = checkpoints.load(config.data.audio2motion)
        with config.unlocked():
            # The checkpoint carries its own VAE, so its config must tell how to build it.
            config.audio2motion = ConfigDict({"model": vae.config.model.to_dict(), "center": vae.config.data.center})
        self.vae_variables = {"params": vae.state["params"], "batch_stats": vae.state["batch_stats"]}
        self.std = np.asarray(vae.state["constants"]["motion_std"])
        kind = kind_of(vae.config.data)
        record_kind(config, kind)
        self.expert = load_expert(config.data.syncnet, config.loss.sync, vae.config.data.center, kind)
        corpus = Corpus.load(config.data.corpus)
        person = SubjectMotion.load(config.data.subject)
        for name, other in (
            (f"the corpus {config.data.corpus}", kind_of(corpus.meta)),
            (f"the dataset {config.data.subject}", person.kind),
        ):
            require_same(f"the audio2motion VAE in {config.data.audio2motion}", kind, name, other)
        self.corpus, _ = corpus_pairs(corpus, vae.config.data.center, self.std)
        self.person, center = subject_pairs(person, vae.config.data.center, self.std)
        self.constants = {"motion_mean": center, "motion_std": self.std}
        self.vae = build_network(config.audio2motion.model, devices.AXIS)
        self.generator = CNNPostNet(config.model.base, config.model.zero_init, devices.AXIS)
        self.discriminator = MLPDiscriminator(config.model.base, config.model.dropout)
        adversarial_steps = max(config.train.steps - config.finetune_audio2motion.steps, 1)
        self.optimizers = {
            "postnet": rmsprop(config.optimizer.postnet, adversarial_steps),
            "discriminator": rmsprop(config.optimizer.discriminator, adversarial_steps),
            "audio2motion": adam(config.optimizer.audio2motion, max(config.finetune_audio2motion.steps, 1)),
        }

    def init(self, rng: jax.Array) -> State:
        rng_generator, rng_discriminator = jax.random.split(rng)
        motion = jnp.zeros((1, self.config.data.window, self.vae.motion_dim))
        generator = CNNPostNet(self.config.model.base, self.config.model.zero_init).init(rng_generator, motion)
        params = {
            "postnet": generator["params"],
            "discriminator": self.discriminator.init(rng_discriminator, motion)["params"],
            "audio2motion": jax.tree.map(jnp.asarray, self.vae_variables["params"]),
        }
        return {
            "params": params,
            "batch_stats": {
                "postnet": generator["batch_stats"],
                "audio2motion": jax.tree.map(jnp.asarray, self.vae_variables["batch_stats"]),
            },
            "opt_state": {name: self.optimizers[name].init(params[name]) for name in NETWORKS},
            "constants": {name: jnp.asarray(value) for name, value in self.constants.items()},
        }

    def data(self) -> Any:
        """The frozen expert's variables."""
        return self.expert.variables if self.expert else {}

    def host_batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.config.seed, step])
        data = self.config.data
        return {
            "corpus": sample_windows(rng, self.corpus["train"], data.batch, data.window),
            "person": sample_windows(rng, self.person["train"], data.person_batch, data.window),
        }

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        rng_audio, rng_loss = jax.random.split(rng)
        if self.config.data.augment.enabled:
            batch = self._augmented(rng_audio, batch)
        expert = dataclasses.replace(self.expert, variables=data) if self.expert else None
        zeros = {name: jnp.zeros(()) for name in (*METRICS, *(f"finetune/{name}" for name in FINETUNE_METRICS))}

        def finetune(state):
            state, metrics = self._finetune_step(state, expert, batch, rng_loss)
            return state, {**zeros, **metrics}

        def adversarial(state):
            state, metrics = self._adversarial_step(state, expert, batch, rng_loss)
            return state, {**zeros, **metrics}

        if not self.config.finetune_audio2motion.steps:
            return self._adversarial_step(state, expert, batch, rng_loss)
        return jax.lax.cond(step < self.config.finetune_audio2motion.steps, finetune, adversarial, state)

    def _augmented(self, rng: jax.Array, batch: Any) -> Any:
        together, indices, split = self._together(batch)
        audio = split(augment_batch(rng, indices, together["audio"], self.config.data.augment))
        return {part: {**batch[part], "audio": audio[part]} for part in batch}

    def _together(self, batch: Any) -> tuple[dict[str, jax.Array], jax.Array, Callable[[jax.Array], dict[str, jax.Array]]]:
        """Corpus and person windows as one batch, the items' numbers for random draws, and the way back."""
        corpus, person = batch["corpus"], batch["person"]
        n_corpus, n_person = corpus["mask"].shape[0], person["mask"].shape[0]
        # The person's items are counted after all of the corpus', whatever the number of devices.
        indices = jnp.concatenate([devices.global_indices(n_corpus), self.config.data.batch + devices.global_indices(n_person)])
        together = jax.tree.map(lambda *parts: jnp.concatenate(parts), corpus, person)
        return together, indices, lambda x: {"corpus": x[:n_corpus], "person": x[n_corpus:]}

    def _finetune_step(self, state: State, expert: SyncExpert | None, batch: Any, rng: jax.Array) -> tuple[State, Metrics]:
        """One update of the VAE on corpus and person windows together. Batch norm keeps its statistics: one voice would bend them."""
        together, indices, _ = self._together(batch)
        variables = {"params": state["params"]["audio2motion"], "batch_stats": state["batch_stats"]["audio2motion"]}
        weights = self.config.finetune_audio2motion.loss
        grads, losses, _ = vae_gradients(
            self.vae, variables, together, indices, weights, rng, expert, state["constants"]["motion_std"], self._clips_per_item, False
        )
        state = self._updated(state, {"audio2motion": grads})
        return state, {f"finetune/{name}": losses[name] for name in FINETUNE_METRICS}

    def _adversarial_step(self, state: State, expert: SyncExpert | None, batch: Any, rng: jax.Array) -> tuple[State, Metrics]:
        """One update of the generator, then one of the discriminator on the same generated frames."""
        rng_noise, rng_clips, *rng_dropout = jax.random.split(rng, 5)
        # Dropout draws differ between devices: every device drops other frames' features.
        rng_dropout = [jax.random.fold_in(key, devices.index()) for key in rng_dropout]
        corpus, person, params = batch["corpus"], batch["person"], state["params"]
        weights = self.config.loss
        together, indices, split = self._together(batch)
        samples = split(self._vae_samples(state, rng_noise, indices, together))
        corpus_indices = devices.global_indices(corpus["mask"].shape[0])

        def discriminate(params, motion, key):
            return self.discriminator.apply({"params": params}, motion, train=True, rngs={"dropout": key})

        def generator_loss(postnet):
            # The person first, then the corpus: the order matters for the running statistics.
            collections = {"params": postnet, "batch_stats": state["batch_stats"]["postnet"]}
            own, updates = self.generator.apply(collections, samples["person"], train=True, mutable=["batch_stats"])
            collections = {"params": postnet, **updates}
            fake, updates = self.generator.apply(collections, samples["corpus"], train=True, mutable=["batch_stats"])
            losses = {
                "mse": masked_mse(own, person["motion"], person["mask"]),
                "adv": lsgan_generator(discriminate(params["discriminator"], fake, rng_dropout[0]), corpus["mask"]),
                "sync": jnp.zeros(()),
            }
            if expert is not None:
                losses["sync"] = expert.loss(
                    rng_clips, corpus_indices, corpus["audio"], fake, state["constants"]["motion_std"], corpus["mask"], self._clips_per_item
                )
            return sum(weights[name] * value for name, value in losses.items()), (losses, fake, updates["batch_stats"])

        def discriminator_loss(discriminator, fake):
            score_fake = discriminate(discriminator, fake, rng_dropout[1])
            score_true = discriminate(discriminator, person["motion"], rng_dropout[2])
            fake_loss, true_loss = lsgan_discriminator(score_fake, corpus["mask"], score_true, person["mask"])
            metrics = {
                "disc_fake_loss": fake_loss,
                "disc_true_loss": true_loss,
                "disc_neg_conf": masked_mean(score_fake, corpus["mask"]),
                "disc_pos_conf": masked_mean(score_true, person["mask"]),
            }
            return fake_loss + true_loss, metrics

        generator_grads, (losses, fake, batch_stats) = jax.grad(generator_loss, has_aux=True)(params["postnet"])
        fake = jax.lax.stop_gradient(fake)
        discriminator_grads, metrics = jax.grad(discriminator_loss, has_aux=True)(params["discriminator"], fake)
        grads = devices.mean({"postnet": generator_grads, "discriminator": discriminator_grads})
        state = self._updated(state, grads)
        state["batch_stats"] = {**state["batch_stats"], "postnet": devices.mean(batch_stats)}
        return state, devices.mean({**losses, **metrics})

    def _vae_samples(self, state: State, rng: jax.Array, indices: jax.Array, windows: dict[str, jax.Array]) -> jax.Array:
        """The VAE's motion for windows of audio, without gradient; zero where padded."""
        z = self.config.data.temperature * item_noise(rng, indices, (windows["mask"].shape[1] // STRIDE, self.vae.latent))
        variables = {"params": state["params"]["audio2motion"], "batch_stats": state["batch_stats"]["audio2motion"]}
        motion = self.vae.apply(variables, windows["audio"], z, method=Audio2Motion.generate)
        return jax.lax.stop_gradient(motion * windows["mask"][..., None])

    def _updated(self, state: State, grads: dict[str, Any]) -> State:
        """Applies gradients to the networks that have some; the others and their optimisers stay as they are."""
        params, opt_state = dict(state["params"]), dict(state["opt_state"])
        for name, gradient in grads.items():
            updates, opt_state[name] = self.optimizers[name].update(gradient, opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        return {**state, "params": params, "opt_state": opt_state}

    @property
    def _clips_per_item(self) -> int:
        return -(-self.config.loss.sync_clips // self.config.data.batch)

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        variables = {
            name: {"params": state["params"][name], "batch_stats": state["batch_stats"][name]} for name in ("audio2motion", "postnet")
        }
        vae = build_network(self.config.audio2motion.model)
        postnet = (CNNPostNet(self.config.model.base, self.config.model.zero_init), variables["postnet"])
        quiet = silence(1, self.person["val"][0].audio.shape[-1])[0]
        rng = jax.random.key(EVAL_SEED)

        def predict(pairs, refine):
            return [generate(vae, variables["audio2motion"], pair.audio, quiet, rng, 0.0, postnet if refine else None) for pair in pairs]

        truth = [pair.motion for pair in self.person["val"]]
        scalars = summarise(predict(self.person["val"], True), truth)
        unrefined = summarise(predict(self.person["val"], False), truth, "val_vae/")
        scalars |= {tag: unrefined[tag] for tag in ("val_vae/mse", "val_vae/mouth_correlation")}
        if self.expert:
            pairs = self.corpus["val"][: self.config.data.eval_clips]
            cosines = [expert_cosines(self.expert, pair.audio, m, self.std) for pair, m in zip(pairs, predict(pairs, True), strict=True)]
            scalars["val/sync"] = float(sync_bce(jnp.concatenate(cosines), 1.0))
        return Evaluation(scalars)


def make(config: ConfigDict) -> PostNetStage:
    """The stage of `configs/postnet.py`."""
    return PostNetStage(config)
