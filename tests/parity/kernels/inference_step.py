"""Inference in rounds as in the original (`march_rays` and `composite_rays` of RAD-NeRF), for parity only."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import lanes, pallas, xla
from geneface_kernels.compositing.api import OP, check_threshold
from geneface_kernels.ray_marching.api import march_rays
from geneface_kernels.ray_marching.geometry import MarchConfig, clamp, step_length

# ----------------------------------------------------------------------------------------------------
# Compositing of one round


class StepState(NamedTuple):
    """State of N rays between two rounds of inference.

    Attributes:
      weights_sum: [N] sum of the weights so far.
      depth: [N] sum of weight * t.
      image: [N, 3] color so far.
      t: [N] ray parameter where the next round starts.
      alive: [n] int32 ray of each slot, no ray twice; negative for a slot whose ray has ended.
    """

    weights_sum: jax.Array
    depth: jax.Array
    image: jax.Array
    t: jax.Array
    alive: jax.Array


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

    The transmittance is one minus the weights so far, tested before a sample is added: a ray takes one more sample after crossing
    `end_threshold` than in training. A step of length 0 marks the end of a ray's samples. A ray that has ended, also on its last sample,
    keeps its `t`; the others continue from the end of their last step.

    Args:
      state: N rays, and the ray of each of n slots.
      sigma: [n, n_step] density, slot by slot.
      rgb: [n, n_step, 3].
      deltas: [n, n_step, 2] length of the step and ray parameter at its end.
      end_threshold: transmittance below which a ray has ended, in [0, 1) (static).
      implementation: see `geneface_kernels.backend`.

    Returns:
      The state after the round: sums and `t` of the rays in `alive` updated, `alive` -1 where the ray ended.

    Raises:
      ValueError: an array has the wrong shape or dtype, or a setting is out of range.
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
        return _step_pallas(state, sigma, rgb, deltas, float(end_threshold), interpret)
    return _step_xla(state, sigma, rgb, deltas, float(end_threshold))


def step_lanes(
    read: lanes.Read, sums: lanes.LaneSums, t: jax.Array, alive: jax.Array, *, n_step: int, end_threshold: float
) -> tuple[lanes.LaneSums, jax.Array, jax.Array]:
    """`composite_step` for vectors of one element per slot.

    Args:
      read: (sample number, live [n]) -> samples.
      sums: the lanes' sums so far; ambient and uncertainty are unchanged.
      t: [n] ray parameter so far.
      alive: [n] bool, lanes with a live ray.
      n_step: samples per lane.
      end_threshold: transmittance below which a ray has ended.

    Returns:
      (sums; t, at the end of the last step if the ray continues; [n] bool, the ray continues).
    """

    def visit(carry):
        k, live, end, sums = carry
        sample = read(k, live)
        live = live & (sample.delta != 0.0)
        transmittance = 1.0 - sums.alpha
        weight, _ = lanes.weight_of(sample, transmittance, live)
        end = jnp.where(live, sample.t_end, end)
        sums = sums._replace(
            rgb=tuple(total + weight * value for total, value in zip(sums.rgb, sample.rgb, strict=True)),
            alpha=sums.alpha + weight,
            depth=sums.depth + weight * sample.t_end,
        )
        return k + 1, live & (transmittance >= end_threshold), end, sums

    _, goes_on, end, sums = lanes.loop_while_live(visit, (jnp.int32(0), alive, t, sums), n_step)
    return sums, jnp.where(goes_on, end, t), goes_on


def _step_xla(state: StepState, sigma: jax.Array, rgb: jax.Array, deltas: jax.Array, end_threshold: float) -> StepState:
    active = state.alive >= 0
    ray = jnp.maximum(state.alive, 0)

    def read(k, live):
        def column(values):
            return values[:, k]

        return lanes.Sample(column(sigma), xla.channels(rgb[:, k]), column(deltas[..., 0]), column(deltas[..., 1]))

    zero = jnp.zeros(ray.shape, jnp.float32)
    sums = lanes.LaneSums(xla.channels(state.image[ray]), state.weights_sum[ray], state.depth[ray], zero, zero)
    sums, t, goes_on = step_lanes(read, sums, state.t[ray], active, n_step=sigma.shape[1], end_threshold=end_threshold)
    back = jnp.where(active, ray, state.t.shape[0])

    def put(values, new):
        return values.at[back].set(new, mode="drop")

    return StepState(
        weights_sum=put(state.weights_sum, sums.alpha),
        depth=put(state.depth, sums.depth),
        image=put(state.image, jnp.stack(sums.rgb, axis=1)),
        t=put(state.t, t),
        alive=jnp.where(goes_on, state.alive, -1),
    )


def _step_pallas(state: StepState, sigma: jax.Array, rgb: jax.Array, deltas: jax.Array, end_threshold: float, interpret: bool) -> StepState:
    slots, steps = sigma.shape
    rays = state.t.shape[0]

    def kernel(sigma_ref, rgb_ref, deltas_ref, *refs):
        weights_ref, depth_ref, image_ref, t_ref, alive_ref = refs[5:]
        slot = pallas.block_elements(slots)
        alive = backend.load(refs[4], (slot,))
        active = alive >= 0
        ray = jnp.where(active, alive, 0)

        def read(k, live):
            def load(ref, *column):
                return backend.load(ref, (slot, k, *column), mask=live, other=0.0)

            colors = load(rgb_ref, 0), load(rgb_ref, 1), load(rgb_ref, 2)
            return lanes.Sample(load(sigma_ref), colors, load(deltas_ref, 0), load(deltas_ref, 1))

        def of_ray(ref):
            return backend.load(ref, (ray,), mask=active, other=0.0)

        zero = jnp.zeros((pallas.LANES,), jnp.float32)
        color = tuple(backend.load(refs[2], (ray, c), mask=active, other=0.0) for c in range(3))
        sums = lanes.LaneSums(color, of_ray(refs[0]), of_ray(refs[1]), zero, zero)
        sums, t, goes_on = step_lanes(read, sums, of_ray(refs[3]), active, n_step=steps, end_threshold=end_threshold)
        back = jnp.where(active, alive, rays)
        pallas.store_channels(image_ref, back, sums.rgb, mask=active)
        for ref, value in ((weights_ref, sums.alpha), (depth_ref, sums.depth), (t_ref, t)):
            backend.store(ref, (back,), value, mask=active)
        backend.store(alive_ref, (slot,), jnp.where(goes_on, alive, -1))

    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in state]
    aliases = {3 + i: i for i in range(len(state))}
    return StepState(*pallas.call_per_ray(kernel, "composite_step", shapes, slots, [sigma, rgb, deltas, *state], interpret, aliases))


# ----------------------------------------------------------------------------------------------------
# Marching of one round


class NextSamples(NamedTuple):
    """The next samples of each ray; zero after a ray's end.

    Attributes:
      points: [N, n, 3] float32, clamped to the scene.
      deltas: [N, n, 2] float32 (length of the sample's step, parameter at the END of the step); (0, 0) if the ray has ended.
    """

    points: jax.Array
    deltas: jax.Array


def march_step(
    rays_o: jax.Array,
    rays_d: jax.Array,
    t: jax.Array,
    far: jax.Array,
    noise: jax.Array,
    occupied: jax.Array,
    config: MarchConfig,
    n_steps: int,
    implementation: Implementation = "auto",
) -> NextSamples:
    """Marches each ray from `t` until it has `n_steps` samples or ends (`march_rays` of RAD-NeRF).

    Args:
      rays_o, rays_d: [N, 3] float32, the rays that are alive.
      t: [N] float32 start; the second of the last sample's deltas.
      far: [N] float32.
      noise: [N] float32 in [0, 1), jitter in steps; zeros except in the first round of a perturbed frame.
      occupied: [C, R, R, R] bool, x slowest ([R, R, R] when there is one cascade).
      config: static.
      n_steps: samples a ray (static).
      implementation: see `backend`.

    Raises:
      ValueError: wrong shapes or dtypes.
      NotImplementedError: the named implementation can't run here.
    """
    found, counts = march_rays(rays_o, rays_d, t, far, noise, occupied, config, n_steps, implementation)
    used = jnp.arange(n_steps) < counts[:, None]
    at = jnp.where(used, found, 0.0)
    step = step_length(at, config)
    points = clamp(rays_o[:, None] + rays_d[:, None] * at[..., None], -config.bound, config.bound)
    deltas = jnp.stack([step, at + step], axis=-1)
    return NextSamples(jnp.where(used[..., None], points, 0.0), jnp.where(used[..., None], deltas, 0.0))
