"""Array operations of neural radiance fields: grid encoding, ray marching, compositing, frame rendering; see docs/kernels.md.

Plain `jax.numpy` on CPU, GPU and TPU, and Pallas kernels for NVIDIA GPUs. Needs jax and numpy alone.
"""

from geneface_kernels.compositing import Composite, composite_train
from geneface_kernels.encodings import frequency_encode, spherical_harmonics
from geneface_kernels.frame_rendering import FrameMarch, FrameRender, count_samples, render_per_ray, render_single_pass, sufficient_budget
from geneface_kernels.grid_encoding import GridSpec, grid_encode
from geneface_kernels.occupancy import cell_centers, cell_points, from_morton_order, occupied, unpack_bits, update_density
from geneface_kernels.ray_marching import Lattice, MarchConfig, MarchedSamples, march_rays, march_train, near_far_from_aabb, pack

__all__ = [
    "Composite",
    "FrameMarch",
    "FrameRender",
    "GridSpec",
    "Lattice",
    "MarchConfig",
    "MarchedSamples",
    "cell_centers",
    "cell_points",
    "composite_train",
    "count_samples",
    "frequency_encode",
    "from_morton_order",
    "grid_encode",
    "march_rays",
    "march_train",
    "near_far_from_aabb",
    "occupied",
    "pack",
    "render_per_ray",
    "render_single_pass",
    "spherical_harmonics",
    "sufficient_budget",
    "unpack_bits",
    "update_density",
]
