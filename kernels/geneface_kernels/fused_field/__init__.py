"""A trial: grid encoding, a small network and compositing of a block of rays in one kernel, with no number per sample in memory."""

from geneface_kernels.fused_field.field import render_field
from geneface_kernels.fused_field.weights import FieldWeights

__all__ = ["FieldWeights", "render_field"]
