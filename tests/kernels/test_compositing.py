"""Compositing: light is conserved, the early stop is where a plain loop stops."""

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.compositing import composite

STEP = 0.1


def samples(n=20, s=12, seed=0):
    rng = np.random.default_rng(seed)
    sigma = rng.gamma(0.6, 8.0, (n, s)).astype(np.float32)
    sigma[:, s // 2 :] *= rng.random((n, 1)) > 0.5
    return (jnp.asarray(a, jnp.float32) for a in (sigma, rng.random((n, s, 3)), np.cumsum(np.full((n, s), STEP), 1), rng.random((n, s))))


def test_alpha_and_transmittance_add_up_to_one():
    sigma, rgb, t, ambient = samples()
    out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.0)
    np.testing.assert_allclose(out.alpha + jnp.exp(-jnp.sum(sigma * STEP, axis=1)), 1.0, atol=1e-6)


def test_equals_a_plain_loop_with_early_stop():
    sigma, rgb, t, ambient = samples()
    out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.05)
    stopped = 0
    for i in range(len(sigma)):
        transmittance, colour, depth, ambient_sum = 1.0, np.zeros(3), 0.0, 0.0
        for k in range(sigma.shape[1]):
            alpha = 1.0 - np.exp(-float(sigma[i, k]) * STEP)
            colour += transmittance * alpha * np.asarray(rgb[i, k])
            depth += transmittance * alpha * float(t[i, k])
            ambient_sum += float(ambient[i, k])
            transmittance *= 1.0 - alpha
            if transmittance < 0.05:
                stopped += 1
                break
        np.testing.assert_allclose(out.rgb[i], colour, atol=1e-5)
        np.testing.assert_allclose([out.alpha[i], out.depth[i], out.ambient[i]], [1 - transmittance, depth, ambient_sum], atol=1e-4)
    assert 0 < stopped < len(sigma)


def test_density_gradient_matches_finite_differences():
    sigma, rgb, t, ambient = samples(4, 6)

    def loss(sigma):
        out = composite(sigma, rgb, t, STEP, ambient, end_threshold=0.0)
        return jnp.sum(out.rgb) + jnp.sum(out.alpha**2)

    direction = jnp.asarray(np.random.default_rng(5).normal(size=sigma.shape), jnp.float32)
    slope = (loss(sigma + 1e-2 * direction) - loss(sigma - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose(jnp.sum(jax.grad(loss)(sigma) * direction), slope, rtol=5e-3)
