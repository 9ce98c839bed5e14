"""Multi-resolution grid encoding (instant-ngp; hash and tiled)."""

from geneface_kernels.grid_encoding.api import grid_encode
from geneface_kernels.grid_encoding.spec import GridSpec

__all__ = ["GridSpec", "grid_encode"]
