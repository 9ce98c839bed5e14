"""What has to be equal when a dataset is made twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def contents(dataset: Path) -> dict[str, str]:
    """Name -> sha256 of every file; of the report, what it says apart from the time it took."""
    hashes = {
        str(path.relative_to(dataset)): hashlib.sha256(path.read_bytes()).hexdigest() for path in dataset.rglob("*") if path.is_file()
    }
    report = json.loads((dataset / "report.json").read_text(encoding="utf-8"))
    del report["seconds_per_step"], report["cpu_seconds_per_step"], hashes["report.html"]
    report.pop("checksum", None)  # of the times too
    return hashes | {"report.json": json.dumps(report, sort_keys=True)}
