"""Compares this project with recorded results of the original systems.

    python scripts/check_parity.py kernels DIR     every *.npz in DIR, on every implementation that can run here

Prints a table and exits with 1 when a result is further off than its tolerance or a file was read by nothing. Needs requirements.txt alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from geneface_kernels.catalog import check_folder  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kernels"])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--implementation", action="append", choices=["xla", "pallas", "pallas_interpret"], help="only this one (repeatable)"
    )
    parser.add_argument("--verbose", action="store_true", help="one line per array instead of one per file")
    args = parser.parse_args()
    if not args.folder.is_dir() or not any(args.folder.glob("*.npz")):
        print(f"{args.folder} holds no .npz files; give the folder that does", file=sys.stderr)
        return 2
    return kernels(args.folder, args.implementation, args.verbose)


def kernels(folder: Path, implementations: list[str] | None, verbose: bool) -> int:
    """Prints the table of kernel vectors; returns the exit code."""
    missed = rows = 0
    print(f"{'op':<20} {'file':<38} {'implementation':<17} {'error / tolerance':>17}  worst array")
    for row in check_folder(folder, implementations):
        rows += 1
        missed += not row.passed
        if not row.checks:
            print(f"{row.op:<20} {row.file:<38} {row.implementation:<17} {'NOT READ':>17}", flush=True)
            continue
        for check in row.checks if verbose else [row.worst]:
            verdict = "" if check.passed else "   MISS"
            print(f"{row.op:<20} {row.file:<38} {row.implementation:<17} {check.worst:>17.3g}  {check.key}{verdict}", flush=True)
    print(f"{rows} rows, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
