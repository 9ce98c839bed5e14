"""Activations with gradients of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_jvp
def trunc_exp(x: jax.Array) -> jax.Array:
    """exp(x) whose gradient is that of exp(clip(x, -15, 15)), so that one dense sample can't blow up a step (torch-ngp)."""
    return jnp.exp(x)


@trunc_exp.defjvp
def _trunc_exp_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return jnp.exp(x), dx * jnp.exp(jnp.clip(x, -15.0, 15.0))
