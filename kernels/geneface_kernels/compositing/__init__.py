"""Volume rendering of sampled rays (Max 1995, the discrete form used by NeRF), packed ray by ray."""

from geneface_kernels.compositing.step import StepState, composite_step
from geneface_kernels.compositing.sums import Composite
from geneface_kernels.compositing.train import composite_train

__all__ = ["Composite", "StepState", "composite_step", "composite_train"]
