"""A corpus in memory: audio features and landmarks of many speakers (layout in docs/file-formats.md)."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geneface_jax.errors import InputError

FORMAT = "geneface_jax.corpus"
FORMAT_VERSION = 1
MOTION_DIM = 204
SPLITS = ("train", "val")

_REMAKE = "make the corpus again, for example with `python -m data_tools.avatar corpus --out DIR`"


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip: T video frames, A = 2T audio frames, float32.

    Attributes:
      name, speaker: names; a clip belongs to one speaker.
      split: "train" or "val".
      audio_features: [A, C]. f0: [A] Hz, 0 = unvoiced. motion: [T, 204].
    """

    name: str
    speaker: str
    split: str
    audio_features: np.ndarray
    f0: np.ndarray
    motion: np.ndarray

    @property
    def n_frames(self) -> int:
        """T."""
        return len(self.motion)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All clips of a corpus folder.

    Attributes:
      folder: where it was read from. meta: the whole of meta.json. clips: in the order of meta.json.
    """

    folder: Path
    meta: dict[str, Any]
    clips: tuple[Clip, ...]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Reads and checks a corpus folder.

        Raises:
          InputError: a file or an array is missing, damaged or of another shape than docs/file-formats.md says, or a split is empty.
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        path = folder / "clips.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                clips = tuple(_read_clip(archive, entry, path) for entry in meta["clips"])
        except FileNotFoundError as error:
            raise InputError(f"{path} is missing; {_REMAKE}") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged or not a plain array file; {_REMAKE}") from error
        for split in SPLITS:
            if not any(clip.split == split for clip in clips):
                raise InputError(f'{folder} has no clip in the split "{split}"; {_REMAKE}')
        return cls(folder, meta, clips)

    def of_split(self, split: str) -> tuple[Clip, ...]:
        """The clips of "train" or "val"."""
        return tuple(clip for clip in self.clips if clip.split == split)

    @functools.cached_property
    def speaker_means(self) -> dict[str, np.ndarray]:
        """Speaker -> [204] mean of all their frames: the resting face, which speech doesn't tell."""
        return {speaker: mean_motion([clip for clip in self.clips if clip.speaker == speaker]) for speaker in self.speakers}

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names in order of first appearance."""
        return tuple(dict.fromkeys(clip.speaker for clip in self.clips))


def mean_motion(clips: Sequence[Clip]) -> np.ndarray:
    """[204] float32 mean over every frame of the clips."""
    return np.concatenate([clip.motion for clip in clips]).mean(axis=0, dtype=np.float64).astype(np.float32)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no corpus in {folder} (no meta.json); {_REMAKE}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON; {_REMAKE}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or meta.get("format_version") != FORMAT_VERSION:
        raise InputError(f'{path} does not describe a corpus ("format" is not "{FORMAT}" of version {FORMAT_VERSION}); {_REMAKE}')
    clips = meta.get("clips")
    if not isinstance(clips, list) or not clips:
        raise InputError(f"{path} lists no clips; {_REMAKE}")
    wanted = {"name": str, "speaker": str, "n_frames": int, "split": str}
    for entry in clips:
        if not isinstance(entry, dict) or any(not isinstance(entry.get(key), kind) for key, kind in wanted.items()):
            raise InputError(f"an entry of the clips in {path} lacks one of {', '.join(wanted)}; {_REMAKE}")
        if entry["split"] not in SPLITS:
            raise InputError(f'the clip {entry["name"]} in {path} has the split "{entry["split"]}", not train or val; {_REMAKE}')
    return meta


def _read_clip(archive: Any, entry: dict[str, Any], path: Path) -> Clip:
    name, frames = entry["name"], entry["n_frames"]
    arrays = {}
    for array, shape in (("audio_features", (2 * frames, None)), ("f0", (2 * frames,)), ("motion", (frames, MOTION_DIM))):
        key = f"{name}/{array}"
        if key not in archive.files:
            raise InputError(f"the array {key} is missing from {path}; {_REMAKE}")
        value = archive[key].astype(np.float32)
        if len(value.shape) != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
            raise InputError(f"the array {key} of {path} has the shape {value.shape}, not {shape}; {_REMAKE}")
        if not np.isfinite(value).all():
            raise InputError(f"the array {key} of {path} holds values that are not finite; {_REMAKE}")
        arrays[array] = value
    return Clip(name, entry["speaker"], entry["split"], **arrays)
