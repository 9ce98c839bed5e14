"""A subject dataset as the speech-to-motion stages see it: two clips of one person, train and held out."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.corpus import MOTION_DIM, Clip
from geneface_jax.data.data_kind import DataKind, kind_of
from geneface_jax.data.subject import Subject

MIN_TRAIN_FRAMES = 64


@dataclasses.dataclass(frozen=True)
class SubjectMotion:
    """One person's speech and landmarks.

    Attributes:
      name: the person.
      train, val: the first 10/11 and the last 1/11 of the video as clips.
      motion_mean, motion_std: [204] over the training frames.
      kind: of landmarks and audio features.
    """

    name: str
    train: Clip
    val: Clip
    motion_mean: np.ndarray
    motion_std: np.ndarray
    kind: DataKind

    @classmethod
    def load(cls, dataset_dir: str | os.PathLike[str]) -> SubjectMotion:
        """Reads a dataset folder (or the subject folder around it); a light copy is enough.

        Raises:
          InputError: the dataset is missing or damaged, or has fewer than 64 training frames.
        """
        subject = Subject.load(dataset_dir)
        if subject.n_train < MIN_TRAIN_FRAMES:
            raise InputError(
                f"{subject.folder} has {subject.n_train} training frames, PostNet needs {MIN_TRAIN_FRAMES} (2.6 s); prepare a longer video."
            )
        motion = subject.motion.reshape(subject.n_frames, MOTION_DIM)

        def clip(split: str, frames: range) -> Clip:
            audio = slice(2 * frames.start, 2 * frames.stop)
            return Clip(
                f"{subject.name}_{split}",
                subject.name,
                split,
                subject.audio_features[audio],
                subject.f0[audio],
                motion[frames.start : frames.stop],
            )

        # A video so short that nothing is held out is judged on its own training frames.
        heldout = subject.heldout if len(subject.heldout) else subject.train
        return cls(
            subject.name,
            clip("train", subject.train),
            clip("val", heldout),
            subject.motion_mean.reshape(MOTION_DIM),
            subject.motion_std.reshape(MOTION_DIM),
            kind_of(subject.meta),
        )
