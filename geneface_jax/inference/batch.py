"""One person, many recordings: the networks are read once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.inference.pipeline import InferenceResult, Progress, infer_open, open_person
from geneface_jax.io.person_folder import find_parts

SOUNDS = (".wav", ".mp3", ".ogg", ".flac", ".m4a", ".aac", ".opus", ".webm", ".mp4", ".mov", ".mkv")


def recordings(folder: str | os.PathLike[str]) -> list[Path]:
    """The sound and video files of a folder, by name; not those of its subfolders.

    Raises:
      InputError: there is none, or two would make one video because their names differ only behind the dot.
    """
    folder = Path(folder)
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SOUNDS and not path.name.startswith("."))
    if not found:
        raise InputError(f"the folder {folder} holds no recording; put wav, mp3, ogg, flac, m4a or video files there")
    stems: dict[str, Path] = {}
    for path in found:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise InputError(f"{other.name} and {path.name} in {folder} would both make {path.stem}.mp4; rename one of them")
    return found


def infer_folder(
    subject_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    controls: Controls | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[Path, InferenceResult | InputError]]:
    """Makes `OUT_DIR/NAME.mp4` (with `bg="transparent"`: .webm) of every recording NAME.* of a folder.

    What one recording can't give does not stop the others. Each video is the one that `pipeline.infer` makes of its recording alone.

    Args:
      subject_dir, controls, progress: as `pipeline.infer`; the progress begins again with every recording.
      folder: the recordings.
      out_dir: where the videos go; made if it is not there. Videos of the same names are replaced.

    Yields:
      each recording, with its video or with what was wrong with it.

    Raises:
      InputError: at the first recording; as `recordings`, or the person or the controls can't be used at all.
    """
    controls = (controls or Controls()).validate()
    found, out_dir = recordings(folder), Path(out_dir)
    if out_dir.is_file() or out_dir.suffix.lower() in (".mp4", ".webm"):
        raise InputError(f"--out {out_dir} names a file, but {folder} is a folder of recordings; give a folder for their videos")
    person = open_person(find_parts(subject_dir), controls.precision)
    suffix = ".webm" if controls.bg == TRANSPARENT else ".mp4"
    for path in found:
        try:
            yield path, infer_open(person, path, out_dir / f"{path.stem}{suffix}", controls, progress=progress)
        except InputError as error:
            yield path, error
