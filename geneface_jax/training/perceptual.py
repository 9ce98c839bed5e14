"""A perceptual loss that can't break a run: its gradient is looked at before it is used.

LPIPS divides by the length of feature vectors; in half precision or on black pictures the originals' gradient becomes NaN at the step
it is switched on, and with it the network. Here such a step goes without the term, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class GuardedTerm(NamedTuple):
    """A loss term.

    Attributes:
      loss: [] a stand-in with the value and the gradient of the term, both zero when it was skipped.
      value: [] the term, for the log; zero when it was skipped.
      skipped: [] 1.0 where value or gradient was not finite.
    """

    loss: jax.Array
    value: jax.Array
    skipped: jax.Array


def guarded(distance: Callable[[jax.Array], jax.Array], images: jax.Array) -> GuardedTerm:
    """A differentiable scalar distance of images, left out as a whole where its value or gradient is not finite.

    Args:
      distance: images -> [].
      images: any shape; gradients flow into them.
    """
    value, gradient = jax.value_and_grad(distance)(jax.lax.stop_gradient(images))
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    value, gradient = jnp.where(finite, value, 0.0), jnp.where(finite, gradient, 0.0)
    # Linear in the images: this loss has exactly the gradient that was looked at.
    linear = jnp.sum(gradient * images)
    return GuardedTerm(value + linear - jax.lax.stop_gradient(linear), value, 1.0 - finite.astype(jnp.float32))


def no_term() -> GuardedTerm:
    """The term of a step that has none."""
    zero = jnp.zeros(())
    return GuardedTerm(zero, zero, zero)


def ramp(step: jax.Array, start: int, length: int) -> jax.Array:
    """[] 0 before `start`, then rising to 1 within `length` steps (at once when that is 0)."""
    return jnp.clip((step - start + 1) / max(length, 1), 0.0, 1.0)
