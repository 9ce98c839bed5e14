"""Losses of the speech stages: reconstruction, KL, LSGAN, and SyncNet as a frozen expert (loss, sync AUC, sync score)."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.audio.offset import highest_peak
from geneface_jax.data.speech_batches import MOUTH, AnyNormalizedClip, clips_at, model_audio, positive_clips
from geneface_jax.data.subject import FeatureTypes, feature_types_of, require_same_features
from geneface_jax.io import checkpoints
from geneface_jax.models.syncnet import MOUTH_FRAMES, SyncNet, cosine
from geneface_jax.training.devices import mask_count, masked_mean
from geneface_jax.typing import Array

# -------- Losses of the speech-to-motion networks. Masks are [B, T] of 0/1; D is the width of the motion
#
# Inside a mapped step the mean over devices of a masked loss is the loss of the whole batch (see `devices.mask_count`).


def masked_mse(prediction: Array, truth: Array, mask: Array, weights: Array | float = 1.0) -> jax.Array:
    """Mean squared error over the unmasked frames of [B, T, D]; `weights` ([D] or a number) multiply the squares."""
    return jnp.sum(jnp.square((prediction - truth) * mask[..., None]) * weights) / (mask_count(mask) * truth.shape[-1])


UPPER_FACE = slice(17, 48)


def upper_face_weights(weight: float) -> np.ndarray:
    """[204] weights of squared errors: `weight` on brows, nose and eyes (points 17 to 47), 1 on jaw and mouth."""
    weights = np.ones((68, 3), np.float32)
    weights[UPPER_FACE] = weight
    return weights.reshape(-1)


def continuity(prediction: Array, truth: Array, mask: Array) -> jax.Array:
    """Squared error of the frame-to-frame differences, plus that of the first frame; normalized as `masked_mse`.

    A difference is masked by its later frame, as in GeneFace; the first frame is always counted.
    """
    steps = (jnp.diff(prediction, axis=1) - jnp.diff(truth, axis=1)) * mask[:, 1:, None]
    first = prediction[:, 0] - truth[:, 0]
    return (jnp.sum(jnp.square(steps)) + jnp.sum(jnp.square(first))) / (mask_count(mask) * truth.shape[-1])


def kl_single_sample(mean: Array, log_std: Array, z: Array, z_prior: Array, mask: Array) -> jax.Array:
    """One-sample estimate of KL(posterior || flow prior), per latent frame and channel; the flow preserves volume. All are
    [B, T', latent], the mask [B, T', 1]."""
    log_posterior = -0.5 * jnp.square((z - mean) * jnp.exp(-log_std)) - log_std
    log_prior = -0.5 * jnp.square(z_prior)
    return jnp.sum((log_posterior - log_prior) * mask) / mask_count(mask) / mean.shape[-1]


def sync_bce(cosine: Array, label: Array | float) -> jax.Array:
    """Binary cross-entropy of cosines [N] in [0, 1] and labels (1 = in sync); logarithms are at least -100 and the gradient is finite, as
    in torch.nn.BCELoss."""
    return jnp.mean(_bce(jnp.clip(cosine, 0.0, 1.0), jnp.broadcast_to(jnp.asarray(label, cosine.dtype), cosine.shape)))


@jax.custom_vjp
def _bce(probability: jax.Array, label: jax.Array) -> jax.Array:
    log_yes = jnp.maximum(jnp.log(jnp.maximum(probability, 1e-45)), -100.0)
    log_no = jnp.maximum(jnp.log(jnp.maximum(1.0 - probability, 1e-45)), -100.0)
    return -(label * log_yes + (1.0 - label) * log_no)


def _bce_forward(probability: jax.Array, label: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _bce(probability, label), (probability, label)


def _bce_backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, None]:
    probability, label = saved
    return cotangent * (probability - label) / jnp.maximum(probability * (1.0 - probability), 1e-12), None


_bce.defvjp(_bce_forward, _bce_backward)


def lsgan_generator(score_fake: Array, mask: Array) -> jax.Array:
    """mean((1 - D(fake))^2) over unmasked frames [B, T]."""
    return masked_mean(jnp.square(1.0 - score_fake), mask)


def lsgan_discriminator(score_fake: Array, mask_fake: Array, score_true: Array, mask_true: Array) -> tuple[jax.Array, jax.Array]:
    """(mean(D(fake)^2), mean((D(true) - 1)^2)) over unmasked frames."""
    return masked_mean(jnp.square(score_fake), mask_fake), masked_mean(jnp.square(score_true - 1.0), mask_true)


# -------- Frozen expert: loss and scores

WINDOW = 25
"""Video frames of a scored window: one second."""

LENGTH_BUCKET = 64
"""Sequences are padded to a multiple of it, so that clips of many lengths share a few compilations."""


@dataclasses.dataclass(frozen=True)
class SyncExpert:
    """A frozen SyncNet, including its batch statistics (GeneFace lets those drift inside other stages; see docs/deviations.md).

    Attributes:
      network: the module.
      variables: {"params", "batch_stats"}.
      std: [204] the scale of its network space.
      center: "speaker" or "none": what is subtracted from a motion before scaling.
      kind: types of the landmarks and audio features it was trained on.
      lead: frames by which the faces it was trained on are earlier than in their recordings.
      late: frames by which the motions it is given are later than those (negative: earlier); the sound is moved by as many.
    """

    network: SyncNet
    variables: dict[str, Any]
    std: np.ndarray
    center: str
    kind: FeatureTypes = FeatureTypes()
    lead: int = 0
    late: int = 0

    @classmethod
    def load(cls, workdir: str | os.PathLike[str], step: int | None = None) -> "SyncExpert":
        """Reads a SyncNet's work folder. Raises InputError when there is no checkpoint."""
        checkpoint = checkpoints.load(workdir, step)
        state, data = checkpoint.state, checkpoint.config.data
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        std, kind = state["constants"]["motion_std"], feature_types_of(data)
        return cls(SyncNet(checkpoint.config.model.base), variables, std, data.center, kind, data.get("lead", 0))

    def loss(
        self, rng: jax.Array, indices: jax.Array, audio: jax.Array, motion: jax.Array, std: jax.Array, mask: jax.Array, per_item: int
    ) -> jax.Array:
        """Cross-entropy of "in sync" over clips drawn from a batch; its gradient flows to the motion. Arguments as for `positive_clips`,
        with motion [B, T, 204] in a network space of scale std [204] (centered as this expert's)."""
        sound, face = self._in_step(motion.shape[1])
        audio_clips, mouth = positive_clips(rng, indices, audio[:, sound], motion[:, face], mask[:, face], per_item)
        ratio = (std / self.std)[MOUTH]
        embeddings = cast(tuple[jax.Array, jax.Array], self.network.apply(self.variables, audio_clips, mouth * ratio))
        return sync_bce(cosine(*embeddings), 1.0)

    def embed(self, audio: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of a sequence's clips, audio [2T, C] and motion [T, 204] in this expert's space: two [T - |late| - 4, D] arrays."""
        sound, face = self._in_step(len(motion))
        audio, motion = audio[sound], motion[face]
        frames = len(motion)
        padding = -frames % LENGTH_BUCKET
        audio = np.pad(audio, ((0, 2 * padding), (0, 0)))
        motion = np.pad(motion, ((0, padding), (0, 0)))
        audio_embedding, mouth_embedding = _embed(self.network, self.variables, audio, motion)
        clips = max(frames - MOUTH_FRAMES + 1, 0)
        return np.asarray(audio_embedding)[:clips], np.asarray(mouth_embedding)[:clips]

    def center_of(self, motion: np.ndarray) -> np.ndarray:
        """[204] what is subtracted from the motion [T, 204] of a speaker of whom nothing else is known."""
        return motion.mean(axis=0) if self.center == "speaker" else np.zeros(motion.shape[-1], np.float32)

    def embed_recording(self, audio_features: np.ndarray, f0: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `embed`, of features [2T, C], f0 [2T] and motion [T, 204] as a dataset or corpus holds them."""
        scaled = (motion - self.center_of(motion)) / np.asarray(self.std)
        return self.embed(model_audio(audio_features, f0), scaled.astype(np.float32))

    def _in_step(self, frames: int) -> tuple[slice, slice]:
        """The audio frames and the video frames of a sequence that belong together."""
        late = max(-frames, min(self.late, frames))
        return slice(2 * max(-late, 0), 2 * (frames - max(late, 0))), slice(max(late, 0), frames + min(late, 0))


@functools.partial(jax.jit, static_argnums=0)
def _embed(network: SyncNet, variables: dict[str, Any], audio: jax.Array, motion: jax.Array) -> tuple[jax.Array, jax.Array]:
    clips = clips_at(audio, motion, jnp.arange(motion.shape[0] - MOUTH_FRAMES + 1))
    return cast(tuple[jax.Array, jax.Array], network.apply(variables, *clips))


def window_scores(audio_embedding: np.ndarray, mouth_embedding: np.ndarray, shift: int = 0) -> np.ndarray:
    """[n] mean cosine of every one-second window with audio that is `shift` frames late; empty if the clip is too short."""
    n = min(len(audio_embedding), len(mouth_embedding)) - abs(shift)
    per_window = WINDOW - MOUTH_FRAMES + 1
    if n < per_window:
        return np.zeros(0, np.float32)
    a, m = max(shift, 0), max(-shift, 0)
    similarity = np.sum(np.asarray(audio_embedding[a : a + n]) * np.asarray(mouth_embedding[m : m + n]), axis=-1)
    return np.convolve(similarity, np.full(per_window, 1.0 / per_window), mode="valid").astype(np.float32)


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive scores above a negative (ties count half); NaN if either is empty."""
    positive, negative = np.asarray(positive, np.float64), np.sort(np.asarray(negative, np.float64))
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2.0 * len(negative)))


# -------- Sync AUC: how well a SyncNet separates a mouth's own audio from other audio; used by its validation and `evaluate --motion`

EVAL_SHIFTS = (-25, -15, -8, -5, 5, 8, 15, 25)
"""Audio shifts in frames of the negative windows."""

VOICED_SHARE = 0.4
"""Smallest share of voiced audio frames of a window that is scored: silence can't be told from silence."""


def windows_auc(expert: SyncExpert, pairs: Sequence[AnyNormalizedClip], other_audio: Sequence[np.ndarray] = ()) -> float:
    """AUC of voiced one-second windows: in-sync windows against shifted audio and the audio of other clips.

    Args:
      expert: a SyncNet.
      pairs: clips in its network space; each one's mouth is also scored against the audio of the next clip.
      other_audio: more negatives, [2T, C] arrays of model audio.

    Returns:
      0..1, 0.5 = chance; NaN if no clip is long enough or voiced.
    """
    positive, negative = [], []
    embeddings = [expert.embed(pair.audio, pair.motion) for pair in pairs]
    other_embeddings = [expert.embed(audio, np.zeros((len(audio) // 2, 204), np.float32))[0] for audio in other_audio]
    for i, (pair, (audio, mouth)) in enumerate(zip(pairs, embeddings, strict=True)):
        voiced = _voiced_windows(pair)
        positive.append(_select(window_scores(audio, mouth), voiced))
        for shift in EVAL_SHIFTS:
            negative.append(_select(window_scores(audio, mouth, shift), voiced[max(-shift, 0) :]))
        next_clip = [embeddings[(i + 1) % len(pairs)][0]] if len(pairs) > 1 else []
        for other in (*next_clip, *other_embeddings):
            negative.append(_select(window_scores(other, mouth), voiced))
    return auc(np.concatenate(positive), np.concatenate(negative))


def _voiced_windows(pair: AnyNormalizedClip) -> np.ndarray:
    """[T - 24] bool: one-second windows with enough voiced audio; empty for a clip shorter than a second."""
    if len(pair.voiced) < 50:
        return np.zeros(0, bool)
    share = np.convolve(pair.voiced, np.full(50, 1.0 / 50.0), mode="valid")[::2]
    return share >= VOICED_SHARE


def _select(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    n = min(len(scores), len(mask))
    return scores[:n][mask[:n]]


# -------- Sync score of a whole clip, by which `prepare-corpus --syncnet` filters

WRONG_SHIFTS = (-20, -15, -10, -7, 7, 10, 15, 20)
"""Audio shifts in frames that the score compares with."""


def sync_score(expert: SyncExpert, audio_features: np.ndarray, f0: np.ndarray, motion: np.ndarray) -> float | None:
    """Mean cosine of audio and mouth, minus its mean over audio shifted by 7 to 20 frames.

    Args:
      expert: a SyncNet. If it needs motion centered by speaker, the clip's own mean is used, as the speaker's other clips are unknown.
      audio_features: [2T, C]. f0: [2T]. motion: [T, 204].

    Returns:
      -1..1, about 0 if audio and mouth are unrelated; None for a clip too short to be shifted (46 frames).
    """
    audio, mouth = expert.embed_recording(audio_features, f0, motion)
    scores = {shift: window_scores(audio, mouth, shift) for shift in (0, *WRONG_SHIFTS)}
    if not all(map(len, scores.values())):
        return None
    return float(scores[0].mean() - np.mean([scores[shift].mean() for shift in WRONG_SHIFTS]))


def sync_scorer(workdir: str | os.PathLike[str], kind: FeatureTypes) -> tuple[str, Callable[[dict[str, np.ndarray]], float | None]]:
    """A scorer of corpus clips of feature types `kind`: a name that changes with the SyncNet's work folder and step, and the function from
    a clip's arrays to its score. Raises InputError if there is no checkpoint, or if it was trained on other feature types."""
    expert = SyncExpert.load(workdir)
    require_same_features(f"the SyncNet {os.fspath(workdir)}", expert.kind, "the corpus to be made", kind)
    name = f"{os.path.abspath(workdir)} step {checkpoints.steps(workdir)[-1]}"
    return name, lambda arrays: sync_score(expert, arrays["audio_features"], arrays["f0"], arrays["motion"])


# -------- Offset of sound and picture by a SyncNet

REACH = 8
"""Frames (0.32 s) searched to each side; files of the web are off by up to 0.3 s."""


class SyncOffset(NamedTuple):
    """Where a SyncNet hears the sound.

    Attributes:
      lag: frames by which the mouth is late (negative: early), with a fraction.
      score: mean cosine there.
      margin: the score minus that of the best lag more than three frames away.
    """

    lag: float
    score: float
    margin: float


def sync_offset(
    expert: SyncExpert,
    audio_features: np.ndarray,
    f0: np.ndarray,
    motion: np.ndarray,
    reach: int = REACH,
) -> SyncOffset:
    """The shift of the sound at which a SyncNet scores a clip best on average, to a fraction of a frame.

    Args:
      expert: trained on these types of features. If it needs motion centered by speaker, the clip's mean is used.
      reach: largest shift in frames; a clip needs `reach` + 5 frames. The offset of a shorter one is 0.
    """
    audio, mouth = expert.embed_recording(audio_features, f0, motion)
    if len(mouth) <= reach:
        return SyncOffset(0.0, 0.0, 0.0)
    similarity = audio @ mouth.T
    # The mouth of frame t + lag belongs to the sound of frame t.
    curve = np.array([np.diagonal(similarity, lag).mean() for lag in range(-reach, reach + 1)])
    return SyncOffset(*highest_peak(curve))
