"""Trains all runs of a sweep file in parallel and writes one table. The same command resumes, and skips finished runs.

A sweep file, such as configs/ablations/head_grid.py, names a config and the keys in which its runs differ; geneface_jax/training/sweep.py
documents it.
"""

import argparse
import sys
from pathlib import Path

EPILOG = "Any key of the config can be set for all runs with --config.key=value: --config.data.subject=people/me/dataset."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.epilog = EPILOG
    add = parser.add_argument_group("input and output").add_argument
    add("file", metavar="FILE", help="sweep file, or its name in configs/: ablations/head_grid")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the runs, summary.csv and summary.md")
    add("--summary-only", action="store_true", help="train nothing: only write the table of the finished runs")
    slots = parser.add_argument_group("machine").add_mutually_exclusive_group()
    slots.add_argument(
        "--devices",
        metavar="GPUS",
        help="CUDA_VISIBLE_DEVICES of each parallel run: 0,1 is two runs with a GPU each, 0+1,2+3 two runs with two GPUs each",
    )
    slots.add_argument("--jobs", type=int, default=1, metavar="N", help="number of parallel runs without GPUs (default %(default)s)")
    parser.set_defaults(overrides=[])


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the tables' paths last. The exit code is 1 if a run failed."""
    from data_tools.errors import InputError
    from geneface_jax.io import configs
    from geneface_jax.training import sweep

    if args.jobs < 1:
        raise InputError(f"--jobs is {args.jobs}: give 1 or more.")
    slots = [slot.replace("+", ",") for slot in args.devices.split(",")] if args.devices else [""] * args.jobs
    if args.devices and not all(slots):
        raise InputError(f"--devices is {args.devices!r}: give GPU numbers such as 0,1 or 0+1,2+3.")
    config, overrides = configs.load(args.file), [text.removeprefix("--config.") for text in args.overrides]
    failed = [] if args.summary_only else sweep.run(config, args.out, slots, overrides)
    for path in sweep.summarize(config, args.out, overrides):
        print(path)
    for name in failed:
        log = args.out / name / sweep.LOG_FILE
        print(f"geneface sweep: {name} failed: see {log}, and run the same command to retry.", file=sys.stderr)
    return int(bool(failed))
