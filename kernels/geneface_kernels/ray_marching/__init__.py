"""Finding the occupied samples of rays: for training into one flat buffer, for inference a few at a time."""

from geneface_kernels.ray_marching.lattice import Lattice
from geneface_kernels.ray_marching.march import march
from geneface_kernels.ray_marching.marching import Marching, step_length
from geneface_kernels.ray_marching.packing import MarchedSamples, pack
from geneface_kernels.ray_marching.step import NextSamples, march_step
from geneface_kernels.ray_marching.gradient import march_gradient
from geneface_kernels.ray_marching.train import march_train

__all__ = [
    "Lattice",
    "MarchedSamples",
    "Marching",
    "NextSamples",
    "march",
    "march_gradient",
    "march_step",
    "march_train",
    "pack",
    "step_length",
]
