"""Compositing loops over a block of rays, independent of how samples are loaded and stored; shared by the XLA and Pallas kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# ----------------------------------------------------------------------------------------------------
# What compositing gives for each ray.


class Composite(NamedTuple):
    """Per-ray sums.

    Attributes:
      rgb: [N, 3] colour, not yet over a background.
      alpha: [N] sum of the weights.
      depth: [N] sum of weight * t.
      ambient: [N] sum of the per-sample ambient values up to the stop, unweighted unless weights were asked for.
      uncertainty: [N] sum of weight * uncertainty; None where no uncertainty was given.
    """

    rgb: jax.Array
    alpha: jax.Array
    depth: jax.Array
    ambient: jax.Array
    uncertainty: jax.Array | None = None


# ----------------------------------------------------------------------------------------------------
# Static settings of training compositing.


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Hashable, so that it can be a static argument of the differentiated function.

    Attributes:
      max_samples: no ray visits more samples.
      end_threshold: transmittance below which a ray has ended.
      weighted_ambient: ambient values are weighted like the colours.
      pallas: run the Pallas kernels.
      interpret: run them in interpret mode.
    """

    max_samples: int
    end_threshold: float
    weighted_ambient: bool
    pallas: bool
    interpret: bool

    @property
    def loop(self) -> dict[str, Any]:
        """The part of it that the loops take."""
        return {"max_samples": self.max_samples, "end_threshold": self.end_threshold, "weighted_ambient": self.weighted_ambient}


# ----------------------------------------------------------------------------------------------------
# The loops of compositing, for a block of rays at once and without a word about memory.
#
# Every function works on vectors of one element a ray ("lane") and gets its samples from a `read` that is passed in, so that the XLA path
# and the Pallas kernels run the same lines: `xla.py` reads and writes arrays, `pallas.py` reads and writes references.

Channels = tuple[jax.Array, jax.Array, jax.Array]


class Sample(NamedTuple):
    """One sample of every lane, [n] each; `t_end` is the ray parameter at the end of the step, `delta` its length. None adds nothing."""

    sigma: jax.Array
    rgb: Channels
    delta: jax.Array
    t_end: jax.Array
    ambient: jax.Array | None = None
    uncertainty: jax.Array | None = None


class LaneSums(NamedTuple):
    """Sums over a ray's visited samples, [n] each; also what flows back into them."""

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
"""(row [n], live [n]) -> the samples there, zeros for lanes that are not live (their rows mean nothing and may lie outside)."""

Write = Callable[[Any, jax.Array, jax.Array, SampleGradient], Any]
"""(buffers, row [n], live [n], gradients) -> buffers with the live lanes' gradients at their rows."""


def usable_counts(offsets: jax.Array, counts: jax.Array, rows: int) -> jax.Array:
    """`counts`, and 0 for rays whose samples do not lie wholly inside a buffer of `rows` rows: such a ray was dropped by the marcher."""
    # The subtraction keeps offset + count from overflowing.
    return jnp.where((counts > 0) & (offsets >= 0) & (offsets <= rows - counts), counts, 0)


def composite_lanes(
    read: Read, offsets: jax.Array, counts: jax.Array, *, max_samples: int, end_threshold: float, weighted_ambient: bool
) -> LaneSums:
    """Front-to-back sums; the sample that takes the transmittance below `end_threshold` is the last one.

    Args:
      read: gives the samples of a row per lane.
      offsets: [n] first row of each lane's samples.
      counts: [n] samples of each lane, 0 for a lane without any.
      max_samples: no lane visits more.
      end_threshold: transmittance below which a ray has ended.
      weighted_ambient: ambient values are weighted like the colours.
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
    offsets: jax.Array,
    counts: jax.Array,
    upstream: LaneSums,
    sums: LaneSums,
    *,
    max_samples: int,
    end_threshold: float,
    weighted_ambient: bool,
) -> Any:
    """Gradients of `composite_lanes` with the stop held where it was, written sample by sample.

    With v_k = the upstream gradient of the weighted sums times the sample's values (one number), the density gradient is
    `delta_k * (T_after_k * v_k - sum over later samples of w v + upstream_alpha * T_end)`. The sum over later samples is what is left of
    the whole sum, so one pass from front to back does.

    Args:
      read, offsets, counts, max_samples, end_threshold, weighted_ambient: as in `composite_lanes`.
      write: puts gradients into `buffers`; called once per sample number.
      buffers: whatever `write` carries along.
      upstream: gradients of the sums; `depth` has none by definition and is not looked at.
      sums: what `composite_lanes` gave.

    Returns:
      The buffers.
    """
    zero = jnp.zeros(offsets.shape, jnp.float32)

    def project(rgb, ambient, uncertainty):
        """Upstream gradient of the weighted sums, times these values of a lane."""
        total = sum(g * value for g, value in zip(upstream.rgb, rgb, strict=True))
        if weighted_ambient:
            total += upstream.ambient * ambient
        return total if uncertainty is None else total + upstream.uncertainty * uncertainty

    whole = project(sums.rgb, sums.ambient, sums.uncertainty)
    # What a denser sample takes from the light that leaves the ray.
    from_alpha = upstream.alpha * (1.0 - sums.alpha)

    def visit(carry):
        k, live, transmittance, passed, filled = carry
        row = offsets + k
        sample = read(row, live)
        weight, after = weight_of(sample, transmittance, live)
        value = project(sample.rgb, sample.ambient, sample.uncertainty)
        passed = passed + weight * value
        gradient = SampleGradient(
            sigma=sample.delta * (after * value - (whole - passed) + from_alpha),
            rgb=tuple(weight * g for g in upstream.rgb),
            ambient=weight * upstream.ambient if weighted_ambient else upstream.ambient,
            uncertainty=weight * upstream.uncertainty,
        )
        filled = write(filled, row, live, gradient)
        return k + 1, live & (after >= end_threshold) & (k + 1 < counts), after, passed, filled

    return loop_while_live(visit, (jnp.int32(0), counts > 0, zero + 1.0, zero, buffers), max_samples)[4]


def weight_of(sample: Sample, transmittance: jax.Array, live: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weight of a sample and transmittance behind it; 0 and unchanged where a lane is not live, whatever its density."""
    passes = jnp.where(live, jnp.exp(-sample.sigma * sample.delta), 1.0)
    return (1.0 - passes) * transmittance, transmittance * passes


def loop_while_live(visit: Callable[[Any], Any], start: Any, most: int) -> Any:
    """Repeats `visit` up to `most` times while any lane is live; the carry begins with (number, live)."""
    return jax.lax.while_loop(lambda carry: (carry[0] < most) & (jnp.max(carry[1].astype(jnp.int32)) > 0), visit, start)
