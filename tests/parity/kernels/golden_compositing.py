"""Comparison with recorded results of the original compositing kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing.api import composite_train
from geneface_kernels.compositing.lanes import Composite

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.inference_step import StepState, composite_step

PREFIXES = ("composite_train_", "infer_single_")


def check(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """Compares every recorded output and gradient (of `infer_single_` files the compositing part)."""
    return _check_train(file, implementation) if file.name.startswith(PREFIXES[0]) else _check_step(file, implementation)


def _check_train(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    sigma, rgb, ambient, deltas, uncertainty = (jnp.asarray(file[k]) for k in ("sigmas", "rgbs", "ambient", "deltas", "uncertainty"))
    # The recorded table's rows are in no particular order; ours are by ray id.
    ids, first, samples = file["rays"].T
    offsets, counts = np.zeros(file.meta["N"], np.int32), np.zeros(file.meta["N"], np.int32)
    offsets[ids], counts[ids] = first, samples
    composite = functools.partial(
        composite_train,
        deltas=deltas,
        offsets=jnp.asarray(offsets),
        counts=jnp.asarray(counts),
        max_samples=max(int(counts.max()), 1),
        end_threshold=file.meta["T_thresh"],
        implementation=implementation,
    )

    @jax.jit
    def plain(upstream):
        out, vjp = jax.vjp(composite, sigma, rgb, ambient)
        # Every visited sample adds 1 to the unweighted sum of ones.
        return out, vjp(upstream), composite(sigma, rgb, jnp.ones_like(ambient)).ambient

    @jax.jit
    def uncertain(upstream):
        out, vjp = jax.vjp(lambda s, r, a, u: composite(s, r, a, uncertainty=u), sigma, rgb, ambient, uncertainty)
        return out, vjp(upstream)

    no_gradient = np.zeros(file.meta["N"], np.float32)
    upstream = Composite(file["grad_image"], file["grad_weights_sum"], no_gradient, file["grad_ambient_sum"])
    out, (g_sigma, g_rgb, g_ambient), visited = plain(upstream)
    yield from _sums(out, file, "")
    yield compare("grad_sigmas", g_sigma, file["grad_sigmas"], rtol=1e-4, atol=1e-6)
    yield compare("grad_rgbs", g_rgb, file["grad_rgbs"], atol=3e-6)
    yield compare("grad_ambient", g_ambient, file["grad_ambient"])
    yield compare("n_used", np.asarray(visited)[ids].astype(np.int32), file["n_used"])

    # The same inputs with an uncertainty: the other sums and gradients must not change.
    out, (g_sigma, g_rgb, g_ambient, g_uncertainty) = uncertain(upstream._replace(uncertainty=file["unc_grad_uncertainty_sum"]))
    yield from _sums(out, file, " with uncertainty")
    yield compare("unc_uncertainty_sum", out.uncertainty, file["unc_uncertainty_sum"], atol=3e-6)
    yield compare("unc_grad_sigmas", g_sigma, file["unc_grad_sigmas"], rtol=1e-4, atol=1e-6)
    yield compare("unc_grad_uncertainty", g_uncertainty, file["unc_grad_uncertainty"], atol=3e-6)
    yield compare("grad_rgbs with uncertainty", g_rgb, file["grad_rgbs"], atol=3e-6)
    yield compare("grad_ambient with uncertainty", g_ambient, file["grad_ambient"])


def _sums(out: Composite, file: GoldenFile, note: str) -> Iterator[Comparison]:
    yield compare("weights_sum" + note, out.alpha, file["weights_sum"], atol=3e-6)
    yield compare("image" + note, out.rgb, file["image"], atol=3e-6)
    yield compare("depth" + note, out.depth, file["depth"], atol=1e-5)
    yield compare("ambient_sum" + note, out.ambient, file["ambient_sum"], atol=5e-5)


def _check_step(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    slots, steps = file.meta["n_alive"], file.meta["n_step"]

    def by_slot(key):
        """The buffers are padded; slot s owns the rows from s * n_step."""
        values = file[key][: slots * steps]
        return jnp.asarray(values.reshape(slots, steps, *values.shape[1:]))

    state = StepState(*(jnp.asarray(file[key]) for key in ("weights_sum_in", "depth_in", "image_in", "rays_t", "rays_alive")))
    step = jax.jit(functools.partial(composite_step, end_threshold=file.meta["T_thresh"], implementation=implementation))
    out = step(state, by_slot("sigmas"), by_slot("rgbs"), by_slot("deltas"))
    yield compare("weights_sum_out", out.weights_sum, file["weights_sum_out"], atol=5e-6)
    yield compare("depth_out", out.depth, file["depth_out"], atol=5e-6)
    yield compare("image_out", out.image, file["image_out"], atol=5e-6)
    yield compare("rays_alive_out", out.alive, file["rays_alive_out"])
    yield compare("rays_t_out", out.t, file["rays_t_out"])
