"""Batches of the speech-to-motion stages: audio normalization, normalized clips, random windows, positive and negative SyncNet pairs."""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.corpus import EXTRA_VAL, MOTION_DIM, SPLITS, Clip, Corpus, LazyClip, SubjectMotion
from geneface_jax.data.motion import BlinkAndAmplitude, blink_and_amplitude
from geneface_jax.models.syncnet import AUDIO_FRAMES, MOUTH_FRAMES

# -------- Audio normalization of the speech networks, the same in training and inference

N_MELS = 80
"""Mel bands of `mel_f0` features. Features of any other width are of a speech network (HuBERT's 1024) and are used unchanged."""

MODEL_CHANNELS = N_MELS + 2

# Normalized mel. A clip's level is the log10 magnitude that its speech frames reach. About 2.5 decades (50 dB) below it real recordings
# contain only noise, so everything deeper is clipped to one value: digital silence and a quiet room then look the same.
LEVEL_PERCENTILE = 90.0
LOWEST_LEVEL = -3.0
DEPTH = 2.5
HEADROOM = 1.5
MEL_OFFSET = 1.25
MEL_SCALE = 0.75

# f0 in octaves around the clip's median, which makes deep and high voices comparable.
F0_PER_OCTAVE = 2.0
F0_LIMIT = 1.5

SILENCE = (-DEPTH + MEL_OFFSET) / MEL_SCALE
"""Value of a normalized mel band in silence."""


def clip_level(audio_features: np.ndarray) -> float:
    """Level of a clip [A, 80] of log10 mel: the 90th percentile over frames of the mean over bands.

    At least -3 (60 dB below full scale), so that the noise of a recording without speech is not amplified to the level of speech.
    """
    if len(audio_features) == 0:
        return LOWEST_LEVEL
    return max(float(np.percentile(audio_features.mean(axis=-1), LEVEL_PERCENTILE)), LOWEST_LEVEL)


