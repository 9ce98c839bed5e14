"""The pictures that belong to a `trainval_dataset.npy`: where they lie, what they mean, and copying them in our layout."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.convert.trainval import FILE, Trainval

JPEG = {"quality": 98, "subsampling": 0}
SOUND = "aud.wav"

# What tells a processed folder from another one.
_MARKS = ("gt_imgs", "com_imgs", "torso_imgs", "inpaint_torso_imgs")


@dataclasses.dataclass(frozen=True)
class ProcessedFolder:
    """A folder of the originals' data processing.

    Attributes:
      folder: `.../data/processed/videos/<video>`.
      data: the dataset it belongs to.
    """

    folder: Path
    data: Trainval

    def pictures(self, kind: str) -> list[Path]:
        """Files of "frames", "torso", "head" or "parsing", one a frame."""
        names = [Path(name.replace("\\", "/")) for name in self.data.pictures.get(kind, [])]
        return [self.folder / name.parent.name / name.name for name in names]

    def landmarks_2d(self) -> np.ndarray | None:
        """[T, 68, 2] landmarks that were found in the pictures, in pixels; None where the folder has none.

        GeneFace keeps a text file a frame, GeneFace++ all 478 points of MediaPipe in one array.

        Raises:
          InputError: a file is missing or damaged.
        """
        from data_tools.landmarks68 import pick_68

        size, n_frames = self.data.size, self.data.n_frames
        whole = self.folder / "lms_2d.npy"
        try:
            if whole.is_file():
                points = np.load(whole, allow_pickle=False).astype(np.float32)
                return pick_68(points.reshape(n_frames, -1, points.shape[-1]))[..., :2]
            if not (self.folder / "ori_imgs" / "0.lms").is_file():
                return None
            points = np.stack([np.loadtxt(self.folder / "ori_imgs" / f"{i}.lms", dtype=np.float32) for i in range(n_frames)])
            return np.clip(points.reshape(n_frames, 68, 2), -size, 2 * size)
        except (OSError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the landmarks in {self.folder} do not belong to {n_frames} frames ({reason}): process the video again."
            ) from error

    def copy(self, dataset: Path) -> list[str]:
        """Writes `frames`, `torso`, `head` and `audio.wav` into a dataset folder; returns what it did not find, for people.

        Raises:
          InputError: pictures are missing (how many and the first of them), damaged or of another size.
        """
        masks = self.pictures("parsing") if self.data.version == "GeneFace" else self.pictures("head")
        wanted = {"frames": self.pictures("frames"), "torso": self.pictures("torso"), "head": masks}
        absent = [path for paths in wanted.values() for path in paths if not path.is_file()]
        unnamed = [kind for kind, paths in wanted.items() if not paths]
        if absent or unnamed:
            what = f"{len(absent)} pictures are missing, the first is {absent[0]}" if absent else f"{self.data.path} names no {unnamed[0]}"
            raise InputError(f"{what}: copy the whole processed folder of the video, or name it with --frames.")
        mask = _from_parsing if self.data.version == "GeneFace" else _from_alpha
        self._each(wanted["frames"], dataset / "frames", "jpg", self._frame)
        self._each(wanted["torso"], dataset / "torso", "png", self._torso)
        self._each(wanted["head"], dataset / "head", "png", lambda source, target: self._mask(source, target, mask))
        if (self.folder / SOUND).is_file():
            shutil.copyfile(self.folder / SOUND, dataset / "audio.wav")
            return []
        return [f"{self.folder} has no {SOUND}: the dataset is without its sound, which `geneface evaluate --motion` needs."]

    def _each(self, sources: list[Path], folder: Path, suffix: str, write: Callable[[Path, Path], None]) -> None:
        folder.mkdir()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(write, sources, [folder / f"{i:06d}.{suffix}" for i in range(len(sources))]):
                pass

    def _open(self, path: Path, mode: str) -> Image.Image:
        try:
            picture = Image.open(path)
            if picture.size != (self.data.size, self.data.size):
                raise InputError(f"{path} has {picture.size[0]}x{picture.size[1]} pixels, {self.data.path} says {self.data.size}.")
            return picture if picture.mode == mode else picture.convert(mode)
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"the picture {path} is damaged: process the video again.") from error

    def _frame(self, source: Path, target: Path) -> None:
        """A JPEG stays as it is: encoding it again would lose."""
        picture = self._open(source, "RGB")
        if picture.format == "JPEG":
            shutil.copyfile(source, target)
        else:
            picture.save(target, **JPEG)

    def _torso(self, source: Path, target: Path) -> None:
        self._open(source, "RGBA").save(target)

    def _mask(self, source: Path, target: Path, mask: Callable[[np.ndarray], np.ndarray]) -> None:
        Image.fromarray((255 * mask(np.asarray(self._open(source, "RGBA")))).astype(np.uint8)).save(target)


def find(data: Trainval, named: str | Path | None = None) -> ProcessedFolder | None:
    """The processed folder of a dataset: `named`, or the one in its place beside the file; None when there is none.

    Raises:
      InputError: `named` is no such folder.
    """
    if named is not None:
        if not _is_processed(Path(named)):
            raise InputError(
                f"{named} is no processed folder (it has none of {', '.join(_MARKS)}): name .../data/processed/videos/<video>."
            )
        return ProcessedFolder(Path(named), data)
    video = data.path.absolute().parent
    places = [video, *(parent / "processed" / "videos" / video.name for parent in video.parents[:3])]
    return next((ProcessedFolder(place, data) for place in places if _is_processed(place)), None)


def find_dataset(source: Path) -> Path | None:
    """The `trainval_dataset.npy` that a path means: the file, its folder, or the processed folder of the same video; None for others.

    Raises:
      InputError: a processed folder without its dataset.
    """
    if source.is_file():
        return source if source.suffix == ".npy" else None
    if (source / FILE).is_file():
        return source / FILE
    if not _is_processed(source):
        return None
    video = source.absolute()
    places = [parent / "binary" / "videos" / video.name / FILE for parent in video.parents[:3]]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{source} has pictures but there is no {FILE} for it in {places[-1].parent}: give that file and --frames {source}."
        )
    return found


def _is_processed(folder: Path) -> bool:
    return any((folder / mark).is_dir() for mark in _MARKS)


def _from_parsing(picture: np.ndarray) -> np.ndarray:
    """GeneFace's parsing paints the head blue, the neck green, the torso red and the background white."""
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    return (blue > 127) & (red < 128) & (green < 128)


def _from_alpha(picture: np.ndarray) -> np.ndarray:
    return picture[..., 3] / 255.0
