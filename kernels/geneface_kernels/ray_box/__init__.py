"""Where rays enter and leave an axis-aligned box, and where they leave a sphere."""

from geneface_kernels.ray_box.box import FAR_AWAY, near_far_from_aabb
from geneface_kernels.ray_box.sphere import sphere_coordinates

__all__ = ["FAR_AWAY", "near_far_from_aabb", "sphere_coordinates"]
