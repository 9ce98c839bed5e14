"""Fault injection: lets every operation on files of a command fail, one at a time, and looks at what is left; exit code 0 if all is well.

    python scripts/bench/faults.py [--share 1.0] [--only infer,train] [--out docs/figures/faults.json]

The commands and what is checked are those of tests/faults.py: after the failure no file has its final name but a whole one, the command
ended with exit code 2 and one sentence (or got along without what failed), and the next run makes everything and leaves nothing else.
Renames and syncs fail with ENOSPC, EACCES, EROFS and EIO, every other operation with one of them. About 2,100 faults, half an hour on two
cores.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
os.environ["GENEFACE_FEATURE_CACHE"] = "off"

from data_tools.io import write_json  # noqa: E402
from tests.fault_scenarios import SCENARIOS  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the operations that are no renames (default %(default)s)")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="commands, separated by commas (default: all)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    found: dict[str, dict] = {}
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, Path(folder), args.share)
    total = sum(row["faults"] for row in found.values())
    failed = sum(len(row["failed"]) for row in found.values())
    print(f"{total} faults injected, {failed} failed checks")
    if args.out:
        print(write_json(args.out, {"faults": total, "failed": failed, "share": args.share, "commands": found}))
    return int(failed > 0)


def measure(name: str, folder: Path, share: float) -> dict:
    """All faults of one command; prints what fails."""
    scenario = SCENARIOS[name](folder)
    scenario.record()
    started, failed = time.monotonic(), []
    faults = scenario.faults(share)
    for number, error in faults:
        if wrong := scenario.trial(number, error):
            print(wrong, flush=True)
            failed.append(wrong.splitlines()[0].replace(str(folder), ""))
    operations = dict(sorted(collections.Counter(scenario.operations).items()))
    row = {"operations": operations, "faults": len(faults), "failed": failed, "seconds": round(time.monotonic() - started, 1)}
    print(f"{name}: {json.dumps(row)}", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
