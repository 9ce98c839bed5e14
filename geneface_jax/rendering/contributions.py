"""What each cell of space adds to pictures of a head: the samples of rays that are seen, without a limit on their number."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.frame_rendering import march_bits, next_samples
from geneface_kernels.ray_marching.geometry import cell_index

from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays
from geneface_jax.rendering.field import MarchSettings
from geneface_jax.typing import Array, Bool, Float

BLOCK = 1024
"""Rays at once."""

COUNT = 8
"""Samples of each ray at once."""

SPENT = 1e-4
"""Transmittance after which a ray's samples add nothing to a picture of 8 bits."""


class SeenRays(NamedTuple):
    """Of the rays of a picture.

    Attributes:
      transmittance: what all samples let through; 1 for a ray without samples.
      at_cap: what the first `max_samples` of them let through.
    """

    transmittance: Float[jax.Array, " N"]
    at_cap: Float[jax.Array, " N"]


@functools.partial(jax.jit, static_argnames=("model", "settings", "size", "resolution"), donate_argnames=("seen",))
def add_seen_cells(
    model: Head,
    params: Any,
    seen: Bool[Array, " cells"],
    occupied: Bool[Array, "R R R"],
    pose: Float[Array, "4 4"],
    intrinsics: Float[Array, " 4"],
    window: Float[Array, "S ... C"],
    eye_openness: Float[Array, ""],
    shift: Float[Array, " 3"],
    threshold: Float[Array, ""] | float,
    *,
    settings: MarchSettings,
    size: int,
    resolution: int,
) -> tuple[Bool[jax.Array, " cells"], SeenRays]:
    """Marks the cells in which a sample of this picture has a weight above `threshold`.

    Args:
      model, params: the head network.
      seen: resolution^3 marks so far, flattened (x slowest); donated.
      occupied: occupancy grid of the head's training.
      pose, window, eye_openness: of the picture.
      intrinsics: in pixels of `size`.
      shift: in [0, 1): position of the rays in their pixels (row, column) and of the first sample in its step. Many pictures with other
        shifts reach every place of a cell.
      threshold: weight, 0..1.
      settings, size, resolution: static; pixels per side of the picture, cells per side of `seen`.
    """
    variables = {"params": params}
    condition = model.apply(variables, window[None], jnp.reshape(eye_openness, (1,)), method=Head.condition)
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    places = [axis.reshape(-1) + shift[i] - 0.5 for i, axis in enumerate((rows, columns))]
    rays_o, rays_d = pixel_rays(pose, intrinsics, *places)
    # The lattice begins where a ray enters the box: a ray that starts later within one step has it elsewhere.
    step, rays = settings.lattice.step, size * size
    marched = march_bits(rays_o, rays_d, occupied, settings.frame_march)
    near = marched.near + shift[2] * step
    alive = jnp.any(marched.bits != 0, axis=1)
    padded = -(-rays // BLOCK) * BLOCK
    listed = jnp.nonzero(alive, size=padded, fill_value=rays)[0]
    bits, near, rays_o, rays_d = (jnp.pad(array, [(0, 1)] + [(0, 0)] * (array.ndim - 1)) for array in (marched.bits, near, rays_o, rays_d))

    flat = jnp.asarray(occupied).reshape(-1)

    def one_block(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        ray = jax.lax.dynamic_slice_in_dim(listed, i * BLOCK, BLOCK)

        def some_samples(state: tuple[Any, ...]) -> tuple[Any, ...]:
            first, left, transmittance, at_cap, seen = state
            steps, found, left = next_samples(left, COUNT)
            t = near[ray][:, None] + steps * step
            points = jnp.clip(rays_o[ray][:, None] + rays_d[ray][:, None] * t[..., None], -model.bound, model.bound)
            density: Any = model.apply(variables, points.reshape(-1, 3), condition, method=Head.density)
            was_occupied = flat[cell_index(points, occupied.shape[0], model.bound)]
            optical = jnp.where(found & was_occupied, density[0].reshape(found.shape) * step, 0.0)
            before = transmittance[:, None] * jnp.exp(optical - jnp.cumsum(optical, axis=1))
            weight = before * -jnp.expm1(-optical)
            after = transmittance * jnp.exp(-jnp.sum(optical, axis=1))
            rendered = first + jnp.arange(COUNT) < settings.max_samples
            capped = transmittance * jnp.exp(-jnp.sum(jnp.where(rendered, optical, 0.0), axis=1))
            at_cap = jnp.where(first < settings.max_samples, capped, at_cap)
            cell = jnp.where(rendered & (weight > threshold), cell_index(points, resolution, model.bound), resolution**3)
            return first + COUNT, left, after, at_cap, seen.at[cell.reshape(-1)].set(True, mode="drop")

        def unfinished(state: tuple[Any, ...]) -> jax.Array:
            return jnp.any(jnp.any(state[1] != 0, axis=1) & (state[2] > SPENT))

        rays_of, seen = carry
        ones = jnp.ones(BLOCK)
        _, _, transmittance, at_cap, seen = jax.lax.while_loop(unfinished, some_samples, (jnp.int32(0), bits[ray], ones, ones, seen))
        return rays_of.at[ray].set(jnp.stack([transmittance, at_cap], axis=1)), seen

    blocks = -(-jnp.sum(alive) // BLOCK)
    rays_of, seen = jax.lax.fori_loop(0, blocks, one_block, (jnp.ones((rays + 1, 2)), jnp.asarray(seen)))
    return jnp.asarray(seen), SeenRays(rays_of[:rays, 0], rays_of[:rays, 1])


def turned(pose: Float[np.ndarray, "4 4"], degrees: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """The scene pose of a camera that is moved around the scene's origin, the head's center, by rotations about x, y and z in degrees."""
    from scipy.spatial.transform import Rotation

    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return turn @ pose
