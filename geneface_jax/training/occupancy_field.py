"""The head's occupancy grid while it is trained: carved by the masks at the start, followed by the field afterwards."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.occupancy import cell_points, update_density
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import to_scene
from geneface_jax.rendering.field import carve, in_front_of_face

CARVE_FRAMES = 60
"""Training frames whose masks carve the occupancy grid, spread over the video."""


def carved_grid(subject: Subject, poses: np.ndarray, march: ConfigDict, bound: float) -> jax.Array:
    """The first grid [R, R, R]: 0 where the head may be, -1 where it can't.

    Args:
      subject: a full dataset.
      poses: [T, 4, 4] scene poses of its frames.
      march: `config.march`: `grid_resolution`, `front_margin`.
      bound: scene half extent.

    Raises:
      InputError: no frame shows a head.
    """
    chosen = np.unique(np.linspace(0, subject.n_train - 1, CARVE_FRAMES).astype(int))
    seen = carve(subject.head_masks(chosen), poses[chosen], np.asarray(subject.intrinsics), march.grid_resolution, bound)
    if march.front_margin > 0:
        face = to_scene(subject.mean_face + subject.motion_mean / 10.0)
        seen &= ~in_front_of_face(face, march.grid_resolution, bound, march.front_margin)
    if not seen.any():
        raise InputError(
            f"no head is visible in {subject.folder / 'head'}: the head masks are empty or the cameras look past them; "
            "run `geneface prepare` again and look at its report"
        )
    return jnp.where(jnp.asarray(seen), 0.0, -1.0)


def refreshed_grid(
    model: Head, params: Any, grid: jax.Array, window: jax.Array, eye_openness: jax.Array, rng: jax.Array, decay: float
) -> jax.Array:
    """The grid with the field's densities under one frame's condition folded in.

    Args:
      model, params: the head.
      grid: [R, R, R]; cells below 0 are never asked.
      window: [1, W, 204] normalised motion of one frame; eye_openness: [1].
      rng: where in its cell each point lies.
      decay: what is left of a cell's density when the field no longer has it.
    """
    resolution = grid.shape[0]
    condition = model.apply({"params": params}, window, eye_openness, method=Head.condition)
    points = cell_points(jax.random.uniform(rng, (1, *grid.shape, 3)), model.bound)
    # In slabs, so that the slabs without a living cell cost nothing and memory stays small.
    block = 4 * resolution * resolution
    live = (grid >= 0).reshape(-1, block)

    def density(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, any_live = args
        asked = lambda: model.apply({"params": params}, x, condition, method=Head.density)[0]  # noqa: E731
        return jax.lax.cond(any_live, asked, lambda: jnp.zeros(block))

    fresh = jax.lax.map(density, (points.reshape(-1, block, 3), live.any(axis=1)))
    return update_density(grid, fresh.reshape(grid.shape), decay)
