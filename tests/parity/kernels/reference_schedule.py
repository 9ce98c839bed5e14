"""The original's inference schedule, for parity only.

RAD-NeRF gives every live ray the same number of samples per round, more the fewer rays are left, and limits the sum of these numbers. A
ray's color therefore depends on how many other rays are alive. The comparison shows that `render_per_ray` differs by this schedule only.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.backend import Implementation
from geneface_kernels.frame_rendering import Field
from geneface_kernels.ray_marching.geometry import MarchConfig

from tests.parity.kernels.inference_step import StepState, composite_step, march_step

MOST_STEPS = 8
"""Most samples a ray gets in one round, however few rays are left."""


class ReferenceRender(NamedTuple):
    """Result of the loop.

    Attributes:
      image: [N, 3] color before the background.
      weights_sum: [N] opacity.
      depth: [N] sum of weight * t, t taken at the end of a sample's step.
      samples: [N] int32 samples marched.
      trace: [rounds, 3] int32 on the host: rays alive before the round, samples each of them got, rays alive after it.
    """

    image: jax.Array
    weights_sum: jax.Array
    depth: jax.Array
    samples: jax.Array
    trace: np.ndarray


def render_reference(
    field: Field,
    rays_o: jax.Array,
    rays_d: jax.Array,
    near: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    config: MarchConfig,
    end_threshold: float = 1e-4,
    implementation: Implementation = "auto",
) -> ReferenceRender:
    """Renders N rays with the original's schedule, in a host loop that waits for the number of live rays in every round.

    Args:
      field: see `Field`; one frame, so the frame of every point is 0.
      rays_o, rays_d: [N, 3].
      near, far: [N] from `near_far_from_aabb`.
      noise: [N] in [0, 1), jitter of the first round; zeros for none.
      occupied: [C, R, R, R] bool.
      config: cascades, cone step and the limit on samples.
      end_threshold: transmittance below which a ray ends, tested before each sample, so that the next one still counts.
      implementation: of marching and compositing, see `backend`.
    """
    n = rays_o.shape[0]
    state = StepState(jnp.zeros(n), jnp.zeros(n), jnp.zeros((n, 3)), near, jnp.arange(n, dtype=jnp.int32))
    samples = jnp.zeros(n, jnp.int32)
    no_jitter = jnp.zeros_like(noise)
    trace: list[tuple[int, int, int]] = []
    alive, spent = n, 0
    while spent < config.max_steps and alive:
        steps = max(min(n // alive, MOST_STEPS), 1)
        state, marched = _round(
            state,
            rays_o,
            rays_d,
            far,
            no_jitter if trace else noise,
            occupied,
            field=field,
            config=config,
            steps=steps,
            end_threshold=end_threshold,
            implementation=implementation,
        )
        samples += marched
        left = int(jnp.sum(state.alive >= 0))
        trace.append((alive, steps, left))
        alive, spent = left, spent + steps
    return ReferenceRender(state.image, state.weights_sum, state.depth, samples, np.asarray(trace, np.int32).reshape(-1, 3))


@functools.partial(jax.jit, static_argnames=("field", "config", "steps", "end_threshold", "implementation"))
def _round(
    state: StepState,
    rays_o: jax.Array,
    rays_d: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    *,
    field: Field,
    config: MarchConfig,
    steps: int,
    end_threshold: float,
    implementation: Implementation,
) -> tuple[StepState, jax.Array]:
    """One round; slot and ray have the same number, and dead rays stay in place without samples, so that shapes are static.

    Returns:
      (state afterwards, [N] int32 samples marched).
    """
    far_alive = jnp.where(state.alive >= 0, far, -1.0)
    marched = march_step(rays_o, rays_d, state.t, far_alive, noise, occupied, config, steps, implementation)
    directions = jnp.broadcast_to(rays_d[:, None], marched.points.shape)
    frame = jnp.zeros(directions.size // 3, jnp.int32)
    sigma, rgb = field(marched.points.reshape(-1, 3), directions.reshape(-1, 3), frame)
    after = composite_step(
        state,
        sigma.reshape(-1, steps),
        rgb.reshape(-1, steps, 3),
        marched.deltas,
        end_threshold=end_threshold,
        implementation=implementation,
    )
    return after, jnp.sum(marched.deltas[..., 0] > 0.0, axis=1, dtype=jnp.int32)


def over_background(render: ReferenceRender, near: jax.Array, far: jax.Array, background: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The original's final picture and depth.

    Args:
      render: of N rays.
      near, far: [N].
      background: [3] or [N, 3].

    Returns:
      ([N, 3] picture in [0, 1], [N] depth as a fraction of the way through the box, NaN for rays that miss it).
    """
    image = jnp.clip(render.image + (1.0 - render.weights_sum)[:, None] * background, 0.0, 1.0)
    return image, jnp.maximum(render.depth - near, 0.0) / (far - near)
