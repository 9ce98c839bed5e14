"""An untrained head in memory, with the occupancy of a ball, for tests of rendering."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.grid_encoding import GridSpec
from geneface_kernels.ray_marching import Lattice

from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.field import MarchSettings

AABB = (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0)
MARCH = MarchSettings(AABB, 0.05, Lattice(0.05, Lattice.points_for(AABB, 0.05, 50.0)), max_samples=30, budget=10.0)
RADIUS = 0.5


class TinyHead(NamedTuple):
    """A head and what `render_heads` needs for F frames; see there."""

    model: Head
    params: Any
    occupied: np.ndarray
    poses: jax.Array
    windows: np.ndarray
    eyes: np.ndarray


@functools.cache
def tiny_head(frames: int = 2, resolution: int = 16) -> TinyHead:
    """A head whose pictures are smooth but for its outline, under a condition for each frame."""
    grid = {"levels": 2, "base_resolution": 4, "finest_resolution": 8, "log2_table_size": 8}
    model = Head(GridSpec(**grid), GridSpec(**grid, dims=2), hidden=8, hidden_color=8, geometry_features=4, condition_features=8, codes=2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 3, 204)), jnp.zeros(1), jnp.zeros((1, 3)), method=Head.initialize)["params"]
    centers = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    ball = np.linalg.norm(np.stack(np.meshgrid(centers, centers, centers, indexing="ij"), -1), axis=-1) < RADIUS
    cameras = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    cameras[:, 2, 3], cameras[:, 0, 3] = 1.0, np.linspace(0.0, 0.02, frames)
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(frames, 3, 204)).astype(np.float32)
    eyes = rng.uniform(0, 0.4, frames).astype(np.float32)
    return TinyHead(model, jax.tree.map(lambda p: 3.0 * p, params), ball, scene_pose(cameras), windows, eyes)
