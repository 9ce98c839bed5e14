"""Finding the occupied samples of rays on a lattice of constant step."""

from geneface_kernels.ray_marching.lattice import Lattice, lattice_occupancy
from geneface_kernels.ray_marching.samples import Samples, first_occupied, pack_samples

__all__ = ["Lattice", "Samples", "first_occupied", "lattice_occupancy", "pack_samples"]
