"""Location and reading of the networks' golden vectors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.parity.networks.vectors import read_arrays

VECTORS = Path(os.environ.get("GENEFACE_PARITY", Path(__file__).parents[3] / "shared" / "parity")) / "networks"

needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no golden vectors in {VECTORS} (set GENEFACE_PARITY)")


def read(name: str) -> dict[str, np.ndarray]:
    """Arrays of `networks/<name>.npz`."""
    return read_arrays(VECTORS / f"{name}.npz")
