"""Writes a light copy of a dataset: the files that inference needs, without frames and masks."""

import argparse
import os
import shutil
from pathlib import Path

from data_tools.command_line import run_program
from data_tools.errors import InputError
from data_tools.io import atomic_folder, read_npz, require_output, write_npz


def light_copy(dataset_dir: str | os.PathLike, out_dir: str | os.PathLike) -> Path:
    """Writes `meta.json`, `arrays.npz` (without `landmarks_mediapipe`) and `background.png` of a dataset into a new folder.

    Args:
      dataset_dir: a dataset, full or light.
      out_dir: folder to write; an existing one is replaced.

    Raises:
      InputError: a file is missing.
    """
    source, out = Path(dataset_dir), Path(out_dir)
    for name in ("meta.json", "arrays.npz", "background.png"):
        if not (source / name).is_file():
            raise InputError(f"{source} is not a dataset ({name} is missing): make one with `geneface prepare`.")
    if out.resolve() == source.resolve():
        raise InputError(f"The light copy of {source} can't replace the dataset itself: give another folder.")
    require_output(out, folder=True, replaced=True, option="OUT")
    with atomic_folder(out) as temporary:
        arrays = read_npz(source / "arrays.npz")
        arrays.pop("landmarks_mediapipe", None)
        write_npz(temporary / "arrays.npz", **arrays)
        for name in ("meta.json", "background.png"):
            shutil.copyfile(source / name, temporary / name)
    return out


# -------- Command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a dataset, full or light")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; an existing one is replaced")


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the copy's path last."""
    print(light_copy(args.dataset, args.out))
    return 0


if __name__ == "__main__":
    run_program()
