"""Multi-resolution grid encoding (instant-ngp; hash and tiled)."""

from geneface_kernels.grid_encoding.encode import grid_encode, input_jacobian
from geneface_kernels.grid_encoding.spec import GridSpec
from geneface_kernels.grid_encoding.total_variation import total_variation_gradient

__all__ = ["GridSpec", "grid_encode", "input_jacobian", "total_variation_gradient"]
