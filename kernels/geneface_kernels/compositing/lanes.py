"""Compositing loops over a block of rays, independent of how samples are loaded and stored; shared by the XLA and Pallas kernels."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from geneface_kernels.typing import Float32, Int32

# -------- Results and settings


class Composite(NamedTuple):
    """Per-ray sums.

    Attributes:
      rgb: color before the background.
      alpha: sum of the weights.
      depth: sum of weight * t.
      ambient: sum of the ambient values of the visited samples, weighted only with `weighted_ambient`.
      uncertainty: sum of weight * uncertainty; None if no uncertainty was given.
    """

    rgb: Float32[jax.Array, "N 3"]
    alpha: Float32[jax.Array, " N"]
    depth: Float32[jax.Array, " N"]
    ambient: Float32[jax.Array, " N"]
    uncertainty: Float32[jax.Array, " N"] | None = None


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Static settings of `composite_train`; `pallas` and `interpret` say which implementation runs."""

    max_samples: int
    end_threshold: float
    weighted_ambient: bool
    pallas: bool
    interpret: bool

    @property
    def loop(self) -> dict[str, Any]:
        """Keyword arguments of the loops below."""
        return {"max_samples": self.max_samples, "end_threshold": self.end_threshold, "weighted_ambient": self.weighted_ambient}


# -------- The loops: vectors of one element per ray ("lane"); callbacks load the samples (`xla.py` from arrays, `pallas.py` from refs)

Channels = tuple[jax.Array, ...]
"""Red, green and blue of every lane, [n] each."""


class Sample(NamedTuple):
    """One sample of every lane, [n] each; `t_end` is the ray parameter at the end of the step, `delta` its length."""

    sigma: jax.Array
    rgb: Channels
    delta: jax.Array
    t_end: jax.Array
    ambient: jax.Array | None = None
    uncertainty: jax.Array | None = None


class LaneSums(NamedTuple):
    """Sums over each lane's visited samples, [n] each; also the upstream gradients of these sums."""

    rgb: Channels
    alpha: jax.Array
    depth: jax.Array
    ambient: jax.Array
    uncertainty: jax.Array


class SampleGradient(NamedTuple):
    """Gradients of one sample of every lane, [n] each."""

    sigma: jax.Array
    rgb: Channels
    ambient: jax.Array
    uncertainty: jax.Array


Read = Callable[[jax.Array, jax.Array], Sample]
"""(row [n], live [n]) -> samples, zeros for lanes that are not live (their rows may lie outside the buffers)."""

Write = Callable[[Any, jax.Array, jax.Array, SampleGradient], Any]
"""(buffers, row [n], live [n], gradients) -> buffers with the live lanes' gradients stored at their rows."""


def usable_counts(offsets: Int32[jax.Array, " n"], counts: Int32[jax.Array, " n"], rows: int) -> Int32[jax.Array, " n"]:
    """`counts`, but 0 for rays with samples outside a buffer of `rows` rows: the marcher dropped them."""
    # The subtraction keeps offset + count from overflowing.
    return jnp.where((counts > 0) & (offsets >= 0) & (offsets <= rows - counts), counts, 0)


def composite_lanes(
    read: Read,
    offsets: Int32[jax.Array, " n"],
    counts: Int32[jax.Array, " n"],
    *,
    max_samples: int,
    end_threshold: float,
    weighted_ambient: bool,
) -> LaneSums:
    """Front-to-back sums; the sample that takes the transmittance below `end_threshold` is the last one.

    Args:
      read: loads the samples of one row per lane.
      offsets, counts: first row and number of each lane's samples.
      max_samples, end_threshold, weighted_ambient: as in `composite_train`.
    """
    zero = jnp.zeros(offsets.shape, jnp.float32)

    def visit(carry):
        k, live, transmittance, sums = carry
        row = offsets + k
        sample = read(row, live)
        weight, after = weight_of(sample, transmittance, live)
        ambient, uncertainty = sums.ambient, sums.uncertainty
        if sample.ambient is not None:
            ambient += weight * sample.ambient if weighted_ambient else sample.ambient
        if sample.uncertainty is not None:
            uncertainty += weight * sample.uncertainty
        sums = LaneSums(
            rgb=tuple(total + weight * value for total, value in zip(sums.rgb, sample.rgb, strict=True)),
            alpha=sums.alpha + weight,
            depth=sums.depth + weight * sample.t_end,
            ambient=ambient,
            uncertainty=uncertainty,
        )
        return k + 1, live & (after >= end_threshold) & (k + 1 < counts), after, sums

    start = (jnp.int32(0), counts > 0, zero + 1.0, LaneSums((zero, zero, zero), zero, zero, zero, zero))
    return loop_while_live(visit, start, max_samples)[3]


