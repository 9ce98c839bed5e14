"""The whole inference loop against recorded results of the original kernels."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.backend import Implementation
from geneface_kernels.compositing.api import composite_train
from geneface_kernels.frame_rendering import Field
from geneface_kernels.occupancy import from_morton_order, unpack_bits
from geneface_kernels.ray_marching.api import march_train
from geneface_kernels.ray_marching.geometry import MarchConfig

from tests.parity.kernels.comparison import Comparison, GoldenFile, compare
from tests.parity.kernels.reference_schedule import over_background, render_reference

PREFIXES = ("infer_loop_",)

TRAIN_END_THRESHOLD = 1e-4
"""Of the `train_*` arrays, whatever the threshold of the loop."""
SHARE_OFF = 0.005
"""Share of all rays that may be outside the tolerance, including rays whose path one rounding may change."""
TOLERANCE = {"image": 1e-4, "final_image": 1e-4, "weights_sum": 1e-4, "depth": 5e-4, "depth_normalized": 5e-4, "ambient_sum": 5e-4}


def check(file: GoldenFile, implementation: Implementation) -> Iterator[Comparison]:
    """Schedule, sums and picture of the inference loop, then the same rays marched and composited as in training."""
    meta = file.meta
    config = MarchConfig(
        bound=meta["bound"], resolution=meta["H"], cascades=meta["C"], dt_gamma=meta["dt_gamma"], max_steps=meta["max_steps"]
    )
    occupied = jax.jit(lambda bits: from_morton_order(unpack_bits(bits).reshape(meta["C"], -1)))(file["bitfield"])
    yield from _loop(file, occupied, config, implementation)
    yield from _train(file, occupied, config, implementation)


def analytic_field(field: dict[str, list]) -> Field:
    """The recorded files' field: a sum of Gaussians with a color that is a sine of the position plus a term in the direction."""
    centers, radii, amps, freq, phase = (jnp.asarray(field[key], jnp.float32) for key in ("centers", "radii", "amps", "freq", "phase"))

    def evaluate(points: jax.Array, directions: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
        del frame
        squares = jnp.sum((points[:, None] - centers) ** 2, axis=-1)
        sigma = jnp.sum(amps * jnp.exp(-squares / (2.0 * radii**2)), axis=-1)
        return sigma, 0.5 + 0.4 * jnp.sin(freq * points + phase) + 0.1 * directions

    return evaluate


def _loop(file: GoldenFile, occupied: jax.Array, config: MarchConfig, implementation: Implementation) -> Iterator[Comparison]:
    near, far = jnp.asarray(file["nears"]), jnp.asarray(file["fars"])
    out = render_reference(
        analytic_field(file.meta["field"]),
        jnp.asarray(file["rays_o"]),
        jnp.asarray(file["rays_d"]),
        near,
        far,
        jnp.asarray(file["noises"]),
        occupied,
        config,
        file.meta["T_thresh"],
        implementation,
    )
    image, depth = over_background(out, near, far, jnp.asarray(file.meta["bg_color"], jnp.float32))
    # One round more or less would change the shape. One ray may always be off, otherwise half a percent.
    yield compare("trace, samples per round", out.trace[:, 1], file["trace"][:, 1])
    yield compare("trace, rays alive", out.trace[:, ::2], file["trace"][:, ::2], atol=1.0, rtol=SHARE_OFF)
    stable = file["stable"]
    first = len(stable)
    yield compare("n_points", out.samples[:first], file["n_points"][:first], where=stable)
    yield _share("n_points", out.samples, file["n_points"], 0.0)
    found = {"weights_sum": out.weights_sum, "image": out.image, "depth": out.depth, "final_image": image, "depth_normalized": depth}
    for key, ours in found.items():
        yield compare(key, ours[:first], file[key], atol=TOLERANCE[key], where=stable)
        yield _share(key, ours[:first], file[key], TOLERANCE[key])


def _train(file: GoldenFile, occupied: jax.Array, config: MarchConfig, implementation: Implementation) -> Iterator[Comparison]:
    # Enough for every ray, even if a few have one sample more than recorded.
    budget = int(file["train_n_points"].sum() * (1.0 + SHARE_OFF)) + config.max_steps
    field = analytic_field(file.meta["field"])

    @jax.jit
    def render(rays_o, rays_d, near, far, noise):
        marched = march_train(rays_o, rays_d, near, far, noise, occupied, config, budget, implementation)
        sigma, rgb = field(marched.points, marched.directions, marched.ray)
        ambient = jnp.abs(marched.points[:, 0]) + jnp.abs(marched.points[:, 1])
        out = composite_train(
            sigma,
            rgb,
            ambient,
            marched.deltas,
            marched.offsets,
            marched.counts,
            max_samples=config.max_steps,
            end_threshold=TRAIN_END_THRESHOLD,
            implementation=implementation,
        )
        return marched.counts, out

    counts, out = render(*(jnp.asarray(file[key]) for key in ("rays_o", "rays_d", "nears", "fars", "noises")))
    stable = file["train_stable"]
    first = len(stable)
    yield compare("train_n_points", counts[:first], file["train_n_points"][:first], where=stable)
    found = {"weights_sum": out.alpha, "ambient_sum": out.ambient, "depth": out.depth, "image": out.rgb}
    for key, ours in found.items():
        yield compare(f"train_{key}", ours[:first], file[f"train_{key}"], atol=TOLERANCE[key], where=stable)
        yield _share(f"train_{key}", ours[:first], file[f"train_{key}"], TOLERANCE[key])


def _share(key: str, ours: jax.Array, recorded: np.ndarray, atol: float) -> Comparison:
    """Share of all rays outside `atol`, in units of `SHARE_OFF`."""
    found = np.asarray(ours)
    with np.errstate(invalid="ignore"):
        within = (np.abs(found - recorded) <= atol) | (np.isnan(found) & np.isnan(recorded))
    off = 1.0 - within.reshape(len(within), -1).all(axis=1).mean()
    return Comparison(f"{key}, share of all rays", float(off) / SHARE_OFF)
