"""How rays are marched: one small static object shared by training and inference."""

from __future__ import annotations

import dataclasses

from geneface_kernels.ray_marching import Lattice, MarchConfig
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class MarchSettings:
    """Static marching parameters.

    Attributes:
      aabb: (min xyz, max xyz) of the box rays are clipped to, in scene units; y (depth) is halved as in RAD-NeRF.
      min_near: closest sample to the camera.
      lattice: sample positions.
      max_samples: S, most samples of one ray.
      budget: mean samples a ray may use in training; a group of R rays has a buffer of R * budget rows.
    """

    aabb: tuple[float, ...]
    min_near: float
    lattice: Lattice
    max_samples: int
    budget: float

    def marching(self, resolution: int) -> MarchConfig:
        """The same for the kernels, with an occupancy grid of `resolution` cells per side."""
        return MarchConfig(
            bound=self.lattice.bound, resolution=resolution, max_steps=self.max_samples, dt_gamma=0.0, fixed_step=self.lattice.step
        )

    @staticmethod
    def from_config(march: ConfigDict) -> MarchSettings:
        """Reads `config.march` of a head config."""
        aabb = tuple(march.aabb)
        points = Lattice.points_for(aabb, march.step, march.max_angle_degrees)
        return MarchSettings(aabb, march.min_near, Lattice(march.step, points, march.bound), march.max_samples, march.budget)
