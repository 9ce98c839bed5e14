"""Coarse and fine sampling of rays and their compositing over a background pixel (Mildenhall et al. 2020, section 5; AD-NeRF's variant)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

LAST_STEP = 1e10
"""Length of the last sample's step: whatever light is left ends in it."""

DENSITY_FLOOR = 1e-6
"""Added to every density (per metre), so that the last sample is opaque even where nothing is."""

Query = Callable[[jax.Array, jax.Array], jax.Array]
"""(points [R, S, 3], unit directions [R, 3]) -> [R, S, 4], colour before the sigmoid and density before the ReLU."""


class Composite(NamedTuple):
    """What R rays see. The last of a ray's samples shows the background pixel, so that it is always solid.

    Attributes:
      rgb: [R, 3] in [0, 1], background included.
      foreground: [R, 3] without the last sample: rgb = foreground + last_weight * background.
      last_weight: [R] share of the background.
      weights: [R, S] share of every sample.
      depth: [R] mean depth in metres; disparity: [R] 1 / depth.
      opacity: [R] sum of the weights, about 1.
    """

    rgb: jax.Array
    foreground: jax.Array
    last_weight: jax.Array
    weights: jax.Array
    depth: jax.Array
    disparity: jax.Array
    opacity: jax.Array


class Rendered(NamedTuple):
    """Both passes over R rays, and the standard deviation [R] of the depths that the coarse pass proposed to the fine one.

    Without a fine pass `fine` is `coarse`, and the deviation is 0.
    """

    coarse: Composite
    fine: Composite
    spread: jax.Array


class Noise(NamedTuple):
    """Uniform draws in [0, 1): `shift` [R, S] of the coarse samples in their intervals, `quantile` [R, F] of the fine ones."""

    shift: jax.Array
    quantile: jax.Array


def even_depths(near: float, far: float, rays: int, samples: int) -> jax.Array:
    """[R, S] depths from near to far, both included."""
    t = jnp.linspace(0.0, 1.0, samples)
    return jnp.broadcast_to(near * (1.0 - t) + far * t, (rays, samples))


def jitter(depths: jax.Array, shift: jax.Array) -> jax.Array:
    """Stratified sampling: each depth [R, S] moves to `shift` [R, S] of its interval, whose borders lie half-way to its neighbours.

    The last one takes the end of its interval whatever is drawn: the background stays where it is.
    """
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    upper = jnp.concatenate([middle, depths[:, -1:]], axis=-1)
    lower = jnp.concatenate([depths[:, :1], middle], axis=-1)
    return lower + (upper - lower) * shift.at[:, -1].set(1.0)


def sample_pdf(edges: jax.Array, weights: jax.Array, quantiles: jax.Array) -> jax.Array:
    """Inverse transform sampling of a piecewise constant density.

    Args:
      edges: [R, B] borders of the bins, ascending.
      weights: [R, B - 1], not negative, not normalised.
      quantiles: [R, F] or [F] in [0, 1].

    Returns:
      [R, F] positions; a bin without weight is crossed at once.
    """
    pdf = weights + 1e-5
    pdf = pdf / jnp.sum(pdf, axis=-1, keepdims=True)
    cdf = jnp.concatenate([jnp.zeros_like(pdf[:, :1]), jnp.cumsum(pdf, axis=-1)], axis=-1)
    quantiles = jnp.broadcast_to(quantiles, (len(edges), quantiles.shape[-1]))
    right = jax.vmap(lambda c, u: jnp.searchsorted(c, u, side="right", method="compare_all"))(cdf, quantiles)
    below, above = jnp.maximum(right - 1, 0), jnp.minimum(right, edges.shape[-1] - 1)
    cdf_below, cdf_above = (jnp.take_along_axis(cdf, i, axis=-1) for i in (below, above))
    edge_below, edge_above = (jnp.take_along_axis(edges, i, axis=-1) for i in (below, above))
    width = cdf_above - cdf_below
    share = (quantiles - cdf_below) / jnp.where(width < 1e-5, 1.0, width)
    return edge_below + share * (edge_above - edge_below)


def composite(raw: jax.Array, depths: jax.Array, directions: jax.Array, background: jax.Array) -> Composite:
    """Adds up the samples of rays (the original's `raw2outputs`).

    Args:
      raw: [R, S, 4] from a `Query`.
      depths: [R, S] ascending.
      directions: [R, 3], not normalised: their length turns depth into distance.
      background: [R, 3] in [0, 1], the colour of each ray's last sample.
    """
    steps = jnp.concatenate([depths[:, 1:] - depths[:, :-1], jnp.full_like(depths[:, :1], LAST_STEP)], axis=-1)
    steps = steps * jnp.linalg.norm(directions, axis=-1, keepdims=True)
    alpha = 1.0 - jnp.exp(-(jax.nn.relu(raw[..., 3]) + DENSITY_FLOOR) * steps)
    passed = jnp.cumprod(1.0 - alpha + 1e-10, axis=-1)
    weights = alpha * jnp.concatenate([jnp.ones_like(alpha[:, :1]), passed[:, :-1]], axis=-1)
    colors = jax.nn.sigmoid(raw[..., :3])
    foreground = jnp.einsum("rs,rsc->rc", weights[:, :-1], colors[:, :-1])
    last_weight, opacity = weights[:, -1], jnp.sum(weights, axis=-1)
    depth = jnp.sum(weights * depths, axis=-1)
    return Composite(
        rgb=foreground + last_weight[:, None] * background,
        foreground=foreground,
        last_weight=last_weight,
        weights=weights,
        depth=depth,
        disparity=1.0 / jnp.maximum(1e-10, depth / opacity),
        opacity=opacity,
    )


def render_rays(
    coarse: Query,
    fine: Query,
    origins: jax.Array,
    directions: jax.Array,
    background: jax.Array,
    *,
    near: float,
    far: float,
    samples: int,
    fine_samples: int,
    noise: Noise | None = None,
) -> Rendered:
    """Renders rays in two passes; the second one looks where the first saw something.

    Args:
      coarse, fine: the fields.
      origins, directions: [R, 3] each, metres; directions as `pinhole.camera_rays` makes them.
      background: [R, 3] in [0, 1].
      near, far: depths of the first and last sample, metres.
      samples: of the coarse pass, at least 3 where there is a fine one.
      fine_samples: further ones of the fine pass, which is evaluated on all of them; 0 for no fine pass.
      noise: draws of a training step; None samples evenly.
    """
    view = directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)

    def look(query: Query, depths: jax.Array) -> Composite:
        points = origins[:, None] + directions[:, None] * depths[..., None]
        return composite(query(points, view), depths, directions, background)

    depths = even_depths(near, far, len(origins), samples)
    if noise is not None:
        depths = jitter(depths, noise.shift)
    first = look(coarse, depths)
    if fine_samples == 0:
        return Rendered(first, first, jnp.zeros(len(origins)))
    middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
    quantiles = jnp.linspace(0.0, 1.0, fine_samples) if noise is None else noise.quantile
    # Where the fine samples lie is no business of the coarse field's gradient.
    proposed = jax.lax.stop_gradient(sample_pdf(middle, first.weights[:, 1:-1], quantiles))
    second = look(fine, jnp.sort(jnp.concatenate([depths, proposed], axis=-1), axis=-1))
    return Rendered(first, second, jnp.std(proposed, axis=-1))
