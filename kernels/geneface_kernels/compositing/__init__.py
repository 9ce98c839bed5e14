"""Volume-rendering compositing of packed samples (Max 1995, in the discrete form used by NeRF)."""

from geneface_kernels.compositing.api import composite_train
from geneface_kernels.compositing.lanes import Composite

__all__ = ["Composite", "composite_train"]
