"""One round of inference compositing."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import pallas, xla
from geneface_kernels.compositing.sums import StepState
from geneface_kernels.compositing.train import OP, check_threshold


def composite_step(
    state: StepState,
    sigma: jax.Array,
    rgb: jax.Array,
    deltas: jax.Array,
    *,
    end_threshold: float = 1e-4,
    implementation: Implementation = "auto",
) -> StepState:
    """Adds up to n_step samples to each live ray (RAD-NeRF's inference rule); not differentiable.

    The transmittance is one minus the weights so far and is tested as it was before a sample: a ray takes one sample more after crossing
    `end_threshold` than in training. A step of length 0 marks the end of a ray's samples. A ray that met either end has ended, also on
    the last of its samples, and keeps its `t`; the others go on from the end of their last step.

    Args:
      state: N rays, and in `alive` the ray of each of n slots.
      sigma: [n, n_step] density, slot by slot.
      rgb: [n, n_step, 3].
      deltas: [n, n_step, 2] length of the step and ray parameter at its end.
      end_threshold: transmittance below which a ray has ended, in [0, 1) (static).
      implementation: see `geneface_kernels.backend`.

    Returns:
      The state after the round: sums and `t` of the rays in `alive` moved on, the other rays untouched, `alive` -1 where the ray ended.

    Raises:
      ValueError: an array of the wrong shape or kind, or a setting out of range.
      NotImplementedError: the implementation was named and can't run here.
    """
    if sigma.ndim != 2 or min(sigma.shape) < 1:
        raise ValueError(f"sigma must be [n, n_step] with neither of them 0, got {sigma.shape}")
    slots, steps = sigma.shape
    if state.t.ndim != 1 or state.t.shape[0] < 1:
        raise ValueError(f"state.t must be [N] with at least one ray, got {state.t.shape}")
    rays = state.t.shape[0]
    wanted = {
        "rgb": (rgb, (slots, steps, 3)),
        "deltas": (deltas, (slots, steps, 2)),
        "state.alive": (state.alive, (slots,)),
        "state.weights_sum": (state.weights_sum, (rays,)),
        "state.depth": (state.depth, (rays,)),
        "state.image": (state.image, (rays, 3)),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} must be {list(shape)} for {slots} slots of {steps} samples and {rays} rays, got {array.shape}")
    if not jnp.issubdtype(state.alive.dtype, jnp.integer):
        raise ValueError(f"state.alive must be integers, got {state.alive.dtype}")
    check_threshold(end_threshold)
    use_pallas, interpret = backend.resolve(implementation, OP)
    state = jax.tree.map(lambda a: a.astype(jnp.float32), state)._replace(alive=state.alive.astype(jnp.int32))
    sigma, rgb, deltas = (a.astype(jnp.float32) for a in (sigma, rgb, deltas))
    if use_pallas:
        return pallas.step(state, sigma, rgb, deltas, float(end_threshold), interpret)
    return xla.step(state, sigma, rgb, deltas, float(end_threshold))
