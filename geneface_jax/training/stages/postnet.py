"""PostNet stage: a GAN that maps the VAE's landmarks into one person's domain, after fine-tuning the VAE on that person.

Steps 0 .. finetune_audio2motion.steps - 1 train a copy of the VAE on the person's own speech and landmarks, mixed with the corpus so that
it does not forget other voices; all later steps train the generator and the discriminator on the frozen copy. Metrics of the other phase
are 0.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.corpus import SubjectMotion, training_corpus
from geneface_jax.data.speech_batches import STARTS, corpus_clips, sample_windows, silence, subject_clips, typical_amplitudes
from geneface_jax.data.subject import feature_types_of, record_dataset, record_feature_types, require_same_features
from geneface_jax.io import checkpoints
from geneface_jax.models.audio2motion import STRIDE, Audio2Motion, generate, typical_voice
from geneface_jax.models.postnet import CNNPostNet, MLPDiscriminator
from geneface_jax.training import devices, speech_losses
from geneface_jax.training.optimizers import adam, learning_rate, rmsprop, warm_up
from geneface_jax.training.speech_augment import augment_windows
from geneface_jax.training.speech_validation import MotionDistribution, landmark_video_summary, motion_metrics, speech_audio_summary
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.training.stages.audio2motion import EVAL_SEED, build_network, expert_cosines, item_noise, load_expert, vae_gradients
from geneface_jax.typing import Metrics, State

NETWORKS = ("postnet", "discriminator", "audio2motion")
ADVERSARIES = ("postnet", "discriminator")
METRICS = ("mse", "sync", "adv", "disc_neg_conf", "disc_pos_conf", "disc_fake_loss", "disc_true_loss")
LEAST_MARGIN = 0.1
"""Of the offset of sound and picture: real clips have 0.14 to 0.36, sound that does not belong to the picture less than 0.1."""

FINETUNE_METRICS = ("mse", "continuity", "kl", "sync")


class PostNetStage(Stage):
    """Generator and discriminator of one person; see the module's docstring.

    Batches hold `batch` corpus windows and `person_batch` windows of the person. The original takes the whole training sequence of the
    person each step; windows work as well and do not grow with the video.
    """

    unit = "clips"
    best = ("val/mse", "min")
    # The curves that `geneface select-postnet` uses, each with its counterpart.
    charts = {
        "discriminator: real and generated": ("tr/disc_pos_conf", "tr/disc_neg_conf"),
        "adversarial losses": ("tr/adv", "tr/disc_true_loss", "tr/disc_fake_loss"),
        "sync": ("tr/sync", "val/sync"),
        "error on the person": ("tr/mse", "val/mse", "val_vae/mse"),
        "distance to the person": ("val/frechet", "val_vae/frechet"),
        "diversity": ("val/diversity", "val_vae/diversity"),
        "learning rates": tuple(f"tr/lr/{name}" for name in NETWORKS),
        "gradient norms": tuple(f"tr/grad_norm/{name}" for name in NETWORKS),
    }

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.items_per_step = config.data.batch + config.data.person_batch
        if not config.data.audio2motion:
            raise InputError("config.data.audio2motion is empty: give the work folder of a trained audio2motion VAE.")
        vae = checkpoints.load(config.data.audio2motion)
        with config.unlocked():
            # The checkpoint includes the VAE, so its config must describe it.
            config.audio2motion = ConfigDict({"model": vae.config.model.to_dict(), "center": vae.config.data.center})
        self.vae_variables = {"params": vae.state["params"], "batch_stats": vae.state["batch_stats"]}
        self.std = np.asarray(vae.state["constants"]["motion_std"])
        kind = feature_types_of(vae.config.data)
        record_feature_types(config, kind)
        self.expert = load_expert(config.data.syncnet, config.loss.sync, vae.config.data, kind)
        corpus = training_corpus(config.data)
        person = SubjectMotion.load(config.data.subject)
        record_dataset(config, person.fingerprint)
        for name, other in (
            (f"the corpus {config.data.corpus}", feature_types_of(corpus.meta)),
            (f"the dataset {config.data.subject}", person.kind),
        ):
            require_same_features(f"the audio2motion VAE in {config.data.audio2motion}", kind, name, other)
        late = self._lateness(person)
        self.corpus, _ = corpus_clips(corpus, vae.config.data.center, self.std, vae.config.data.get("lead", 0) - late)
        if self.expert is not None:
            self.expert = dataclasses.replace(self.expert, late=late)
        self.person, center = subject_clips(person, vae.config.data.center, self.std)
        self.constants = {"motion_mean": center, "motion_std": self.std}
        self.domain = MotionDistribution.fit(self.person["train"][0].motion, self.person["val"][0].motion)
        self.vae = build_network(config.audio2motion.model, devices.AXIS)
        if self.vae.needs_voice:
            self.constants |= typical_amplitudes(self.person["train"])
        self.generator = CNNPostNet(config.model.base, config.model.zero_init, devices.AXIS)
        self.discriminator = MLPDiscriminator(config.model.base, config.model.dropout)
        adversarial_steps = max(config.train.steps - config.finetune_audio2motion.steps, 1)
        updates = {**dict.fromkeys(ADVERSARIES, adversarial_steps), "audio2motion": max(config.finetune_audio2motion.steps, 1)}
        self.rates = {name: learning_rate(config.optimizer[name], updates[name]) for name in NETWORKS}
        self.optimizers = {
            name: (rmsprop if name in ADVERSARIES else adam)(config.optimizer[name], steps) for name, steps in updates.items()
        }

    def _lateness(self, person: SubjectMotion) -> int:
        """Frames by which the person's mouth is later than the VAE's, which was trained on other videos; 0 if the SyncNet is in doubt."""
        if self.expert is None or not self.config.data.get("align", False):  # earlier configs don't have it
            return 0
        offset = speech_losses.sync_offset(self.expert, person.train.audio_features, person.train.f0, person.train.motion)
        return round(offset.lag) if offset.margin >= LEAST_MARGIN else 0

    def phases(self) -> list[Phase]:
        """The adversarial updates, which follow the fine-tuning of the VAE, and the full learning rates."""
        first, steps, rates = self.config.finetune_audio2motion.steps, self.config.train.steps, self.config.optimizer
        found = [Phase("finetune_audio2motion.steps", first, first, steps, steps // 4, "adversarial updates (PostNet stays untrained)")]
        if first < steps:
            found += [phase for name in ADVERSARIES for phase in warm_up(f"optimizer.{name}.", rates[name], steps - first)]
        return found + (warm_up("optimizer.audio2motion.", rates.audio2motion, min(first, steps)) if first else [])

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
        draw = data.get("draw", STARTS)  # earlier configs don't have it
        return {
            "corpus": sample_windows(rng, self.corpus["train"], data.batch, data.window, draw),
            "person": sample_windows(rng, self.person["train"], data.person_batch, data.window, draw),
        }

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        rng_audio, rng_loss = jax.random.split(rng)
        if self.config.data.augment.enabled:
            batch = self._augment(rng_audio, batch)
        expert = dataclasses.replace(self.expert, variables=data) if self.expert else None
        first = self.config.finetune_audio2motion.steps  # of the adversarial updates
        optimizer = [f"{kind}/{name}" for kind in ("lr", "grad_norm") for name in NETWORKS]
        zeros = {name: jnp.zeros(()) for name in (*METRICS, *(f"finetune/{name}" for name in FINETUNE_METRICS), *optimizer)}

        def finetune(state):
            state, metrics = self._finetune_step(state, expert, batch, rng_loss)
            return state, {**zeros, **metrics, "lr/audio2motion": self.rates["audio2motion"](step)}

        def adversarial(state):
            state, metrics = self._adversarial_step(state, expert, batch, rng_loss)
            return state, {**zeros, **metrics, **{f"lr/{name}": self.rates[name](step - first) for name in ADVERSARIES}}

        return jax.lax.cond(step < first, finetune, adversarial, state) if first else adversarial(state)

    def _augment(self, rng: jax.Array, batch: Any) -> Any:
        windows, indices, split = self._concatenate(batch)
        return split(augment_windows(rng, indices, windows, self.config.data.augment))

    def _concatenate(self, batch: Any) -> tuple[dict[str, jax.Array], jax.Array, Callable[[Any], dict[str, Any]]]:
        """Corpus and person windows as one batch, the items' indices for random draws, and the function that splits such a batch."""
        corpus, person = batch["corpus"], batch["person"]
        n_corpus, n_person = corpus["mask"].shape[0], person["mask"].shape[0]
        # The person's items are numbered after all corpus items, independent of the number of devices.
        indices = jnp.concatenate([devices.global_indices(n_corpus), self.config.data.batch + devices.global_indices(n_person)])
        windows = jax.tree.map(lambda *parts: jnp.concatenate(parts), corpus, person)

        def split(tree: Any) -> dict[str, Any]:
            return {"corpus": jax.tree.map(lambda x: x[:n_corpus], tree), "person": jax.tree.map(lambda x: x[n_corpus:], tree)}

        return windows, indices, split

    def _finetune_step(self, state: State, expert: speech_losses.SyncExpert | None, batch: Any, rng: jax.Array) -> tuple[State, Metrics]:
        """One update of the VAE on corpus and person windows together, with frozen batch statistics: one voice would bias them."""
        windows, indices, _ = self._concatenate(batch)
        variables = {"params": state["params"]["audio2motion"], "batch_stats": state["batch_stats"]["audio2motion"]}
        weights = self.config.finetune_audio2motion.loss
        grads, losses, _ = vae_gradients(
            self.vae, variables, windows, indices, weights, rng, expert, state["constants"]["motion_std"], self._clips_per_item, False
        )
        state, norms = self._apply_gradients(state, {"audio2motion": grads})
        return state, {**{f"finetune/{name}": losses[name] for name in FINETUNE_METRICS}, **norms}

    def _adversarial_step(self, state: State, expert: speech_losses.SyncExpert | None, batch: Any, rng: jax.Array) -> tuple[State, Metrics]:
        """One update of the generator, then one of the discriminator on the same generated frames."""
        rng_noise, rng_clips, *rng_dropout = jax.random.split(rng, 5)
        corpus, person, params = batch["corpus"], batch["person"], state["params"]
        weights = self.config.loss
        windows, indices, split = self._concatenate(batch)
        samples = split(self._vae_samples(state, rng_noise, indices, windows))
        corpus_indices = devices.global_indices(corpus["mask"].shape[0])

        def discriminate(params, motion, key):
            # Dropout depends on an item's index in the global batch, not on the number of devices.
            def one(window, index):
                rngs = {"dropout": jax.random.fold_in(key, index)}
                return self.discriminator.apply({"params": params}, window, train=True, rngs=rngs)

            return jax.vmap(one)(motion, devices.global_indices(len(motion)))

        def generator_loss(postnet):
            # The person first, then the corpus: the order matters for the running statistics.
            collections = {"params": postnet, "batch_stats": state["batch_stats"]["postnet"]}
            refined, updates = self.generator.apply(collections, samples["person"], train=True, mutable=["batch_stats"])
            collections = {"params": postnet, **updates}
            fake, updates = self.generator.apply(collections, samples["corpus"], train=True, mutable=["batch_stats"])
            losses = {
                "mse": speech_losses.masked_mse(
                    refined, person["motion"], person["mask"], jnp.asarray(speech_losses.upper_face_weights(weights.mse_upper))
                ),
                "adv": speech_losses.lsgan_generator(discriminate(params["discriminator"], fake, rng_dropout[0]), corpus["mask"]),
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
            fake_loss, true_loss = speech_losses.lsgan_discriminator(score_fake, corpus["mask"], score_true, person["mask"])
            metrics = {
                "disc_fake_loss": fake_loss,
                "disc_true_loss": true_loss,
                "disc_neg_conf": devices.masked_mean(score_fake, corpus["mask"]),
                "disc_pos_conf": devices.masked_mean(score_true, person["mask"]),
            }
            return fake_loss + true_loss, metrics

        generator_grads, (losses, fake, batch_stats) = jax.grad(generator_loss, has_aux=True)(params["postnet"])
        fake = jax.lax.stop_gradient(fake)
        discriminator_grads, metrics = jax.grad(discriminator_loss, has_aux=True)(params["discriminator"], fake)
        grads = devices.mean({"postnet": generator_grads, "discriminator": discriminator_grads})
        state, norms = self._apply_gradients(state, grads)
        state["batch_stats"] = {**state["batch_stats"], "postnet": devices.mean(batch_stats)}
        return state, {**devices.mean({**losses, **metrics}), **norms}

    def _vae_samples(self, state: State, rng: jax.Array, indices: jax.Array, windows: dict[str, jax.Array]) -> jax.Array:
        """The VAE's motion for windows of audio under the inputs of inference, without gradient; zero where padded."""
        z = self.config.data.temperature * item_noise(rng, indices, (windows["mask"].shape[1] // STRIDE, self.vae.latent))
        variables = {"params": state["params"]["audio2motion"], "batch_stats": state["batch_stats"]["audio2motion"]}
        voice = typical_voice(windows["f0"], state["constants"])
        motion = cast(jax.Array, self.vae.apply(variables, windows["audio"], z, voice, method=Audio2Motion.generate))
        return jax.lax.stop_gradient(motion * windows["mask"][..., None])

    def _apply_gradients(self, state: State, grads: dict[str, Any]) -> tuple[State, dict[str, jax.Array]]:
        """Updates the networks in `grads` and their optimizers; also returns the norms of the gradients."""
        params, opt_state = dict(state["params"]), dict(state["opt_state"])
        for name, gradient in grads.items():
            updates, opt_state[name] = self.optimizers[name].update(gradient, opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        norms = {f"grad_norm/{name}": optax.tree.norm(gradient) for name, gradient in grads.items()}
        return {**state, "params": params, "opt_state": opt_state}, norms

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
            voices = [typical_voice(pair.f0[None], self.constants) for pair in pairs]
            return [
                generate(vae, variables["audio2motion"], pair.audio, quiet, rng, 0.0, postnet if refine else None, voice)
                for pair, voice in zip(pairs, voices, strict=True)
            ]

        person, others = self.person["val"], self.corpus["val"][: self.config.data.eval_clips]
        truth = [pair.motion for pair in person]
        person_motions, person_motions_vae = predict(person, True), predict(person, False)
        other_motions, other_motions_vae = predict(others, True), predict(others, False)
        scalars = motion_metrics(person_motions, truth)
        unrefined = motion_metrics(person_motions_vae, truth, "val_vae/")
        scalars |= {tag: unrefined[tag] for tag in ("val_vae/mse", "val_vae/mouth_correlation")}
        # On other voices: the person's face must still depend on the speech.
        for prefix, motions, own in (("val/", other_motions, person_motions), ("val_vae/", other_motions_vae, person_motions_vae)):
            scalars |= {
                f"{prefix}frechet": self.domain.frechet(motions),
                f"{prefix}diversity": self.domain.diversity([*motions, *own]),
            }
        if self.expert:
            cosines = [
                expert_cosines(self.expert, pair.audio, motion, self.std) for pair, motion in zip(others, other_motions, strict=True)
            ]
            scalars["val/sync"] = float(speech_losses.sync_bce(jnp.concatenate(cosines), 1.0))
        video = self.config.eval_video
        return Evaluation(
            scalars,
            videos=landmark_video_summary(truth[0], person_motions[0], self.std, self.constants["motion_mean"], video),
            sounds=speech_audio_summary(self.config.data.subject, self.person["train"][0].n_frames, min(video.frames, person[0].n_frames)),
        )
