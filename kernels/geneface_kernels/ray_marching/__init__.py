"""Marching rays through an occupancy grid (RAD-NeRF, instant-ngp): the sample parameters of each ray, packed into flat buffers."""

from geneface_kernels.ray_marching.gradient import march_gradient
from geneface_kernels.ray_marching.lattice import Lattice
from geneface_kernels.ray_marching.march import march
from geneface_kernels.ray_marching.marching import Marching, step_length
from geneface_kernels.ray_marching.packing import MarchedSamples, pack
from geneface_kernels.ray_marching.step import NextSamples, march_step
from geneface_kernels.ray_marching.train import march_train
