"""Common parts of the readers of recorded radiance fields: networks from weights, evaluation at points, tolerances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.grid_encoding.spec import GridSpec
from geneface_kernels.occupancy import from_morton_order, unpack_bits
from ml_collections import ConfigDict

from geneface_jax.convert.fields import convert_head, convert_torso, head_sizes, torso_sizes
from geneface_jax.convert.rules import flat_leaves
from geneface_jax.convert.speech import Family
from geneface_jax.models.head import Head
from geneface_jax.models.torso import Torso
from tests.parity.kernels.comparison import Comparison, compare
from tests.parity.networks.vectors import GRADIENT_RTOL, Network, Vectors

SIGMA_RTOL, RGB_ATOL, AMBIENT_ATOL = 1e-3, 5e-4, 1e-4
SIGMA_MEDIAN, ATOL_MEDIAN = 5e-5, 2e-5
"""Fine grid levels amplify rounding at single points, so the tolerance of the median is much smaller."""
CONDITION_ATOL, CONDITION_RTOL = 1e-5, 1e-4


def _init_head(model: ConfigDict) -> Any:
    window = jnp.zeros((1, model.condition_window, 204))
    return Head.from_config(model).init(jax.random.key(0), window, jnp.zeros(1), jnp.zeros((8, 3)), method=Head.initialize)


def _init_torso(model: ConfigDict) -> Any:
    return Torso.from_config(model).init(jax.random.key(0), jnp.zeros((8, 2)), method=Torso.initialize)


HEAD = Family("RAD-NeRF head", r"sigma_net\.", "head", head_sizes, convert_head, _init_head)
TORSO = Family("RAD-NeRF torso", r"torso_deform_net\.", "torso", torso_sizes, convert_torso, _init_torso)


def load_head(weights: Mapping[str, np.ndarray], name: str = "weights") -> tuple[Head, Any, Comparison]:
    """(network, its variables, whether names and shapes match) of a state_dict."""
    loaded = Network.from_weights(HEAD, weights, name)
    return Head.from_config(loaded.model), jax.tree.map(jnp.asarray, loaded.variables), loaded.check


def load_torso(weights: Mapping[str, np.ndarray], name: str = "weights") -> tuple[Torso, Any, Comparison]:
    """(network, its variables, whether names and shapes match) of a state_dict."""
    loaded = Network.from_weights(TORSO, weights, name)
    return Torso.from_config(loaded.model), jax.tree.map(jnp.asarray, loaded.variables), loaded.check


def occupied_cells(weights: Mapping[str, np.ndarray]) -> jax.Array:
    """[R, R, R] bool of a head's `density_bitfield`."""
    bits = unpack_bits(jnp.asarray(weights["density_bitfield"])).reshape(1, -1)
    return from_morton_order(bits)[0]


def condition(head: Head, variables: Any, window: np.ndarray, eye_openness: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """(condition [C], encoded frames [S, C] before blink and attention) of one recorded window [S, 1, 204]."""
    x = window.reshape(1, len(window), -1)
    found, inner = head.apply(
        variables, x, jnp.full(1, eye_openness), method=Head.condition, capture_intermediates=True, mutable=["intermediates"]
    )
    return found[0], inner["intermediates"]["condition_encoder"]["frame_encoder"]["__call__"][0][0]


def check_points(vectors: Vectors, head: Head, variables: Any, feature: np.ndarray, prefix: str) -> Iterator[Comparison]:
    """Density, color and ambient coordinates of `in_pos`, `in_dir` under appearance code 0, as `<prefix>_sigma` and so on."""
    code = variables["params"]["frame_codes"][:1]
    out = head.apply(variables, vectors["in_pos"], vectors["in_dir"], feature[None], code)
    for name, value, atol, rtol in (
        ("sigma", out.sigma, 0.0, SIGMA_RTOL),
        ("rgb", out.rgb, RGB_ATOL, 0.0),
        ("ambient", out.ambient, AMBIENT_ATOL, 0.0),
    ):
        key = f"{prefix}_{name}"
        if vectors.has(key):
            theirs = vectors[key]
            yield compare(key, value, theirs, atol=atol, rtol=rtol)
            error = np.abs(value - theirs) / (np.abs(theirs) if rtol else 1.0)
            yield Comparison(f"{key} (median)", float(np.median(error) / (SIGMA_MEDIAN if rtol else ATOL_MEDIAN)))


def check_geometry(vectors: Vectors, geometry: Any) -> Iterator[Comparison]:
    """The density network's geometry feature, of which the first channels were recorded."""
    for found in vectors.find(r"density_geo_feat_first(\d+)"):
        yield from vectors.compare({found[0]: geometry[:, : int(found[1])]}, RGB_ATOL, SIGMA_RTOL)


def check_typical(key: str, found: Any, theirs: np.ndarray, atol: float, median: float, where: np.ndarray) -> Iterator[Comparison]:
    """Two comparisons of an array [N, ...]: every entry of the rows `where` within `atol`, half of them within `median`."""
    found, where = np.asarray(found), where.astype(bool)
    yield compare(key, found, theirs, atol=atol, where=where)
    error = np.abs(found - theirs)[where]
    yield Comparison(f"{key} (median)", float(np.median(error) / median) if np.isfinite(error).all() else float("inf"))


def table_levels(spec: GridSpec, table: Any) -> tuple[np.ndarray, np.ndarray]:
    """(L2 norms [L], sums [L, C]) of each level's rows of a table's gradient, which is recorded in this form."""
    table = np.asarray(table, np.float64)
    parts = np.split(table, spec.offsets[1:-1])
    return np.array([np.linalg.norm(part) for part in parts]), np.array([part.sum(0) for part in parts])


def check_table_gradients(vectors: Vectors, prefix: str, spec: GridSpec, table: Any, share: float) -> Iterator[Comparison]:
    """The recorded norms and sums, per level, of a table's gradient; the tolerance is `share` of the largest of them."""
    for kind, ours in zip(("gradnorm", "gradsum"), table_levels(spec, table), strict=True):
        key = f"train_{kind}_per_level__{prefix}.embeddings"
        if vectors.has(key):
            theirs = vectors[key]
            yield compare(key, ours, theirs, atol=share * np.abs(theirs).max(), rtol=GRADIENT_RTOL)


def leaf(tree: Mapping[str, Any], path: str) -> Any:
    """A leaf of a nested dict; parts of the path are separated by "/"."""
    return flat_leaves(tree)[path]
