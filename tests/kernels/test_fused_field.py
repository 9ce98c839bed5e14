"""The fused-field experiment gives the same result as the separate ops, and lowers for CUDA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend
from geneface_kernels.grid_encoding import GridSpec

from scripts.bench.kernels.fused_field import FieldWeights, render_field

SPEC = GridSpec(levels=3, base_resolution=4, finest_resolution=24, log2_table_size=10, kind="hash")
SETTINGS = {"step": 0.2, "end_threshold": 0.02}


def scene(rays=75, slots=7, spec=SPEC, width=16, seed=0):
    """Rays towards the cube (some samples lie outside of it), and a field that is dense in places."""
    rng = np.random.default_rng(seed)
    origins = np.array([0.0, 0.0, 1.3]) + 0.2 * rng.normal(size=(rays, 3))
    directions = np.array([0.0, 0.0, -1.0]) + 0.3 * rng.normal(size=(rays, 3))
    t = 0.1 + 0.2 * (np.arange(slots) + rng.random((rays, 1)))
    weights = (rng.uniform(-1, 1, (spec.rows, spec.features)), rng.normal(size=(spec.output_dim, width)), rng.normal(size=(width, 4)))
    arrays = [jnp.asarray(a, jnp.float32) for a in (origins, directions, t)]
    counts = jnp.asarray(rng.integers(0, slots + 1, rays), jnp.int32)
    return *arrays, counts, FieldWeights(*(jnp.asarray(w, jnp.float32) for w in weights))


def render(implementation, *arrays, **settings):
    return jax.jit(lambda *a: render_field(*a, SPEC, **{**SETTINGS, **settings}, implementation=implementation))(*arrays)


def test_equals_the_separate_ops():
    arrays = scene()
    separate, fused = (render(name, *arrays) for name in ("xla", "pallas_interpret"))
    assert 0.05 < float(separate.alpha.min(where=arrays[3] > 0, initial=1.0)) < 0.9 < float(separate.alpha.max())
    everything = render("xla", *arrays, end_threshold=0.0)
    assert 5 < int((everything.alpha > separate.alpha).sum()) < 70, "some rays, not all, must end early"
    for name, x, y in zip(separate._fields, separate[:4], fused[:4], strict=False):
        np.testing.assert_allclose(x, y, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("implementation", ["xla", "pallas_interpret"])
def test_rays_without_samples_stay_empty(implementation):
    *arrays, counts, weights = scene()
    out = render(implementation, *arrays, counts.at[:40].set(0), weights)
    for sums in out[:4]:
        np.testing.assert_array_equal(sums[:40], 0.0)
    assert out.alpha[40:].max() > 0.5


def test_lowers_for_cuda_without_a_gpu():
    spec = GridSpec()
    arrays = jax.eval_shape(lambda: scene(rays=100, slots=16, spec=spec, width=64))

    def frame(*a):
        return render_field(*a, spec, step=0.027, implementation="pallas")

    with backend.lowering_for_cuda():
        text = jax.jit(frame).trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text and "fused_field" in text


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, jnp.zeros((75, 2)), r"origins must be \[75, 3\], got \(75, 2\)"),
        (2, jnp.zeros(75), r"t must be \[N, S\]"),
        (3, jnp.zeros(7, jnp.int32), r"counts must be \[75\]"),
    ],
)
def test_bad_input_is_named(place, value, message):
    arrays = list(scene())
    arrays[place] = value
    with pytest.raises(ValueError, match=message):
        render_field(*arrays, SPEC, **SETTINGS)


def test_the_kernel_says_which_widths_it_takes():
    with pytest.raises(ValueError, match="weights.hidden must have a power of two of at least 16 columns for the Pallas kernel, got 12"):
        render("pallas_interpret", *scene(width=12))
