"""Small corrections of the training cameras, learnt together with the field (BARF, Lin et al. 2021, for cameras that are nearly right).

A tracker's noise moves the head against its pixels by a fraction of a pixel, and a field that must explain all frames with it blurs hair
and teeth. Held-out frames keep their tracked cameras, so the corrections must not carry the scene away from them: whatever part of them
is an affine function of the slow tracked pose (a shift of the scene, a turn, a stretch of the head's movement) is projected out. Slow,
because the noise to be corrected is part of the tracked pose itself: where a head hardly moves it would be most of it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from geneface_jax.rendering.cameras import pose_vector

SLOW = 25
"""Frames (one second) over which tracked poses are averaged: long against a tracker's noise, short against a head's movement."""


def affine_basis(poses: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the affine functions of the slow tracked poses over the frames that are trained on.

    Args:
      poses: [T, 4, 4] scene poses.
      used: [U] numbers of the frames that are trained on; the rows of the others are zero.

    Returns:
      [T, 7] float32; columns beyond the rank (a head that never moves leaves 1) are zero.
    """
    vectors = np.asarray(pose_vector(jnp.asarray(poses)), np.float64)
    vectors = ndimage.uniform_filter1d(vectors, SLOW, axis=0, mode="nearest")[used]
    deviation = vectors.std(axis=0)
    moving = (vectors - vectors.mean(axis=0)) / np.where(deviation > 1e-6, deviation, np.inf)
    left, strength, _ = np.linalg.svd(np.concatenate([np.ones((len(used), 1)), moving], axis=1), full_matrices=False)
    basis = np.zeros((len(poses), 7), np.float32)
    kept = left * (strength > 1e-4 * strength[0])
    basis[used, : kept.shape[1]] = kept
    return basis


def without_gauge(corrections: jax.Array, basis: jax.Array) -> jax.Array:
    """Corrections [T, 6] less their affine part in the slow tracked poses (`affine_basis`); mean-free among others."""
    return corrections - basis @ (basis.T @ corrections)


def corrected(poses: jax.Array, corrections: jax.Array) -> jax.Array:
    """Turns and moves cameras about the scene's origin, the head's centre.

    Args:
      poses: [..., 4, 4] scene poses.
      corrections: [..., 6]: rotation vector in radians, translation in scene units.

    Returns:
      [..., 4, 4]; the poses themselves where the corrections are zero.
    """
    turn = rotation(corrections[..., :3])
    moved = jnp.einsum("...ij,...jk->...ik", turn, poses[..., :3, :])
    moved = moved.at[..., 3].add(corrections[..., 3:])
    return jnp.concatenate([moved, poses[..., 3:, :]], axis=-2)


def rotation(vector: jax.Array) -> jax.Array:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] in radians (Rodrigues), smooth at zero."""
    square = jnp.sum(vector**2, axis=-1)[..., None, None]
    angle = jnp.sqrt(jnp.maximum(square, 1e-12))
    small = square < 1e-8
    sine = jnp.where(small, 1.0 - square / 6.0, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - square / 24.0, (1.0 - jnp.cos(angle)) / angle**2)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)
    return jnp.eye(3) + sine * cross + cosine * (cross @ cross)
