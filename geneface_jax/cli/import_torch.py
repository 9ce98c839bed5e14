"""Converts a checkpoint of GeneFace or GeneFace++ (SyncNet, audio2motion VAE, PostNet) into a work folder of ours."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("source", metavar="SRC", help="checkpoint file, or the folder with model_ckpt_steps_<N>.ckpt and config.yaml")
    parser.add_argument("out", metavar="DST", help="work folder to make")
    parser.add_argument("--step", type=int, metavar="N", help="which step of a folder (default: the newest)")
    parser.add_argument("--audio2motion", metavar="DIR", help="imported VAE for a PostNet checkpoint that carries none")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the work folder last."""
    from geneface_jax.convert import speech_checkpoint, torch_checkpoint
    from geneface_jax.io import checkpoints

    original = torch_checkpoint.read(Path(args.source), args.step)
    vae = checkpoints.load(args.audio2motion) if args.audio2motion else None
    imported = speech_checkpoint.import_checkpoint(original, vae)
    folder = speech_checkpoint.write(imported, args.out)
    print(f"{original.path}: {imported.title}, step {imported.step}, {imported.n_parameters:,} parameters, {speech_checkpoint.KIND}")
    for note in imported.notes:
        print(f"note: {note}")
    print(folder)
    return 0
