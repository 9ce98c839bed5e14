"""Batches of the speech-to-motion stages: audio normalization, normalized clips, random windows, positive and negative SyncNet pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.corpus import MOTION_DIM, Clip, Corpus, LazyClip, SubjectMotion
from geneface_jax.data.motion import BlinkAndAmplitude, blink_and_amplitude
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES

# ----------------------------------------------------------------------------------------------------
# What the speech networks hear: one normalisation of audio features, the same in training and in inference.

N_MELS = 80
"""Channels of `mel_f0` features. Features of any other width are a speech network's own (HuBERT's 1024) and are taken as they come."""

MODEL_CHANNELS = N_MELS + 2

# Normalised mel. A clip's level is the log10 magnitude that its speech frames reach; below it the voice has about 2.5 decades (50 dB)
# before any real recording is only noise, so everything deeper is cut to one value: digital silence and a quiet room then look alike.
LEVEL_PERCENTILE = 90.0
LOWEST_LEVEL = -3.0
DEPTH = 2.5
HEADROOM = 1.5
MEL_OFFSET = 1.25
MEL_SCALE = 0.75

# f0 in octaves around the clip's own median, so that a deep voice and a high one say a sentence alike; four octaves' worth of a unit.
F0_PER_OCTAVE = 2.0
F0_LIMIT = 1.5

SILENCE = (-DEPTH + MEL_OFFSET) / MEL_SCALE
"""Value of a normalised mel band in silence."""


def clip_level(audio_features: np.ndarray) -> float:
    """Level of a clip [A, 80] of log10 mel: the 90th percentile over frames of the frame's mean over bands.

    At least -3 (a whisper 60 dB below full scale), so that a recording without speech is not blown up into speech.
    """
    if len(audio_features) == 0:
        return LOWEST_LEVEL
    return max(float(np.percentile(audio_features.mean(axis=-1), LEVEL_PERCENTILE)), LOWEST_LEVEL)


def model_audio(audio_features: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Features of whole clips -> the networks' audio input.

    Normalised per clip, because loudness, microphone and the speaker's pitch range tell nothing about the mouth: mel relative to the
    clip's level, cut to 50 dB of depth and brought to about -1.7 (silence) .. 2; f0 in octaves around the clip's median.

    HuBERT features pass through unchanged, without f0: such a network was trained to be deaf to microphone and pitch.

    Args:
      audio_features: [..., A, 80] log10 mel, or [..., A, C] of a speech network; give whole clips, not windows, as the level is the clip's.
      f0: [..., A] in Hz, 0 = unvoiced.

    Returns:
      [..., A, 82] float32: 80 mel bands, f0 (0 where unvoiced), voiced (0 or 1); or [..., A, C] as it came.

    Raises:
      InputError: the two have different lengths.
    """
    audio_features, f0 = np.asarray(audio_features, np.float32), np.asarray(f0, np.float32)
    if audio_features.shape[:-1] != f0.shape:
        raise InputError(f"audio features {audio_features.shape} and f0 {f0.shape} differ in length; compute both from one recording.")
    if audio_features.shape[-1] != N_MELS:
        return audio_features
    if audio_features.ndim > 2:
        flat = [model_audio(*pair) for pair in zip(audio_features, f0, strict=True)]
        return np.stack(flat)
    mel = np.clip(audio_features - clip_level(audio_features), -DEPTH, HEADROOM)
    voiced = f0 > 0
    pitch = np.zeros_like(f0)
    if voiced.any():
        octaves = np.log2(np.where(voiced, f0, 1.0))
        pitch = np.where(voiced, np.clip(F0_PER_OCTAVE * (octaves - np.median(octaves[voiced])), -F0_LIMIT, F0_LIMIT), 0.0)
    extra = np.stack([pitch, voiced], axis=-1)
    return np.concatenate([(mel + MEL_OFFSET) / MEL_SCALE, extra], axis=-1).astype(np.float32)


def silence(frames: int, channels: int) -> np.ndarray:
    """[frames, channels] of model audio that nobody speaks in, to pad with: silent mel, unvoiced; for HuBERT zeros, as the original."""
    if channels != MODEL_CHANNELS:
        return np.zeros((frames, channels), np.float32)
    padding = np.full((frames, channels), SILENCE, np.float32)
    padding[:, -2:] = 0.0
    return padding


