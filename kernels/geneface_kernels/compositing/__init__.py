"""Volume rendering of sampled rays (Max 1995, the discrete form used by NeRF), packed ray by ray."""

from geneface_kernels.compositing.api import composite_train
from geneface_kernels.compositing.lanes import Composite

__all__ = ["Composite", "composite_train"]
