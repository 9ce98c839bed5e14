"""What is known of every clip so far: one JSON line each, appended when the clip's file stands.

A run that was killed in the middle of a line loses that clip's line alone; later lines about a clip replace earlier ones.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"


class Journal:
    """The records of a corpus folder, by clip name; see `build.record_of` for a record's fields."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.records: dict[str, dict[str, Any]] = {}
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                self.records[record["name"]] = record
            except (ValueError, KeyError, TypeError):
                continue
        if lines and not lines[-1].endswith(b"\n"):
            # The next record must not be glued to a torn one.
            with open(self.path, "ab") as stream:
                stream.write(b"\n")

    def add(self, record: dict[str, Any]) -> None:
        """Keeps a record, on disk before in memory."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n"
        with open(self.path, "ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.records[record["name"]] = record