# ----------------------------------------------------------------------------------------------------
# Network space: motion = network * std + center. What the speech networks see of a clip.
#
# With `center` "speaker" the mean motion of the speaker is taken away and the rest scaled to a mouth deviation of 1: what is left is
# expression, the only part that speech can tell. With "none" (the original) network space is motion itself, and a network must also guess
# the face's shape.

MOUTH = slice(144, 204)
"""The mouth points 48-67 in a flattened motion."""


@dataclasses.dataclass(frozen=True)
class NormalizedClip:
    """A clip as the networks see it.

    Attributes:
      audio: [2T, C] (`model_audio`). motion: [T, 204] in network space, (motion - center) / std.
      speaker: name. f0: [2T] Hz, 0 = unvoiced.
      behaviour: blinks and amplitudes of the face.
    """

    audio: np.ndarray
    motion: np.ndarray
    speaker: str
    f0: np.ndarray
    behavior: BlinkAndAmplitude

    @property
    def voiced(self) -> np.ndarray:
        """[2T] bool."""
        return self.f0 > 0

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)


def motion_scale(clips: Sequence[Clip], centers: Sequence[np.ndarray]) -> np.ndarray:
    """[204] float32, one number repeated: the rms deviation of the mouth points from their speaker's mean.

    One number for all coordinates keeps their proportions, so that a squared error goes on being a distance.
    """
    squares = []
    for clip, center in zip(clips, centers, strict=True):
        mean, mean_square = clip.moments
        squares.append(np.mean((mean_square - 2.0 * center * mean + np.square(center, dtype=np.float64))[MOUTH]))
    variance = np.average(squares, weights=[clip.n_frames for clip in clips])
    return np.full(MOTION_DIM, max(float(np.sqrt(max(variance, 0.0))), 1e-6), np.float32)


@dataclasses.dataclass(frozen=True)
class LazyNormalizedClip:
    """A clip on disk as the networks see it, with the attributes of `Pair`: read when asked for, and kept in the corpus' cache for a while.

    Attributes:
      clip: the clip. center, std: [204], what brings it to network space.
    """

    clip: LazyClip
    center: np.ndarray
    std: np.ndarray

    @property
    def speaker(self) -> str:
        """Name."""
        return self.clip.speaker

    @property
    def n_frames(self) -> int:
        """T."""
        return self.clip.n_frames

    @property
    def audio(self) -> np.ndarray:
        """[2T, C]."""
        return self._kept().audio

    @property
    def motion(self) -> np.ndarray:
        """[T, 204]."""
        return self._kept().motion

    @property
    def f0(self) -> np.ndarray:
        """[2T] Hz."""
        return self._kept().f0

    @property
    def voiced(self) -> np.ndarray:
        """[2T] bool."""
        return self._kept().voiced

    @property
    def behavior(self) -> BlinkAndAmplitude:
        """Blinks and amplitudes of the face."""
        return self._kept().behavior

    def _kept(self) -> NormalizedClip:
        def make() -> tuple[NormalizedClip, int]:
            pair = _normalized_clip(self.clip.read(), self.center, self.std)
            return pair, pair.audio.nbytes + pair.motion.nbytes + pair.f0.nbytes + pair.behavior.blink.nbytes

        return self.clip.cache.get((id(self), self.clip.name), make)


def normalize_clip(clip: Clip | LazyClip, center: np.ndarray, std: np.ndarray) -> NormalizedClip | LazyNormalizedClip:
    """Brings a clip to network space; center and std are [204]. A clip on disk stays there until its arrays are asked for."""
    return LazyNormalizedClip(clip, center, std) if isinstance(clip, LazyClip) else _normalized_clip(clip, center, std)


def _normalized_clip(clip: Clip, center: np.ndarray, std: np.ndarray) -> NormalizedClip:
    audio = model_audio(clip.audio_features, clip.f0)
    motion = ((clip.motion - center) / std).astype(np.float32)
    return NormalizedClip(audio, motion, clip.speaker, np.asarray(clip.f0, np.float32), blink_and_amplitude(clip.motion))


