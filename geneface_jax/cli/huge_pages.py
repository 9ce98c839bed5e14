"""Memory for XLA's buffers in huge pages, which glibc only gives to a process that starts with the right environment.

A training step allocates and frees a few hundred megabytes; with 4 kB pages a quarter of the processor's time went into page faults
(59,000 a step measured on two cores, 410 with huge pages).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

TUNABLE = "glibc.malloc.hugetlb=1"
MIN_GLIBC = (2, 35)


def restart(argv: Sequence[str]) -> None:
    """Starts this command line anew with huge pages switched on; returns when that is not possible or already the case."""
    if not sys.platform.startswith("linux") or TUNABLE in os.environ.get("GLIBC_TUNABLES", "") or not _glibc_is_recent():
        return
    present = os.environ.get("GLIBC_TUNABLES")
    os.environ["GLIBC_TUNABLES"] = f"{present}:{TUNABLE}" if present else TUNABLE
    os.execv(sys.executable, [sys.executable, "-m", "geneface_jax", *argv])


def _glibc_is_recent() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError, AttributeError):
        return False
    return name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= MIN_GLIBC
