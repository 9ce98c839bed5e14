"""Mutation fuzzing of every reader of files: how many changes are refused or read, the slowest one and the memory it took, as JSON.

    python scripts/bench/fuzz.py --json docs/figures/fuzz.json

The readers and the mutations are those of `tests/fuzz.py`. Exits with 1 if a change was a traceback, took too long or too much memory, or
was not noticed where a checksum covers the file. Readers that need PyTorch are left out, and named, where it is missing.
"""

import argparse
import importlib.util
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from data_tools.io import write_json  # noqa: E402
from tests.fuzz import MEGABYTES, NEED_TORCH, SECONDS, TARGETS, fuzz  # noqa: E402


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="mutations a reader (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the tests use 0 (default %(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="READER", help=f"some of: {', '.join(TARGETS)}"
    )
    parser.add_argument("--json", type=Path, help="where to write the result")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()  # damaged files are logged where one of many is left out
    names = [name for name in args.only if name not in NEED_TORCH or importlib.util.find_spec("torch")]
    left_out = [name for name in args.only if name not in names]
    readers, failures = {}, 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            outcome = fuzz(TARGETS[name], args.count, Path(folder), args.seed)
        readers[name] = {
            "refused": outcome.counts["refused"],
            "read": outcome.counts["read"],
            "read_as_before": outcome.counts["unchanged"],
            "exact": TARGETS[name].exact,
            "slowest_seconds": round(outcome.slowest, 2),
            "most_megabytes": round(outcome.most_memory),
            "failures": outcome.failures,
        }
        failures += len(outcome.failures)
        print(f"{name}: {readers[name]}", flush=True)
    result = {"mutations": args.count, "seed": args.seed, "limits": {"seconds": SECONDS, "megabytes": MEGABYTES}, "readers": readers}
    if args.json:
        write_json(args.json, {**result, "left_out": left_out, "failures": failures})
    print(f"{args.count * len(names)} mutations, {failures} failures; left out for want of PyTorch: {', '.join(left_out) or 'none'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
