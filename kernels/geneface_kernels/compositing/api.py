"""Volume-rendering compositing of packed training samples (`composite_train`), with its exact gradient."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from geneface_kernels import backend
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing import pallas, xla
from geneface_kernels.compositing.lanes import Composite, TrainOptions

OP = "compositing"


def composite_train(
    sigma: jax.Array,
    rgb: jax.Array,
    ambient: jax.Array,
    deltas: jax.Array,
    offsets: jax.Array,
    counts: jax.Array,
    *,
    max_samples: int,
    end_threshold: float = 1e-4,
    uncertainty: jax.Array | None = None,
    weighted_ambient: bool = False,
    implementation: Implementation = "auto",
) -> Composite:
    """Front-to-back compositing of samples packed into flat buffers, by ray id (RAD-NeRF's training rule).

    A sample's weight is `(1 - exp(-sigma * delta)) * transmittance`. The sample that takes the transmittance below `end_threshold` still
    counts, later ones do not. A ray without samples, or one whose rows do not all lie inside the buffers, gives zeros and no gradient.

    Gradients go to sigma, rgb, ambient and uncertainty, exact for the stop as it is; by definition none comes from `depth`, and none goes
    to `deltas`. NaN or infinity in rows that no ray visits changes nothing.

    Args:
      sigma: [M] density, at least 0.
      rgb: [M, 3] colours.
      ambient: [M] value to sum up, for example the size of the ambient coordinates.
      deltas: [M, 2] float: length of the step, ray parameter at its END (which is what `depth` sums).
      offsets: [N] int32 first row of each ray; no two rays share rows.
      counts: [N] int32 samples of each ray.
      max_samples: most samples of a ray (static); a longer ray is cut off there.
      end_threshold: transmittance below which a ray has ended, in [0, 1) (static).
      uncertainty: [M] value to sum up with the weights, or None (ER-NeRF).
      weighted_ambient: weight the ambient values like the colours (ER-NeRF's "sigma" form) instead of adding them up as they are.
      implementation: see `geneface_kernels.backend`.

    Returns:
      `Composite` of [N] rays, float32.

    Raises:
      ValueError: an array of the wrong shape or kind, or a setting out of range.
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
    floats = [None if a is None else a.astype(jnp.float32) for a in (sigma, rgb, ambient, deltas, uncertainty)]
    return _train(*floats, offsets.astype(jnp.int32), counts.astype(jnp.int32), options)


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
    # None: no gradient to the step lengths, the offsets and the counts.
    return g_sigma, g_rgb, g_ambient, None, g_uncertainty, None, None


_train.defvjp(_train_fwd, _train_bwd)
