"""Network space: motion = network * std + center. What the speech networks see of a clip.

With `center` "speaker" the mean motion of the speaker is taken away and the rest scaled to a mouth deviation of 1: what is left is
expression, the only part that speech can tell. With "none" (the original) network space is motion itself, and a network must also guess the
face's shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from geneface_jax.data.corpus import MOTION_DIM, Clip, Corpus
from geneface_jax.data.model_audio import model_audio
from geneface_jax.data.subject_motion import SubjectMotion
from geneface_jax.errors import InputError

MOUTH = slice(144, 204)
"""The mouth points 48-67 in a flattened motion."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A clip as the networks see it: audio [2T, C] (`model_audio`) and motion [T, 204] in network space, (motion - center) / std."""

    audio: np.ndarray
    motion: np.ndarray
    speaker: str

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)


def motion_scale(clips: Sequence[Clip], centers: Sequence[np.ndarray]) -> np.ndarray:
    """[204] float32, one number repeated: the rms deviation of the mouth points from their speaker's mean.

    One number for all coordinates keeps their proportions, so that a squared error goes on being a distance.
    """
    deviation = np.concatenate([clip.motion[:, MOUTH] - center[MOUTH] for clip, center in zip(clips, centers, strict=True)])
    return np.full(MOTION_DIM, max(float(np.sqrt(np.mean(np.square(deviation)))), 1e-6), np.float32)


def to_pair(clip: Clip, center: np.ndarray, std: np.ndarray) -> Pair:
    """Brings a clip to network space; center and std are [204]."""
    return Pair(model_audio(clip.audio_features, clip.f0), ((clip.motion - center) / std).astype(np.float32), clip.speaker)


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
    return {"train": [to_pair(subject.train, offset, std)], "val": [to_pair(subject.val, offset, std)]}, offset
