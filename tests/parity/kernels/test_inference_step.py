"""Compositing of an inference round: rays stop, end and go on where a plain loop has them do so."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend

from tests.kernels.slot_compositing import composite
from tests.lowered import NO_WARNINGS
from tests.parity.kernels.inference_step import StepState, composite_step

STEP = 0.1

each_implementation = pytest.mark.parametrize("implementation", ["xla", "pallas_interpret"])


def round_inputs(n_step=6, slots=40, rays=50, seed=3):
    """A round for rays that are not in order, with finished slots, rays that run out of samples, and rays that started earlier."""
    rng = np.random.default_rng(seed)
    alive = rng.permutation(rays)[:slots]
    alive[[4, 11]] = -1
    weights = np.where(rng.random(rays) < 0.5, 0.0, rng.uniform(0.0, 0.9, rays))
    state = StepState(
        *(jnp.asarray(v, jnp.float32) for v in (weights, weights * 3.0, weights[:, None] * rng.random((rays, 3)), rng.uniform(2, 3, rays))),
        jnp.asarray(alive, jnp.int32),
    )
    delta = rng.uniform(0.5, 1.5, (slots, n_step)) * STEP
    delta *= np.arange(n_step) < rng.integers(n_step // 2, 2 * n_step, (slots, 1))
    deltas = np.stack([delta, 3.0 + np.cumsum(delta, axis=1)], axis=2)
    arrays = (rng.gamma(0.6, 12.0, (slots, n_step)), rng.random((slots, n_step, 3)), deltas)
    return state, *(jnp.asarray(v, jnp.float32) for v in arrays)


def step(*args, implementation, end_threshold=0.05):
    return compiled_step(implementation, end_threshold)(*args)


@functools.cache
def compiled_step(implementation, end_threshold):
    return jax.jit(functools.partial(composite_step, end_threshold=end_threshold, implementation=implementation))


@each_implementation
def test_a_round_equals_a_plain_loop(implementation):
    state, sigma, rgb, deltas = round_inputs()
    weights, depth, image, t = (np.array(v, np.float64) for v in state[:4])
    alive = np.array(state.alive)
    ended_by = {"threshold": 0, "samples": 0}
    for slot, ray in enumerate(np.array(state.alive)):
        if ray < 0:
            continue
        end = t[ray]
        for k in range(sigma.shape[1]):
            if deltas[slot, k, 0] == 0.0:
                alive[slot], ended_by["samples"] = -1, ended_by["samples"] + 1
                break
            transmittance = 1.0 - weights[ray]
            weight = transmittance * (1.0 - np.exp(-float(sigma[slot, k]) * float(deltas[slot, k, 0])))
            end = float(deltas[slot, k, 1])
            weights[ray] += weight
            depth[ray] += weight * end
            image[ray] += weight * np.asarray(rgb[slot, k])
            if transmittance < 0.05:
                alive[slot], ended_by["threshold"] = -1, ended_by["threshold"] + 1
                break
        else:
            t[ray] = end
    assert min(ended_by.values()) >= 3 and (alive >= 0).sum() >= 3
    out = step(state, sigma, rgb, deltas, implementation=implementation)
    np.testing.assert_array_equal(out.alive, alive)
    for found, expected in zip(out[:4], (weights, depth, image, t), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6)


@each_implementation
def test_two_rounds_equal_one_of_both_lengths(implementation):
    state, sigma, rgb, deltas = round_inputs()
    once = step(state, sigma, rgb, deltas, implementation=implementation)
    first = step(state, sigma[:, :3], rgb[:, :3], deltas[:, :3], implementation=implementation)
    assert 0 < int((first.alive < 0).sum()) < 40
    second = step(first, sigma[:, 3:], rgb[:, 3:], deltas[:, 3:], implementation=implementation)
    np.testing.assert_array_equal(once.alive, second.alive)
    for x, y in zip(once[:3], second[:3], strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    going_on = np.asarray(once.alive)[np.asarray(once.alive) >= 0]
    np.testing.assert_array_equal(once.t[going_on], second.t[going_on])


@each_implementation
def test_rays_without_a_slot_are_left_alone(implementation):
    state, *rest = round_inputs()
    out = step(state, *rest, implementation=implementation)
    others = np.setdiff1d(np.arange(50), state.alive)
    assert len(others) == 12
    for before, after in zip(state[:4], out[:4], strict=True):
        np.testing.assert_array_equal(after[others], before[others])
    np.testing.assert_array_equal(np.asarray(out.alive)[[4, 11]], -1)


@each_implementation
def test_a_stop_on_the_last_sample_ends_the_ray_and_keeps_its_t(implementation):
    state = StepState(jnp.array([0.97, 0.5]), jnp.zeros(2), jnp.zeros((2, 3)), jnp.array([2.0, 2.0]), jnp.array([1, 0], jnp.int32))
    sample = jnp.ones((2, 1)), jnp.ones((2, 1, 3)), jnp.array([[[STEP, 2.5]], [[STEP, 2.5]]])
    out = step(state, *sample, implementation=implementation)
    np.testing.assert_array_equal(out.alive, [1, -1])
    np.testing.assert_array_equal(out.t, [2.0, 2.5])
    assert out.weights_sum[0] > 0.97, "the sample itself still counts"


@each_implementation
def test_one_round_without_a_threshold_equals_training(implementation):
    _, sigma, rgb, deltas = round_inputs()
    n, s = sigma.shape
    t = deltas[..., 1]
    deltas = deltas.at[..., 0].set(STEP)
    state = StepState(jnp.zeros(n), jnp.zeros(n), jnp.zeros((n, 3)), jnp.zeros(n), jnp.arange(n, dtype=jnp.int32))
    out = step(state, sigma, rgb, deltas, implementation=implementation, end_threshold=0.0)
    expected = composite(sigma, rgb, t, STEP, jnp.zeros((n, s)), end_threshold=0.0)
    np.testing.assert_allclose(out.weights_sum, expected.alpha, atol=2e-6)
    np.testing.assert_allclose(out.image, expected.rgb, atol=2e-6)
    np.testing.assert_allclose(out.depth, expected.depth, atol=5e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": jnp.zeros(40)}, r"sigma must be \[n, n_step\]"),
        ({"rgb": jnp.zeros((40, 6))}, r"rgb must be \[40, 6, 3\] for 40 slots of 6 samples and 50 rays"),
        ({"deltas": jnp.zeros((40, 6, 3))}, r"deltas must be \[40, 6, 2\]"),
        ({"end_threshold": float("nan")}, "end_threshold must be in"),
    ],
)
def test_bad_inference_input_is_named(change, message):
    state, sigma, rgb, deltas = round_inputs()
    with pytest.raises(ValueError, match=message):
        composite_step(**{"state": state, "sigma": sigma, "rgb": rgb, "deltas": deltas, **change})


@pytest.mark.parametrize("field", ["weights_sum", "depth", "image", "t", "alive"])
def test_bad_states_are_named(field):
    state, *rest = round_inputs()
    with pytest.raises(ValueError, match=f"state.{field} must be"):
        composite_step(state._replace(**{field: getattr(state, field)[None]}), *rest)


def test_slots_must_be_integers():
    state, *rest = round_inputs()
    with pytest.raises(ValueError, match="state.alive must be integers, got float32"):
        composite_step(state._replace(alive=state.alive.astype(jnp.float32)), *rest)


@pytest.mark.filterwarnings(*NO_WARNINGS)
def test_lowers_for_cuda_without_a_gpu():
    function = jax.jit(functools.partial(composite_step, implementation="pallas"))
    with backend.lowering_for_cuda():
        text = function.trace(*round_inputs()).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text and "composite_step" in text