def gradient_lanes(
    read: Read,
    write: Write,
    buffers: Any,
    offsets: Int32[jax.Array, " n"],
    counts: Int32[jax.Array, " n"],
    upstream: LaneSums,
    sums: LaneSums,
    *,
    max_samples: int,
    end_threshold: float,
    weighted_ambient: bool,
) -> Any:
    """Gradients of `composite_lanes` with the stopping sample held fixed, written sample by sample; returns the buffers.

    With v_k the scalar product of the upstream gradient of the weighted sums and the sample's values, the density gradient is
    `delta_k * (T_after_k * v_k - sum over later samples of w v + upstream_alpha * T_end)`. The sum over later samples is the total minus
    the samples so far, so one front-to-back pass is enough.

    Args:
      read, offsets, counts, max_samples, end_threshold, weighted_ambient: as in `composite_lanes`.
      write: stores gradients in `buffers`; called once per sample number.
      buffers: loop carry of `write`.
      upstream: gradients of the sums; that of `depth` is ignored.
      sums: result of `composite_lanes`.
    """
    zero = jnp.zeros(offsets.shape, jnp.float32)

    def project(rgb, ambient, uncertainty):
        """Scalar product of the upstream gradient of the weighted sums and these values."""
        total = sum(g * value for g, value in zip(upstream.rgb, rgb, strict=True))
        if weighted_ambient:
            total += upstream.ambient * ambient
        return total if uncertainty is None else total + upstream.uncertainty * uncertainty

    total_value = project(sums.rgb, sums.ambient, sums.uncertainty)
    # Gradient through alpha: a denser sample reduces the final transmittance.
    from_alpha = upstream.alpha * (1.0 - sums.alpha)

    def visit(carry):
        k, live, transmittance, passed, filled = carry
        row = offsets + k
        sample = read(row, live)
        weight, after = weight_of(sample, transmittance, live)
        value = project(sample.rgb, sample.ambient, sample.uncertainty)
        passed = passed + weight * value
        gradient = SampleGradient(
            sigma=sample.delta * (after * value - (total_value - passed) + from_alpha),
            rgb=tuple(weight * g for g in upstream.rgb),
            ambient=weight * upstream.ambient if weighted_ambient else upstream.ambient,
            uncertainty=weight * upstream.uncertainty,
        )
        filled = write(filled, row, live, gradient)
        return k + 1, live & (after >= end_threshold) & (k + 1 < counts), after, passed, filled

    return loop_while_live(visit, (jnp.int32(0), counts > 0, zero + 1.0, zero, buffers), max_samples)[4]


def weight_of(sample: Sample, transmittance: jax.Array, live: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weight of a sample, and transmittance after it; 0 and unchanged where a lane is not live, whatever its density."""
    passes = jnp.where(live, jnp.exp(-sample.sigma * sample.delta), 1.0)
    return (1.0 - passes) * transmittance, transmittance * passes


def loop_while_live(visit: Callable[[Any], Any], start: Any, max_iterations: int) -> Any:
    """Repeats `visit` up to `max_iterations` times while any lane is live; the carry starts with (number, live)."""
    return jax.lax.while_loop(lambda carry: (carry[0] < max_iterations) & (jnp.max(carry[1].astype(jnp.int32)) > 0), visit, start)