def corpus_clips(
    corpus: Corpus, center: str, std: np.ndarray | None = None
) -> tuple[dict[str, list[NormalizedClip]], dict[str, np.ndarray]]:
    """Brings a corpus to network space.

    Args:
      corpus: the corpus.
      center: "speaker" subtracts each speaker's mean motion and scales by the mouth's rms deviation; "none" leaves the motion as it is.
      std: [204] scale of a network that is already trained; None takes it from this corpus.

    Returns:
      (split -> pairs, constants {"motion_mean", "motion_std"} [204]: motion = network * std + mean, with the mean over training speakers).
    """
    if center not in ("speaker", "none"):
        raise InputError(f'config.data.center is {center!r}; write "speaker" or "none".')
    zero = np.zeros(MOTION_DIM, np.float32)
    train = corpus.of_split("train")

    def center_of(clip: Clip) -> np.ndarray:
        return corpus.speaker_means[clip.speaker] if center == "speaker" else zero

    if std is None:
        std = motion_scale(train, [center_of(clip) for clip in train]) if center == "speaker" else np.ones(MOTION_DIM, np.float32)
    speakers = dict.fromkeys(clip.speaker for clip in train)
    mean = np.mean([corpus.speaker_means[name] for name in speakers], axis=0) if center == "speaker" else zero
    pairs = {split: [normalize_clip(clip, center_of(clip), std) for clip in corpus.of_split(split)] for split in ("train", "val")}
    return pairs, {"motion_mean": mean.astype(np.float32), "motion_std": std}


def subject_clips(subject: SubjectMotion, center: str, std: np.ndarray) -> tuple[dict[str, list[NormalizedClip]], np.ndarray]:
    """Brings a person to the network space of a trained network of scale `std` [204].

    Returns:
      (split -> one pair, center [204]: motion = network * std + center).
    """
    offset = subject.motion_mean if center == "speaker" else np.zeros(MOTION_DIM, np.float32)
    return {"train": [_normalized_clip(subject.train, offset, std)], "val": [_normalized_clip(subject.val, offset, std)]}, offset


AMPLITUDE_CLIPS = 256
"""Clips that say what amplitudes are typical, so that a large corpus need not be read whole."""


