"""Corpus datasets: audio features and landmarks of many speakers with an LRU cache of clips, and one person's clips in the same form.

The folder layout is described in docs/file-formats.md. A small corpus is one file that is loaded completely (format version 1). A large
corpus has one file per clip (version 2): clips are read when used, and an LRU cache of `cache_bytes` keeps the recent ones.
"""

import collections
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.records import ArrayFile, Field, check_fields, stays_inside
from geneface_jax.data.subject import FeatureTypes, Subject, feature_types_of, read_meta_json, require_same_features
from geneface_jax.io import configs


class LRUCache:
    """Thread-safe least-recently-used cache with a limit in bytes (one thread makes batches while another evaluates).

    Attributes:
      max_bytes: the limit; a value larger than it is returned but not cached.
      n_bytes: size of the cached values.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.n_bytes = max_bytes, 0
        self._entries: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value under `key`; if absent, `make()` returns (value, bytes). Two threads may make it at once; one of the two is cached."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        value, size = make()
        with self._lock:
            if key not in self._entries and size <= self.max_bytes:
                self._entries[key] = (value, size)
                self.n_bytes += size
                while self.n_bytes > self.max_bytes:
                    self.n_bytes -= self._entries.popitem(last=False)[1][1]
        return value


# -------- Corpus folders and their clips

FORMAT = "geneface_jax.corpus"
FORMAT_VERSIONS = (1, 2)
MOTION_DIM = 204
SPLITS = ("train", "val")
EXTRA_VAL = "val_extra"
"""Split of the held-out clips of a corpus that was mixed in (`Corpus.mixed_with`)."""

CACHE_BYTES = 2 << 30
"""Default cache size of a version 2 corpus; a second of speech in network space takes 37 kB."""

_LARGEST_META = 1 << 30
"""Bytes of meta.json, which has a line for every clip: enough for ten million."""

_LARGEST_FEATURES = 65_536
"""Audio features of a frame; networks give a thousand."""

_META = {"clips": Field(list), "face_model": Field(str, optional=True), "audio_model": Field(str, optional=True)}
_CLIP = {
    "name": Field(str, high=1000),
    "speaker": Field(str, high=1000),
    "n_frames": Field(int, low=1, high=100_000_000),
    "split": Field(str, choices=SPLITS),
}
"""What meta.json says of a clip."""

_REMAKE = "make the corpus again with `geneface prepare-corpus` or `geneface avatar corpus --out DIR`"


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip: T video frames, A = 2T audio frames, float32.

    Attributes:
      name, speaker: names.
      split: "train", "val", or "val_extra" (`EXTRA_VAL`).
      audio_features: [A, C]. f0: [A] Hz, 0 = unvoiced. motion: [T, 204].
      weight: how often its frames are drawn in training, relative to others.
    """

    name: str
    speaker: str
    split: str
    audio_features: np.ndarray
    f0: np.ndarray
    motion: np.ndarray
    weight: float = 1.0

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)

    def read(self) -> "Clip":
        """Returns itself; counterpart of `LazyClip.read`."""
        return self

    @functools.cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """[204] float64 mean and mean square of the motion over the clip's frames."""
        motion = self.motion.astype(np.float64)
        return motion.mean(axis=0), np.square(motion).mean(axis=0)


