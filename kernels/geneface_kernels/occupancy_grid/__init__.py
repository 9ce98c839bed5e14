"""Occupancy grids: which cells a marcher must visit (instant-ngp, appendix E; RAD-NeRF's full update).

The head has a 3D grid of densities, one cube of R^3 cells per cascade; the torso has a 2D grid of opacities over the image plane. Cells are
stored with the first coordinate slowest; the original's Morton order and its bit fields are `geneface_kernels.bit_grid`'s business.
"""

from geneface_kernels.occupancy_grid.cells import cascade_extent, cell_centres, cell_points
from geneface_kernels.occupancy_grid.plane import plane_cell_points, plane_lookup, plane_occupied, plane_update
from geneface_kernels.occupancy_grid.running import dilate, mean_density, occupancy_threshold, occupied, update
from geneface_kernels.occupancy_grid.visibility import UNSEEN, count_views, mark_untrained

__all__ = [
    "UNSEEN",
    "cascade_extent",
    "cell_centres",
    "cell_points",
    "count_views",
    "dilate",
    "mark_untrained",
    "mean_density",
    "occupancy_threshold",
    "occupied",
    "plane_cell_points",
    "plane_lookup",
    "plane_occupied",
    "plane_update",
    "update",
]
