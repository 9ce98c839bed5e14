"""Volume-rendering compositing of packed training samples (`composite_train`), with its exact gradient."""

import functools

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import pallas, xla
from geneface_kernels.compositing.lanes import Composite, TrainOptions
from geneface_kernels.typing import Array, Float, Integer

OP = "compositing"


def composite_train(
    sigma: Float[Array, " M"],
    rgb: Float[Array, "M 3"],
    ambient: Float[Array, " M"],
    deltas: Float[Array, "M 2"],
    offsets: Integer[Array, " N"],
    counts: Integer[Array, " N"],
    *,
    max_samples: int,
    end_threshold: float = 1e-4,
    uncertainty: Float[Array, " M"] | None = None,
    weighted_ambient: bool = False,
    implementation: Implementation = "auto",
) -> Composite:
    """Front-to-back compositing of packed samples, ray by ray (RAD-NeRF's training rule).

    A sample's weight is `(1 - exp(-sigma * delta)) * transmittance`. The sample that takes the transmittance below `end_threshold` still
    counts, later ones do not. A ray without samples, or with rows outside the buffers, gives zeros and no gradient.

    Differentiable by sigma, rgb, ambient and uncertainty, with the stopping sample held fixed; `depth` propagates no gradient and `deltas`
    receives none, as in the original. NaN or infinity in rows that no ray visits has no effect.

    Args:
      sigma: density, at least 0.
      rgb: colors.
      ambient: value to sum, for example the magnitude of the ambient coordinates.
      deltas: (length of the step, ray parameter at its END, which is what `depth` sums).
      offsets: first row of each ray; no two rays share rows.
      counts: samples of each ray.
      max_samples: most samples per ray (static); longer rays are truncated.
      end_threshold: transmittance below which a ray has ended, in [0, 1) (static).
      uncertainty: value to sum with the weights, or None (ER-NeRF).
      weighted_ambient: weight the ambient values like the colors (ER-NeRF's "sigma" form) instead of summing them unweighted.
      implementation: see `geneface_kernels.backend`.

    Raises:
      ValueError: an array has the wrong shape or dtype, or a setting is out of range.
      NotImplementedError: the implementation was named and can't run here.
    """
    rows = sigma.shape[0] if sigma.ndim == 1 else 0
    if rows < 1:
        raise ValueError(f"sigma must be [M] with at least one row, got {sigma.shape}")
    wanted = {"rgb": (rgb, (rows, 3)), "ambient": (ambient, (rows,)), "deltas": (deltas, (rows, 2))}
    if uncertainty is not None:
        wanted["uncertainty"] = (uncertainty, (rows,))
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} must be {list(shape)} like sigma's {rows} rows, got {array.shape}")
    if offsets.ndim != 1 or offsets.shape[0] < 1:
        raise ValueError(f"offsets must be [N] with at least one ray, got {offsets.shape}")
    if counts.shape != offsets.shape:
        raise ValueError(f"counts must be [{offsets.shape[0]}] like offsets, got {counts.shape}")
    for name, array in (("offsets", offsets), ("counts", counts)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(f"{name} must be integers, got {array.dtype}")
    if max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {max_samples}")
    check_threshold(end_threshold)
    use_pallas, interpret = backend.resolve(implementation, OP)
    options = TrainOptions(int(max_samples), float(end_threshold), bool(weighted_ambient), use_pallas, interpret)
    floats = [None if a is None else jnp.asarray(a, jnp.float32) for a in (sigma, rgb, ambient, deltas, uncertainty)]
    return _train(*floats, jnp.asarray(offsets, jnp.int32), jnp.asarray(counts, jnp.int32), options)


def check_threshold(end_threshold: float) -> None:
    """Raises ValueError unless it is in [0, 1)."""
    if not 0.0 <= end_threshold < 1.0:
        raise ValueError(f"end_threshold must be in [0, 1), got {end_threshold}")


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _train(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, options: TrainOptions) -> Composite:
    module = pallas if options.pallas else xla
    return module.forward(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, options)


def _train_fwd(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, options):
    sums = _train(sigma, rgb, ambient, deltas, uncertainty, offsets, counts, options)
    return sums, (sigma, rgb, ambient, deltas, uncertainty, offsets, counts, sums)


def _train_bwd(options, residuals, upstream):
    *inputs, sums = residuals
    module = pallas if options.pallas else xla
    g_sigma, g_rgb, g_ambient, g_uncertainty = module.backward(*inputs, sums, upstream, options)
    # None: no gradient for the step lengths, the offsets and the counts.
    return g_sigma, g_rgb, g_ambient, None, g_uncertainty, None, None


_train.defvjp(_train_fwd, _train_bwd)