@dataclasses.dataclass(frozen=True)
class LazyClip:
    """A clip on disk with the attributes of `Clip`; its arrays are read on access and kept in the LRU cache.

    Attributes:
      path: its file. cache: shared by all clips of the corpus.
    """

    name: str
    speaker: str
    split: str
    n_frames: int
    path: Path
    cache: LRUCache = dataclasses.field(repr=False, compare=False)
    weight: float = 1.0

    def read(self) -> Clip:
        """Reads the arrays from disk, bypassing the cache.

        Raises:
          InputError: the file is missing or damaged.
        """
        with ArrayFile(self.path, _REMAKE) as archive:
            return Clip(self.name, self.speaker, self.split, *_arrays(archive, self.n_frames, "", self.path), self.weight)

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Clip.moments`, read from the file's statistics instead of its frames."""
        with ArrayFile(self.path, _REMAKE) as archive:
            mean = _array(archive, "motion_mean", (MOTION_DIM,), self.path)
            mean_square = _array(archive, "motion_mean_square", (MOTION_DIM,), self.path)
        return mean.astype(np.float64), mean_square.astype(np.float64)

    @property
    def audio_features(self) -> np.ndarray:
        """[A, C]."""
        return self._cached().audio_features

    @property
    def f0(self) -> np.ndarray:
        """[A]."""
        return self._cached().f0

    @property
    def motion(self) -> np.ndarray:
        """[T, 204]."""
        return self._cached().motion

    def _cached(self) -> Clip:
        def make() -> tuple[Clip, int]:
            clip = self.read()
            return clip, clip.audio_features.nbytes + clip.f0.nbytes + clip.motion.nbytes

        return self.cache.get(("clip", self.name), make)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All clips of a corpus folder.

    Attributes:
      folder: where it was read from. meta: content of meta.json. clips: in the order of meta.json.
    """

    folder: Path
    meta: dict[str, Any]
    clips: tuple[Clip | LazyClip, ...]

    @classmethod
    def load(cls, folder: str | os.PathLike[str], cache_bytes: int = CACHE_BYTES) -> "Corpus":
        """Reads and checks a corpus folder.

        Of a version 2 corpus only meta.json is read here, so a corpus that is still growing can be used in its current state.

        Args:
          folder: the corpus.
          cache_bytes: size of the LRU cache of a version 2 corpus.

        Raises:
          InputError: a file or an array is missing, damaged or not as docs/file-formats.md describes, or a split is empty.
        """
        folder = configs.resolve(folder)
        meta = _read_meta(folder)
        clips: tuple[Clip | LazyClip, ...]
        if meta["format_version"] == 1:
            path = folder / "clips.npz"
            with ArrayFile(path, _REMAKE) as archive:
                clips = tuple(
                    Clip(e["name"], e["speaker"], e["split"], *_arrays(archive, e["n_frames"], f"{e['name']}/", path))
                    for e in meta["clips"]
                )
        else:
            cache = LRUCache(cache_bytes)
            clips = tuple(
                LazyClip(e["name"], e["speaker"], e["split"], e["n_frames"], folder / "clips" / f"{e['name']}.npz", cache)
                for e in meta["clips"]
            )
        for split in SPLITS:
            if not any(clip.split == split for clip in clips):
                raise InputError(f'{folder} has no clip in the split "{split}": {_REMAKE}.')
        return cls(folder, meta, clips)

    def mixed_with(self, other: "Corpus", share: float) -> "Corpus":
        """Both corpora as one, such as drawn and real speakers, with the folder and meta of this one.

        Args:
          other: its speakers and clips are named after its folder; its held-out clips are the split "val_extra".
          share: of the training frames that are drawn, those of `other`.

        Raises:
          InputError: the share is not between 0 and 1, or the audio features have other widths.
        """
        if not 0.0 < share < 1.0:
            raise InputError(f"config.data.extra_share is {share}: give a number between 0 and 1 (0.5 draws both corpora equally often).")
        width, other_width = (corpus.clips[0].audio_features.shape[-1] for corpus in (self, other))
        if width != other_width:
            raise InputError(
                f"The audio features of {other.folder} have {other_width} channels, those of {self.folder} {width}: make both corpora with "
                "the same --features."
            )
        ours, theirs = (sum(clip.n_frames for clip in corpus.of_split("train")) for corpus in (self, other))
        weight = share / (1.0 - share) * ours / theirs
        label = other.folder.name
        added = tuple(
            dataclasses.replace(
                clip,
                name=f"{label}/{clip.name}",
                speaker=f"{label}/{clip.speaker}",
                split=EXTRA_VAL if clip.split == "val" else clip.split,
                weight=weight * clip.weight,
            )
            for clip in other.clips
        )
        return Corpus(self.folder, self.meta, self.clips + added)

    def of_split(self, split: str) -> tuple[Clip | LazyClip, ...]:
        """The clips of "train", "val" or "val_extra"."""
        return tuple(clip for clip in self.clips if clip.split == split)

    @functools.cached_property
    def speaker_means(self) -> dict[str, np.ndarray]:
        """Speaker -> [204] mean of all their frames: the resting face, which can't be predicted from speech."""
        by_speaker: dict[str, list[Clip | LazyClip]] = {speaker: [] for speaker in self.speakers}
        for clip in self.clips:
            by_speaker[clip.speaker].append(clip)
        return {speaker: mean_motion(clips) for speaker, clips in by_speaker.items()}

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names in order of first appearance."""
        return tuple(dict.fromkeys(clip.speaker for clip in self.clips))


def training_corpus(data: ConfigDict) -> Corpus:
    """The corpus of `config.data` of a speech stage: `corpus`, with `extra_corpus` mixed in by `extra_share` if there is one.

    Raises:
      InputError: as `Corpus.load` and `Corpus.mixed_with`, or the two have other feature types.
    """
    corpus = Corpus.load(data.corpus)
    if not data.get("extra_corpus"):  # earlier configs don't have it
        return corpus
    extra = Corpus.load(data.extra_corpus)
    ours, theirs = feature_types_of(corpus.meta), feature_types_of(extra.meta)
    require_same_features(f"the corpus {data.corpus}", ours, f"the corpus {data.extra_corpus}", theirs)
    return corpus.mixed_with(extra, data.extra_share)


def mean_motion(clips: Sequence[Clip | LazyClip]) -> np.ndarray:
    """[204] float32 mean over every frame of the clips."""
    return np.average([clip.moments[0] for clip in clips], axis=0, weights=[clip.n_frames for clip in clips]).astype(np.float32)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    meta = read_meta_json(folder, "corpus", _REMAKE, _REMAKE, _LARGEST_META)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("format_version") not in FORMAT_VERSIONS:
        raise InputError(f'{path} does not describe a corpus ("format" is not "{FORMAT}" of version 1 or 2): {_REMAKE}.')
    clips = check_fields(meta, path, _META, _REMAKE)["clips"]
    if not clips:
        raise InputError(f"{path} lists no clips: {_REMAKE}.")
    for entry in clips:
        check_fields(entry, f"a clip in {path}", _CLIP, _REMAKE)
        if not stays_inside(entry["name"]):
            raise InputError(f"The clip name {entry['name']!r} in {path} leads out of the corpus: {_REMAKE}.")
    if len({entry["name"] for entry in clips}) < len(clips):
        raise InputError(f"{path} lists a clip twice: {_REMAKE}.")
    return meta


def _arrays(archive: ArrayFile, frames: int, prefix: str, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Audio features, f0 and motion of a clip of T frames, float32."""
    audio_features = _array(archive, f"{prefix}audio_features", (2 * frames, None), path)
    f0 = _array(archive, f"{prefix}f0", (2 * frames,), path)
    return audio_features, f0, _array(archive, f"{prefix}motion", (frames, MOTION_DIM), path)


def _array(archive: ArrayFile, key: str, shape: tuple[int | None, ...], path: Path) -> np.ndarray:
    """One array as float32; None in `shape` is any length up to `_LARGEST_FEATURES`."""
    found, dtype = archive.kind(key)
    fits = len(found) == len(shape) and all(n <= _LARGEST_FEATURES if m is None else n == m for n, m in zip(found, shape, strict=True))
    if not fits or dtype.kind not in "fiu":
        raise InputError(f"The array {key} of {path} is {dtype} {list(found)}, not {list(shape)}: {_REMAKE}.")
    value = archive[key].astype(np.float32)
    if not np.isfinite(value).all():
        raise InputError(f"The array {key} of {path} has values that are not finite: {_REMAKE}.")
    return value


# -------- A subject dataset for the speech-to-motion stages: two clips of one person, training and held-out

MIN_TRAIN_FRAMES = 64


@dataclasses.dataclass(frozen=True)
class SubjectMotion:
    """One person's speech and landmarks.

    Attributes:
      name: the person.
      train, val: the first 10/11 and the last 1/11 of the video as clips.
      motion_mean, motion_std: [204] over the training frames.
      kind: types of landmarks and audio features.
      fingerprint: of the dataset, see `Subject.fingerprint`.
    """

    name: str
    train: Clip
    val: Clip
    motion_mean: np.ndarray
    motion_std: np.ndarray
    kind: FeatureTypes
    fingerprint: str = ""

    @classmethod
    def load(cls, dataset_dir: str | os.PathLike[str]) -> "SubjectMotion":
        """Reads a dataset folder (or the subject folder that contains it); a light copy is enough.

        Raises:
          InputError: the dataset is missing or damaged, or has fewer than 64 training frames.
        """
        subject = Subject.load(dataset_dir)
        if subject.n_train < MIN_TRAIN_FRAMES:
            raise InputError(
                f"{subject.folder} has {subject.n_train} training frames, PostNet needs {MIN_TRAIN_FRAMES} (2.6 s): prepare a longer video."
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

        # A video too short for held-out frames is validated on its training frames.
        heldout = subject.heldout if len(subject.heldout) else subject.train
        return cls(
            subject.name,
            clip("train", subject.train),
            clip("val", heldout),
            subject.motion_mean.reshape(MOTION_DIM),
            subject.motion_std.reshape(MOTION_DIM),
            feature_types_of(subject.meta),
            subject.fingerprint,
        )
