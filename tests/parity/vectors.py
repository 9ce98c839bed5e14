"""Where the golden vectors lie, and reading of the networks' ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.parity.networks.vectors import read_arrays

COMMITTED = Path(__file__).parent / "vectors"
"""Small vectors of every op and network, part of the repository."""

VECTORS = Path(os.environ.get("GENEFACE_PARITY", Path(__file__).parents[3] / "shared" / "parity")) / "networks"
"""The networks at their published sizes, which lie beside the clone."""

needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no golden vectors in {VECTORS} (set GENEFACE_PARITY)")


def read(name: str) -> dict[str, np.ndarray]:
    """Arrays of `networks/<name>.npz`."""
    return read_arrays(VECTORS / f"{name}.npz")
