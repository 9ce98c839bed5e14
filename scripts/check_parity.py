"""Compares this project with recorded results of the original systems.

    python scripts/check_parity.py kernels DIR     every *.npz in DIR, with every implementation that runs on this machine
    python scripts/check_parity.py networks DIR    every folder in DIR with an io.npz, with the importer's key maps

Prints a table; the exit code is 1 if an error exceeds its tolerance or a kernel file has no reader. Recorded networks and keys without
reader are printed, and make the exit code 1 only with --strict. Needs only requirements.txt.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

IMPLEMENTATIONS = ("xla", "pallas", "pallas_interpret")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kernels", "networks"])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--implementation", action="append", choices=IMPLEMENTATIONS, help="kernels: use only this one (repeatable)")
    parser.add_argument("--strict", action="store_true", help="networks: fail on folders and keys without reader")
    parser.add_argument("--verbose", action="store_true", help="one line per array instead of per file")
    args = parser.parse_args()
    pattern = {"kernels": "*.npz", "networks": "*/io.npz"}[args.what]
    if not args.folder.is_dir() or not any(args.folder.glob(pattern)):
        print(f"{args.folder} has no {pattern}: give another folder.", file=sys.stderr)
        return 2
    if args.what == "kernels":
        return kernels(args.folder, args.implementation, args.verbose)
    return networks(args.folder, args.strict, args.verbose)


def kernels(folder: Path, implementations: list[str] | None, verbose: bool) -> int:
    """Prints the table of kernel vectors; returns the exit code."""
    from tests.parity.kernels.catalog import check_folder

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


def networks(folder: Path, strict: bool, verbose: bool) -> int:
    """Prints the table of recorded networks; returns the exit code."""
    from tests.parity.networks.catalog import check_folder

    total = missed = unread = unknown = 0
    print(f"{'folder':<38} {'error / tolerance':>17}  key" + ("" if verbose else " (the worst, and all that miss)"))
    for row in check_folder(folder):
        if not row.known:
            unknown += 1
            print(f"{row.folder:<38} {'not read yet':>17}", flush=True)
            continue
        total, missed, unread = total + len(row.checks), missed + row.missed, unread + len(row.unread)
        for check in row.checks if verbose else [check for check in row.checks if check is row.worst or not check.passed]:
            verdict = "" if check.passed else "   MISS"
            print(f"{row.folder:<38} {check.worst:>17.3g}  {check.key}{verdict}", flush=True)
        if not row.checks:
            print(f"{row.folder:<38} {'NOTHING TO READ':>17}", flush=True)
        if row.unread:
            print(f"{row.folder:<38} {'not read':>17}  {', '.join(row.unread)}", flush=True)
    print(f"{total} arrays compared, {missed} missed; {unread} keys and {unknown} folders are not read")
    return 1 if missed or (strict and (unread or unknown)) else 0


if __name__ == "__main__":
    sys.exit(main())
