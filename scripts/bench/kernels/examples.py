"""Typical calls of every Pallas kernel as shapes: the tests lower them for CUDA, registers.py compiles them for an H100."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from geneface_kernels import GridSpec, MarchConfig, composite_train, grid_encode, march_train

from scripts.bench.kernels.fused_field import FieldWeights, render_field

KERNELS = Path(__file__).resolve().parents[3] / "kernels" / "geneface_kernels"


@dataclasses.dataclass(frozen=True)
class Example:
    """One call.

    Attributes:
      op: folder of the op, or name of the module in this folder.
      kernels: names of the Pallas kernels the call must contain.
      function: takes `arguments` and uses implementation="pallas".
      arguments: shapes and dtypes.
    """

    op: str
    kernels: tuple[str, ...]
    function: Callable[..., Any]
    arguments: tuple[jax.ShapeDtypeStruct, ...]

    def source_hash(self) -> str:
        """SHA-256 of the op's source, which identifies the version a table of registers was made from."""
        digest = hashlib.sha256()
        folder = KERNELS / self.op
        paths = sorted(folder.glob("*.py")) if folder.is_dir() else [Path(__file__).with_name(f"{self.op}.py")]
        for path in paths:
            if path.name not in ("__init__.py", "xla.py"):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    """Shape of a float32 array."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def ints(*shape: int) -> jax.ShapeDtypeStruct:
    """Shape of an int32 array."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def examples() -> list[Example]:
    """All examples, with the sizes of a training step of the released models, or smaller where sizes do not affect the code."""
    return [*_grid_encoding(), *_ray_marching(), *_compositing(), *_fused_field()]


def _grid_encoding() -> list[Example]:
    spec, points = GridSpec(kind="hash"), 65_536
    table = floats(spec.rows, spec.features)

    def encode(x, table):
        return grid_encode(x, table, spec, "pallas")

    def both_gradients(x, table, g):
        return jax.vjp(encode, x, table)[1](g)

    gradients = ("grid_encode_table_gradient", "grid_encode_input_gradient")
    return [
        Example("grid_encoding", ("grid_encode",), encode, (floats(points, 3), table)),
        Example("grid_encoding", gradients, both_gradients, (floats(points, 3), table, floats(points, spec.output_dim))),
    ]


def _ray_marching() -> list[Example]:
    rays, config = 4096, MarchConfig()

    def train(o, d, near, far, noise, occupied):
        return march_train(o, d, near, far, noise, occupied, config, 16 * rays, "pallas")

    grid = jax.ShapeDtypeStruct(config.grid_shape, jnp.bool_)
    arguments = (floats(rays, 3), floats(rays, 3), floats(rays), floats(rays), floats(rays), grid)
    return [Example("ray_marching", ("march_rays",), train, arguments)]


def _compositing() -> list[Example]:
    rays, rows = 4096, 32_768

    def train(sigma, rgb, ambient, deltas, offsets, counts):
        return composite_train(sigma, rgb, ambient, deltas, offsets, counts, max_samples=16, implementation="pallas")

    def train_gradient(sigma, rgb, ambient, deltas, offsets, counts):
        def loss(sigma, rgb, ambient):
            out = train(sigma, rgb, ambient, deltas, offsets, counts)
            return jnp.sum(out.rgb) + jnp.sum(out.alpha) + jnp.sum(out.ambient)

        return jax.grad(loss, argnums=(0, 1, 2))(sigma, rgb, ambient)

    flat = (floats(rows), floats(rows, 3), floats(rows), floats(rows, 2), ints(rays), ints(rays))
    return [
        Example("compositing", ("composite_forward",), train, flat),
        Example("compositing", ("composite_backward",), train_gradient, flat),
    ]


def _fused_field() -> list[Example]:
    spec, rays = GridSpec(kind="hash"), 4096

    def render(o, d, t, counts, weights):
        return render_field(o, d, t, counts, weights, spec, step=0.027, implementation="pallas")

    weights = FieldWeights(floats(spec.rows, 2), floats(32, 64), floats(64, 4))
    return [Example("fused_field", ("fused_field",), render, (floats(rays, 3), floats(rays, 3), floats(rays, 16), ints(rays), weights))]
