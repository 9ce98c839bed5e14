"""What is behind the head in each frame: the torso over the background."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.inference.resize import resize
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.torso import render_torso


class Backdrop:
    """Paints torso over background at one size, anew only where something changes.

    Args of the constructor:
      torso, params: the network; None leaves the background as it is.
      conditions: [T, 6] or [T, 14] of `rendering.torso.torso_conditions`; unused without a torso.
      backgrounds: uint8 [H, W, 3] for all frames or [T, H, W, 3].
      size: pixels per side.
    """

    def __init__(self, torso: Torso | None, params: Any, conditions: np.ndarray | None, backgrounds: np.ndarray, size: int):
        self._torso, self._params, self._conditions = torso, params, conditions
        self._backgrounds, self._size = backgrounds, size
        self._still = flat_picture(backgrounds, size) if backgrounds.ndim == 3 else None
        self._last: tuple[np.ndarray, tuple[jax.Array, jax.Array]] | None = None

    def paint(self, frame: int, rgb: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is behind the head of a frame.

        Args:
          frame: its number.
          rgb, alpha: [size * size, 3] and [size * size], the head itself (colour times opacity), which a head-aware torso looks at.

        Returns:
          [size * size, 3] in [0, 1], torso over background, and [size * size], the torso's opacity.
        """
        background = self._still if self._still is not None else flat_picture(self._backgrounds[frame], self._size)
        if self._torso is None:
            return background, jnp.zeros_like(alpha)
        condition = self._conditions[frame]
        same = self._last is not None and np.array_equal(self._last[0], condition)
        if self._still is not None and not self._torso.head_aware and same:
            return self._last[1]
        head = jnp.concatenate([rgb, alpha[:, None]], axis=-1) if self._torso.head_aware else None
        painted = render_torso(self._torso, self._params, jnp.asarray(condition), background, size=(self._size, self._size), head=head)
        self._last = condition, painted
        return painted


def flat_picture(picture: np.ndarray, size: int) -> jax.Array:
    """[size * size, 3] in [0, 1] of a uint8 picture of any size."""
    return jnp.asarray(resize(picture, size, size).reshape(-1, 3).astype(np.float32) / 255.0)
