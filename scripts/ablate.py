"""Trains all runs of a sweep file side by side and writes one table; the same command resumes and leaves finished runs alone.

    python scripts/ablate.py configs/ablations/head_grid.py --out runs/head_grid --config.data.subject=people/me/dataset
    python scripts/ablate.py configs/ablations/syncnet_list.py --out runs/syncnet --devices 0,1,2,3 --config.data.corpus=CORPUS

--devices lists what each of the runs that go on at once sees as CUDA_VISIBLE_DEVICES ("0,1" is two runs; "0+1,2+3" gives two GPUs to
each of two). Without GPUs, --jobs says how many go on at once. geneface_jax/training/sweep.py says what a sweep file holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from data_tools.errors import InputError  # noqa: E402
from geneface_jax.io import configs  # noqa: E402
from geneface_jax.training import sweep  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("file", help="a sweep file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of the table")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--devices", help="GPUs of each run that goes on at once: 0,1 or 0+1,2+3")
    where.add_argument("--jobs", type=int, default=1, help="runs at once without GPUs (default %(default)s)")
    parser.add_argument("--summary-only", action="store_true", help="write the table of what has finished")
    args, more = parser.parse_known_args()
    try:
        if wrong := [text for text in more if not text.startswith("--config.")]:
            raise InputError(f"{wrong[0]} is no argument of this script: keys of the config are set with --config.key=value.")
        chosen = configs.load(args.file)
        shared = [text.removeprefix("--config.") for text in more]
        slots = [slot.replace("+", ",") for slot in args.devices.split(",")] if args.devices else [""] * args.jobs
        failed = [] if args.summary_only else sweep.run(chosen, args.out, slots, shared)
        for path in sweep.summarize(chosen, args.out, shared):
            print(path)
    except InputError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    for name in failed:
        print(f"ablate: {name} failed, see {args.out / name / sweep.LOG_FILE}; the same command tries again", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
