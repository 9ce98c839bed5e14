"""Trains all runs of a sweep file in parallel and writes one table; the same command resumes, and skips finished runs.

    python scripts/ablate.py configs/ablations/head_grid.py --out runs/head_grid --config.data.subject=people/me/dataset
    python scripts/ablate.py configs/ablations/syncnet_list.py --out runs/syncnet --devices 0,1,2,3 --config.data.corpus=CORPUS

--devices lists the CUDA_VISIBLE_DEVICES of each parallel run ("0,1": two runs; "0+1,2+3": two runs with two GPUs each). Without GPUs,
--jobs is the number of parallel runs. geneface_jax/training/sweep.py documents sweep files.
"""

import argparse
import sys
from pathlib import Path

from data_tools.errors import InputError
from geneface_jax.io import configs
from geneface_jax.training import sweep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("file", help="a sweep file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the table")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--devices", help="GPUs of each parallel run: 0,1 or 0+1,2+3")
    group.add_argument("--jobs", type=int, default=1, help="parallel runs without GPUs (default %(default)s)")
    parser.add_argument("--summary-only", action="store_true", help="only write the table of the finished runs")
    args, extra = parser.parse_known_args()
    try:
        if unknown := [text for text in extra if not text.startswith("--config.")]:
            raise InputError(f"{unknown[0]} is not an option of this script: set keys of the config with --config.key=value.")
        config = configs.load(args.file)
        overrides = [text.removeprefix("--config.") for text in extra]
        slots = [slot.replace("+", ",") for slot in args.devices.split(",")] if args.devices else [""] * args.jobs
        failed = [] if args.summary_only else sweep.run(config, args.out, slots, overrides, log=print)
        for path in sweep.summarize(config, args.out, overrides):
            print(path)
    except InputError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    for name in failed:
        print(f"ablate: {name} failed: see {args.out / name / sweep.LOG_FILE}, and run the same command to retry.", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
