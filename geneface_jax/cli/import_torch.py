"""Converts checkpoints, folders of checkpoints and datasets of GeneFace and GeneFace++."""

import argparse
from pathlib import Path

from data_tools.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a checkpoint file, the folder with model_ckpt_steps_<N>.ckpt and config.yaml, a folder of such folders (lrs3, May), a "
        "trainval_dataset.npy, or a processed folder",
    )
    parser.add_argument("out", metavar="DST", help="work folder, subject folder, corpus models or dataset to write")
    parser.add_argument("--step", type=int, metavar="N", help="step of a checkpoint folder (default: the newest)")
    parser.add_argument("--audio2motion", metavar="DIR", help="imported VAE, for a PostNet without one or a person without a PostNet")
    parser.add_argument("--dataset", metavar="NPY", help="with a person's folder: trainval_dataset.npy, its folder or the processed folder")
    parser.add_argument(
        "--frames", metavar="DIR", help="processed folder with the images, if it is not at its usual place near the dataset"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the written folder last."""
    from geneface_jax.convert import dataset, release
    from geneface_jax.convert.rules import require_new

    require_new(args.out)  # before the reading, which may take minutes
    source = Path(args.source)
    if release.checkpoint_folders(source):
        if args.step is not None:
            raise InputError(f"--step {args.step} applies to one checkpoint folder and {source} holds several: import that folder alone.")
        notes = _release(source, args)
    else:
        if args.dataset:
            raise InputError(f"--dataset needs a person's folder of checkpoint folders and {source} is not one: remove --dataset.")
        npy = dataset.find_dataset(source)
        notes = _checkpoint(source, args) if npy is None else _dataset(npy, args)
    for note in notes:
        print(f"note: {note}")
    print(args.out)
    return 0


def _release(source: Path, args: argparse.Namespace) -> list[str]:
    from geneface_jax.convert import release
    from geneface_jax.convert.dataset import find_dataset, import_dataset

    npy = find_dataset(Path(args.dataset or source))
    if args.dataset and npy is None:
        raise InputError(f"{args.dataset} is neither a trainval_dataset.npy nor a folder with one: give the file.")
    dataset = import_dataset(npy, args.frames) if npy else None
    found = release.import_release(source, dataset, Path(args.audio2motion) if args.audio2motion else None)
    notes = [f"{name}: {note}" for name, part in found.parts.items() for note in part.notes]
    notes += [*found.notes, *(dataset.notes if dataset else ()), *release.write_release(found, args.out)]
    for name, part in found.parts.items():
        print(f"{name}: {part.title}, step {part.step}, {part.n_parameters:,} parameters")
    if dataset:
        print(_describe(dataset))
    return notes


def _checkpoint(source: Path, args: argparse.Namespace) -> list[str]:
    from geneface_jax.convert import release, torch_checkpoint
    from geneface_jax.convert.rules import write_work_folder
    from geneface_jax.convert.speech import ORIGINAL_FEATURES
    from geneface_jax.io import checkpoints

    checkpoint = torch_checkpoint.read(source, args.step)
    part = release.import_checkpoint(checkpoint, checkpoints.load(args.audio2motion) if args.audio2motion else None)
    write_work_folder(part, args.out)
    print(f"{checkpoint.path}: {part.title}, step {part.step}, {part.n_parameters:,} parameters, {ORIGINAL_FEATURES}")
    return list(part.notes)


def _dataset(npy: Path, args: argparse.Namespace) -> list[str]:
    from geneface_jax.convert.dataset import import_dataset, write_dataset

    dataset = import_dataset(npy, args.frames)
    notes = [*dataset.notes, *write_dataset(dataset, args.out)]
    print(_describe(dataset))
    return notes


def _describe(dataset) -> str:
    data = dataset.data
    return f"dataset: {data.version}, {data.n_frames} frames of {data.size} pixels, {data.n_train} of them for training"