def model_audio(audio_features: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Features of complete clips -> the networks' audio input.

    Normalized per clip, because loudness, microphone and the speaker's pitch range are irrelevant for the mouth: mel relative to the clip's
    level, clipped to 50 dB of depth and scaled to about -1.7 (silence) .. 2; f0 in octaves around the clip's median.

    HuBERT features are returned unchanged, without f0: that network was trained to be invariant to microphone and pitch.

    Args:
      audio_features: [..., A, 80] log10 mel, or [..., A, C] of a speech network; complete clips, not windows, as the level is per clip.
      f0: [..., A] in Hz, 0 = unvoiced.

    Returns:
      [..., A, 82] float32: 80 mel bands, f0 (0 where unvoiced), voiced (0 or 1); or [..., A, C] unchanged.

    Raises:
      InputError: the two have different lengths.
    """
    audio_features, f0 = np.asarray(audio_features, np.float32), np.asarray(f0, np.float32)
    if audio_features.shape[:-1] != f0.shape:
        raise InputError(f"Audio features {audio_features.shape} and f0 {f0.shape} differ in length: compute both from one recording.")
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
    """[frames, channels] of silent model audio for padding: silent mel, unvoiced; zeros for HuBERT, as in the original."""
    if channels != MODEL_CHANNELS:
        return np.zeros((frames, channels), np.float32)
    padding = np.full((frames, channels), SILENCE, np.float32)
    padding[:, -2:] = 0.0
    return padding


# -------- Network space, in which the speech networks work: motion = network * std + center
#
# With `center` "speaker" the speaker's mean motion is subtracted and the rest scaled to a mouth deviation of 1: what remains is expression,
# the only part that speech can predict. With "none" (the original) network space is motion itself, and a network must also predict the
# face's shape.

MOUTH = slice(144, 204)
"""The mouth points 48-67 in a flattened motion."""


@dataclasses.dataclass(frozen=True)
class NormalizedClip:
    """A clip in network space.

    Attributes:
      audio: [2T, C] (`model_audio`). motion: [T, 204], (motion - center) / std.
      speaker: name. f0: [2T] Hz, 0 = unvoiced.
      behavior: blinks and amplitudes of the face.
      weight: as `Clip.weight`.
    """

    audio: np.ndarray
    motion: np.ndarray
    speaker: str
    f0: np.ndarray
    behavior: BlinkAndAmplitude
    weight: float = 1.0

    @property
    def voiced(self) -> np.ndarray:
        """[2T] bool."""
        return self.f0 > 0

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)


def motion_scale(clips: Sequence[Clip | LazyClip], centers: Sequence[np.ndarray]) -> np.ndarray:
    """[204] float32, one number repeated: the rms deviation of the mouth points from their speaker's mean.

    The same scale for all coordinates keeps their proportions, so that a squared error remains a distance.
    """
    squares = []
    for clip, center in zip(clips, centers, strict=True):
        mean, mean_square = clip.moments
        squares.append(np.mean((mean_square - 2.0 * center * mean + np.square(center, dtype=np.float64))[MOUTH]))
    variance = np.average(squares, weights=[clip.n_frames * clip.weight for clip in clips])
    return np.full(MOTION_DIM, max(float(np.sqrt(max(variance, 0.0))), 1e-6), np.float32)


@dataclasses.dataclass(frozen=True)
class LazyNormalizedClip:
    """A clip on disk with the attributes of `NormalizedClip`; read and normalized on access and kept in the corpus' LRU cache.

    Attributes:
      clip: the clip. center, std: [204], see `NormalizedClip`. lead: see `normalize_clip`.
    """

    clip: LazyClip
    center: np.ndarray
    std: np.ndarray
    lead: int = 0

    @property
    def speaker(self) -> str:
        """Name."""
        return self.clip.speaker

    @property
    def n_frames(self) -> int:
        """T."""
        return self.clip.n_frames - abs(self.lead)

    @property
    def weight(self) -> float:
        """As `Clip.weight`."""
        return self.clip.weight

    @property
    def audio(self) -> np.ndarray:
        """[2T, C]."""
        return self._cached().audio

    @property
    def motion(self) -> np.ndarray:
        """[T, 204]."""
        return self._cached().motion

    @property
    def f0(self) -> np.ndarray:
        """[2T] Hz."""
        return self._cached().f0

    @property
    def voiced(self) -> np.ndarray:
        """[2T] bool."""
        return self._cached().voiced

    @property
    def behavior(self) -> BlinkAndAmplitude:
        """Blinks and amplitudes of the face."""
        return self._cached().behavior

    def _cached(self) -> NormalizedClip:
        def make() -> tuple[NormalizedClip, int]:
            clip = _normalized_clip(self.clip.read(), self.center, self.std, self.lead)
            return clip, clip.audio.nbytes + clip.motion.nbytes + clip.f0.nbytes + clip.behavior.blink.nbytes

        return self.clip.cache.get((id(self), self.clip.name), make)


AnyNormalizedClip: TypeAlias = NormalizedClip | LazyNormalizedClip


@overload
def normalize_clip(clip: Clip, center: np.ndarray, std: np.ndarray, lead: int = 0) -> NormalizedClip: ...
@overload
def normalize_clip(clip: LazyClip, center: np.ndarray, std: np.ndarray, lead: int = 0) -> LazyNormalizedClip: ...
def normalize_clip(clip: Clip | LazyClip, center: np.ndarray, std: np.ndarray, lead: int = 0) -> AnyNormalizedClip:
    """Converts a clip to network space. A clip on disk is read only when its arrays are accessed.

    Args:
      clip: if it is not longer than `lead`, one frame of it is left.
      center, std: [204].
      lead: frames by which the face is moved earlier against the sound (negative: later); the clip becomes shorter by as many.
    """
    lead = int(np.clip(lead, 1 - clip.n_frames, clip.n_frames - 1))
    if isinstance(clip, LazyClip):
        return LazyNormalizedClip(clip, center, std, lead)
    return _normalized_clip(clip, center, std, lead)


def _normalized_clip(clip: Clip, center: np.ndarray, std: np.ndarray, lead: int = 0) -> NormalizedClip:
    face, heard = clip.motion[max(lead, 0) : clip.n_frames + min(lead, 0)], slice(2 * max(-lead, 0), 2 * (clip.n_frames - max(lead, 0)))
    motion = ((face - center) / std).astype(np.float32)
    audio, f0 = model_audio(clip.audio_features, clip.f0)[heard], np.asarray(clip.f0, np.float32)[heard]
    return NormalizedClip(audio, motion, clip.speaker, f0, blink_and_amplitude(face), clip.weight)


def corpus_clips(
    corpus: Corpus, center: str, std: np.ndarray | None = None, lead: int = 0
) -> tuple[dict[str, list[AnyNormalizedClip]], dict[str, np.ndarray]]:
    """Converts a corpus to network space.

    Args:
      corpus: the corpus.
      center: "speaker" subtracts each speaker's mean motion and scales by the mouth's rms deviation; "none" keeps the motion unchanged.
      std: [204] scale of an already trained network; None computes it from this corpus.
      lead: see `normalize_clip`.

    Returns:
      (split -> clips, none of "val_extra" unless a corpus was mixed in; constants {"motion_mean", "motion_std"} [204]: motion is
      network * std + mean, with the mean over training speakers).
    """
    if center not in ("speaker", "none"):
        raise InputError(f'config.data.center is {center!r}: write "speaker" or "none".')
    zero = np.zeros(MOTION_DIM, np.float32)
    train = corpus.of_split("train")

    def center_of(clip: Clip | LazyClip) -> np.ndarray:
        return corpus.speaker_means[clip.speaker] if center == "speaker" else zero

    if std is None:
        std = motion_scale(train, [center_of(clip) for clip in train]) if center == "speaker" else np.ones(MOTION_DIM, np.float32)
    speakers = dict.fromkeys(clip.speaker for clip in train)
    mean = np.mean([corpus.speaker_means[name] for name in speakers], axis=0) if center == "speaker" else zero
    splits = (*SPLITS, EXTRA_VAL)
    clips = {split: [normalize_clip(clip, center_of(clip), std, lead) for clip in corpus.of_split(split)] for split in splits}
    return clips, {"motion_mean": mean.astype(np.float32), "motion_std": std}


def subject_clips(subject: SubjectMotion, center: str, std: np.ndarray) -> tuple[dict[str, list[AnyNormalizedClip]], np.ndarray]:
    """Converts a person's clips to the network space of a trained network with scale `std` [204].

    Returns:
      (split -> one clip, center [204]: motion = network * std + center).
    """
    offset = subject.motion_mean if center == "speaker" else np.zeros(MOTION_DIM, np.float32)
    return {"train": [_normalized_clip(subject.train, offset, std)], "val": [_normalized_clip(subject.val, offset, std)]}, offset


AMPLITUDE_CLIPS = 256
"""Clips from which typical amplitudes are estimated, so that a large corpus need not be read completely."""


def typical_amplitudes(clips: Sequence[AnyNormalizedClip]) -> dict[str, np.ndarray]:
    """Mean amplitudes {"mouth_amp", "eye_amp"} (decimeters, float32 scalars) of clips spread evenly over a split."""
    chosen = np.unique(np.linspace(0, len(clips) - 1, AMPLITUDE_CLIPS).astype(int))
    behaviors = [clips[i].behavior for i in chosen]
    return {name: np.asarray(np.mean([getattr(behavior, name) for behavior in behaviors]), np.float32) for name in ("mouth_amp", "eye_amp")}


# -------- Random windows: the batches of the speech-to-motion stages


LENGTH, STARTS = "length", "starts"
"""How windows are drawn (`config.data.draw`). "starts" is how version 0.1.0 drew them: a clip shorter than the window has one possible
start, and one of twice its length as many as the window has frames, so that short clips were hardly ever seen."""


def sample_windows(
    rng: np.random.Generator, clips: Sequence[AnyNormalizedClip], batch: int, window: int, draw: str = LENGTH
) -> dict[str, np.ndarray]:
    """Draws windows of `window` video frames; short clips are padded at the end.

    Args:
      rng: generator.
      clips: all clips of a split.
      batch: number of windows.
      window: length in video frames.
      draw: "length" draws a clip in proportion to its length, counted as at least one window: as a short clip shows fewer frames at once,
        every clip's share of the frames that are seen is its share of the frames there are. "starts" draws every possible start of every
        clip with the same probability. Within a clip all starts are equally likely.

    Returns:
      audio [batch, 2 * window, C], motion [batch, window, 204] (zero where padded), mask [batch, window] of 0/1, f0 [batch, 2 * window] Hz
      and the clips' mouth_amp, eye_amp [batch], float32; blink [batch, window] int32. See `NormalizedClip`.

    Raises:
      InputError: there is no such `draw`.
    """
    if draw not in (LENGTH, STARTS):
        raise InputError(f'config.data.draw is {draw!r}: write "{LENGTH}" or "{STARTS}".')
    starts = np.array([max(clip.n_frames - window + 1, 1) for clip in clips])
    weights = (starts if draw == STARTS else np.array([max(clip.n_frames, window) for clip in clips])) * _weights(clips)
    which = rng.choice(len(clips), size=batch, p=weights / weights.sum())
    items = [cut_window(clips[i], int(rng.integers(starts[i])), window) for i in which]
    return {key: np.stack([item[key] for item in items]) for key in items[0]}


def _weights(clips: Sequence[AnyNormalizedClip]) -> np.ndarray:
    return np.array([clip.weight for clip in clips])


def cut_window(clip: AnyNormalizedClip, start: int, window: int) -> dict[str, np.ndarray]:
    """One window of a clip as in `sample_windows`, without the batch axis; frames beyond the end are padding."""
    motion, audio = clip.motion[start : start + window], clip.audio[2 * start : 2 * (start + window)]
    missing = window - len(motion)
    mask = np.ones(window, np.float32)
    if missing:
        mask[len(motion) :] = 0.0
        motion = np.concatenate([motion, np.zeros((missing, motion.shape[-1]), np.float32)])
        audio = np.concatenate([audio, silence(2 * window - len(audio), audio.shape[-1])])
    behavior = clip.behavior
    return {
        "audio": audio,
        "motion": motion,
        "mask": mask,
        "f0": _zero_padded(clip.f0[2 * start :], 2 * window),
        "blink": _zero_padded(behavior.blink[start:], window),
        "mouth_amp": np.asarray(behavior.mouth_amp, np.float32),
        "eye_amp": np.asarray(behavior.eye_amp, np.float32),
    }


def _zero_padded(values: np.ndarray, length: int) -> np.ndarray:
    """The first `length` values, padded with zeros at the end."""
    values = values[:length]
    return np.pad(values, (0, length - len(values)))


# -------- SyncNet pairs: five frames of mouth landmarks with the ten audio frames they belong to (positive), or with other ones (negative).

# Probabilities of a negative's audio (GeneFace): from another clip of the corpus, from elsewhere in the same clip, else NEAR frames away.
OTHER_CLIP, SAME_CLIP = 0.25, 0.375
NEAR = range(2, 6)


def draw_sync_pairs(rng: np.random.Generator, clips: Sequence[AnyNormalizedClip], n: int) -> dict[str, np.ndarray]:
    """Draws n SyncNet pairs, half of them in sync.

    A negative's audio is with probability 0.25 from another clip (GeneFace intended that, but read the same clip at the other one's
    position), 0.375 from elsewhere in the same clip, 0.375 from 2 to 5 frames before or after. All starts up to the last are used.

    Args:
      rng: generator.
      clips: those shorter than 10 frames are ignored; each possible start is equally likely, but for the clips' weights.
      n: number of pairs.

    Returns:
      audio [n, 10, C], mouth [n, 5, 60], label [n] (1 = in sync); float32.
    """
    usable = [clip for clip in clips if clip.n_frames >= 2 * MOUTH_FRAMES]
    starts = np.array([clip.n_frames - MOUTH_FRAMES + 1 for clip in usable])
    weights = starts * _weights(usable)
    which = rng.choice(len(usable), size=n, p=weights / weights.sum())
    audio, mouth = [], []
    label = (rng.random(n) < 0.5).astype(np.float32)
    for i, positive in zip(which, label, strict=True):
        start = int(rng.integers(starts[i]))
        source, at = (i, start) if positive else _wrong_audio(rng, starts, int(i), start)
        mouth.append(usable[i].motion[start : start + MOUTH_FRAMES, MOUTH])
        audio.append(usable[source].audio[2 * at : 2 * at + AUDIO_FRAMES])
    return {"audio": np.stack(audio), "mouth": np.stack(mouth), "label": label}


def _wrong_audio(rng: np.random.Generator, starts: np.ndarray, item: int, start: int) -> tuple[int, int]:
    """(clip, start) of audio that is out of sync with `start` of the clip `item`."""
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
    """Draws in-sync pairs from a batch of sequences, differentiable in the motion.

    Args:
      rng: key. indices: [B] numbers of the items in the global batch (an item's draw depends only on key and number).
      audio: [B, 2T, C]. motion: [B, T, 204]. mask: [B, T] of 0/1, padding at the end, at least 5 frames true.
      per_item: pairs from each item.

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