def typical_amplitudes(pairs: Sequence[NormalizedClip | LazyNormalizedClip]) -> dict[str, np.ndarray]:
    """Mean amplitudes {"mouth_amp", "eye_amp"} (decimetres, float32 numbers) of clips that are spread over a split."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, AMPLITUDE_CLIPS).astype(int))
    found = [pairs[i].behavior for i in chosen]
    return {name: np.asarray(np.mean([getattr(own, name) for own in found]), np.float32) for name in ("mouth_amp", "eye_amp")}


# ----------------------------------------------------------------------------------------------------
# Random windows out of clips: the batches of the speech-to-motion stages.


def sample_windows(rng: np.random.Generator, pairs: Sequence[NormalizedClip], batch: int, window: int) -> dict[str, np.ndarray]:
    """Draws windows of `window` video frames, every possible start of every clip equally likely; short clips are padded at their end.

    Returns:
      audio [batch, 2 * window, C], motion [batch, window, 204] (zero where padded), mask [batch, window] of 0/1, f0 [batch, 2 * window] Hz
      and the clips' mouth_amp, eye_amp [batch], float32; blink [batch, window] int32. See `Pair`.
    """
    starts = np.array([max(pair.n_frames - window + 1, 1) for pair in pairs])
    which = rng.choice(len(pairs), size=batch, p=starts / starts.sum())
    items = [cut_window(pairs[i], int(rng.integers(starts[i])), window) for i in which]
    return {key: np.stack([item[key] for item in items]) for key in items[0]}


def cut_window(pair: NormalizedClip, start: int, window: int) -> dict[str, np.ndarray]:
    """One window of a pair as in `sample_windows`, without the batch axis; frames beyond the end are padding."""
    motion, audio = pair.motion[start : start + window], pair.audio[2 * start : 2 * (start + window)]
    missing = window - len(motion)
    mask = np.ones(window, np.float32)
    if missing:
        mask[len(motion) :] = 0.0
        motion = np.concatenate([motion, np.zeros((missing, motion.shape[-1]), np.float32)])
        audio = np.concatenate([audio, silence(2 * window - len(audio), audio.shape[-1])])
    face = pair.behavior
    return {
        "audio": audio,
        "motion": motion,
        "mask": mask,
        "f0": _filled(pair.f0[2 * start :], 2 * window),
        "blink": _filled(face.blink[start:], window),
        "mouth_amp": np.asarray(face.mouth_amp, np.float32),
        "eye_amp": np.asarray(face.eye_amp, np.float32),
    }


def _filled(values: np.ndarray, length: int) -> np.ndarray:
    """The first `length` values, zeros after the last."""
    values = values[:length]
    return np.pad(values, (0, length - len(values)))


# ----------------------------------------------------------------------------------------------------
# Clips for SyncNet: five landmark frames of the mouth with the ten audio frames they belong to, or with wrong ones.

# How a wrong audio clip is found (GeneFace): in another clip of the corpus, elsewhere in the same clip, or just beside the right place.
OTHER_CLIP, SAME_CLIP = 0.25, 0.375
NEAR = range(2, 6)


def draw_sync_pairs(rng: np.random.Generator, pairs: Sequence[NormalizedClip], n: int) -> dict[str, np.ndarray]:
    """Draws n clip pairs, half of them in sync.

    A negative comes with probability 0.25 from another clip (GeneFace meant to, but read the audio of the same clip at the other one's
    position), 0.375 from elsewhere in the same clip, 0.375 from 2 to 5 frames beside. All starts up to the last are used.

    Args:
      rng: generator.
      pairs: at least two clips of >= 5 frames; longer ones are drawn more often.
      n: number of clip pairs.

    Returns:
      audio [n, 10, C], mouth [n, 5, 60], label [n] (1 = in sync); float32.
    """
    usable = [pair for pair in pairs if pair.n_frames >= 2 * MOUTH_FRAMES]
    starts = np.array([pair.n_frames - MOUTH_FRAMES + 1 for pair in usable])
    which = rng.choice(len(usable), size=n, p=starts / starts.sum())
    audio, mouth = [], []
    label = (rng.random(n) < 0.5).astype(np.float32)
    for i, positive in zip(which, label, strict=True):
        start = int(rng.integers(starts[i]))
        source, at = (i, start) if positive else _wrong_audio(rng, starts, int(i), start)
        mouth.append(usable[i].motion[start : start + MOUTH_FRAMES, MOUTH])
        audio.append(usable[source].audio[2 * at : 2 * at + AUDIO_FRAMES])
    return {"audio": np.stack(audio), "mouth": np.stack(mouth), "label": label}


def _wrong_audio(rng: np.random.Generator, starts: np.ndarray, item: int, start: int) -> tuple[int, int]:
    """(clip, start) of an audio clip that doesn't belong to `start` of `item`."""
    kind = rng.random()
    if kind < OTHER_CLIP and len(starts) > 1:
        other = (item + 1 + int(rng.integers(len(starts) - 1))) % len(starts)
        return other, int(rng.integers(starts[other]))
    if kind < OTHER_CLIP + SAME_CLIP:
        return item, (start + 1 + int(rng.integers(starts[item] - 1))) % int(starts[item])
    near = [start + side * step for step in NEAR for side in (-1, 1) if 0 <= start + side * step < starts[item]]
    return item, int(rng.choice(near))


def positive_clips(
    rng: jax.Array, indices: jax.Array, audio: jax.Array, motion: jax.Array, mask: jax.Array, per_item: int
) -> tuple[jax.Array, jax.Array]:
    """Draws in-sync clips out of a batch of sequences, differentiable in the motion.

    Args:
      rng: key. indices: [B] numbers of the items in the global batch (the draw of an item depends on nothing else).
      audio: [B, 2T, C]. motion: [B, T, 204]. mask: [B, T] of 0/1, padding at the end, at least 5 frames true.
      per_item: clips from each item.

    Returns:
      audio clips [B * per_item, 10, C], mouth clips [B * per_item, 5, 60].
    """

    def of_item(index, item_audio, item_motion, item_mask):
        places = jnp.maximum(jnp.sum(item_mask).astype(jnp.int32) - MOUTH_FRAMES + 1, 1)
        starts = jax.random.randint(jax.random.fold_in(rng, index), (per_item,), 0, places)
        return clips_at(item_audio, item_motion, starts)

    audio_clips, mouth_clips = jax.vmap(of_item)(indices, audio, motion, mask)
    return audio_clips.reshape(-1, *audio_clips.shape[2:]), mouth_clips.reshape(-1, *mouth_clips.shape[2:])


def clips_at(audio: jax.Array, motion: jax.Array, starts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Clips of one sequence at video frames `starts` [N]: audio [N, 10, C] and mouth [N, 5, 60]."""
    audio_clips = audio[2 * starts[:, None] + jnp.arange(AUDIO_FRAMES)]
    mouth_clips = motion[starts[:, None] + jnp.arange(MOUTH_FRAMES), MOUTH]
    return audio_clips, mouth_clips
