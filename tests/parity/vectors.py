"""Where the golden vectors of the networks lie, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

VECTORS = Path(os.environ.get("GENEFACE_PARITY", Path(__file__).parents[3] / "shared" / "parity")) / "networks"

needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no golden vectors in {VECTORS} (set GENEFACE_PARITY)")


def read(name: str) -> dict[str, np.ndarray]:
    """Arrays of `networks/<name>.npz`; half-precision ones hold exact values and are widened."""
    with np.load(VECTORS / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float32) if archive[key].dtype == np.float16 else archive[key] for key in archive.files}
