"""Network space: motion = network * std + center. What the speech networks see of a clip.

With `center` "speaker" the mean motion of the speaker is taken away and the rest scaled to a mouth deviation of 1: what is left is
expression, the only part that speech can tell. With "none" (the original) network space is motion itself, and a network must also guess the
face's shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.behaviour import Behaviour, behaviour
from geneface_jax.data.corpus import MOTION_DIM, Clip, Corpus, StoredClip
from geneface_jax.data.model_audio import model_audio
from geneface_jax.data.subject_motion import SubjectMotion

MOUTH = slice(144, 204)
"""The mouth points 48-67 in a flattened motion."""


@dataclasses.dataclass(frozen=True)
class Pair:
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
    behaviour: Behaviour

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
class StoredPair:
    """A clip on disk as the networks see it, with the attributes of `Pair`: read when asked for, and kept in the corpus' cache for a while.

    Attributes:
      clip: the clip. center, std: [204], what brings it to network space.
    """

    clip: StoredClip
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
    def behaviour(self) -> Behaviour:
        """Blinks and amplitudes of the face."""
        return self._kept().behaviour

    def _kept(self) -> Pair:
        def make() -> tuple[Pair, int]:
            pair = _pair(self.clip.read(), self.center, self.std)
            return pair, pair.audio.nbytes + pair.motion.nbytes + pair.f0.nbytes + pair.behaviour.blink.nbytes

        return self.clip.cache.get((id(self), self.clip.name), make)


def to_pair(clip: Clip | StoredClip, center: np.ndarray, std: np.ndarray) -> Pair | StoredPair:
    """Brings a clip to network space; center and std are [204]. A clip on disk stays there until its arrays are asked for."""
    return StoredPair(clip, center, std) if isinstance(clip, StoredClip) else _pair(clip, center, std)


def _pair(clip: Clip, center: np.ndarray, std: np.ndarray) -> Pair:
    audio = model_audio(clip.audio_features, clip.f0)
    motion = ((clip.motion - center) / std).astype(np.float32)
    return Pair(audio, motion, clip.speaker, np.asarray(clip.f0, np.float32), behaviour(clip.motion))


def corpus_pairs(corpus: Corpus, center: str, std: np.ndarray | None = None) -> tuple[dict[str, list[Pair]], dict[str, np.ndarray]]:
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
    pairs = {split: [to_pair(clip, center_of(clip), std) for clip in corpus.of_split(split)] for split in ("train", "val")}
    return pairs, {"motion_mean": mean.astype(np.float32), "motion_std": std}


def subject_pairs(subject: SubjectMotion, center: str, std: np.ndarray) -> tuple[dict[str, list[Pair]], np.ndarray]:
    """Brings a person to the network space of a trained network of scale `std` [204].

    Returns:
      (split -> one pair, center [204]: motion = network * std + center).
    """
    offset = subject.motion_mean if center == "speaker" else np.zeros(MOTION_DIM, np.float32)
    return {"train": [_pair(subject.train, offset, std)], "val": [_pair(subject.val, offset, std)]}, offset


AMPLITUDE_CLIPS = 256
"""Clips that say what amplitudes are typical, so that a large corpus need not be read whole."""


def typical_amplitudes(pairs: Sequence[Pair | StoredPair]) -> dict[str, np.ndarray]:
    """Mean amplitudes {"mouth_amp", "eye_amp"} (decimetres, float32 numbers) of clips that are spread over a split."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, AMPLITUDE_CLIPS).astype(int))
    found = [pairs[i].behaviour for i in chosen]
    return {name: np.asarray(np.mean([getattr(own, name) for own in found]), np.float32) for name in ("mouth_amp", "eye_amp")}
