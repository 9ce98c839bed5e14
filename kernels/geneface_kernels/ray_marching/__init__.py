"""Marching rays through an occupancy grid (RAD-NeRF, instant-ngp): the sample parameters of each ray, packed into flat buffers."""

from geneface_kernels.ray_marching.api import MarchedSamples, march_rays, march_train, pack
from geneface_kernels.ray_marching.geometry import FAR_AWAY, Lattice, MarchConfig, near_far_from_aabb

__all__ = ["FAR_AWAY", "Lattice", "MarchConfig", "MarchedSamples", "march_rays", "march_train", "near_far_from_aabb", "pack"]
