"""Choice of an op's implementation (XLA or Pallas), and the only module that uses Pallas's GPU backend.

Every op takes `implementation`:

- "auto": the one measured to be fastest on this device (`AUTO` below), among those that can run;
- "xla": plain jax.numpy, on CPU, GPU and TPU;
- "pallas": the Pallas kernel, on an NVIDIA GPU;
- "pallas_interpret": the Pallas kernel in interpret mode (as jax.numpy), on any device; slow, for tests.

Pallas has two GPU backends. Mosaic GPU has no arbitrary gathers, which these kernels consist of, so they use Triton: deprecated since
jax 0.12 (a DeprecationWarning at lowering). When jax removes it, this is the file to change.
"""

import contextlib
import contextvars
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
from jax.experimental import pallas as pl
from jax.sharding import AbstractDevice, AbstractMesh

Implementation = Literal["auto", "xla", "pallas", "pallas_interpret"]

AUTO: Mapping[str, str] = {}
"""Op -> implementation that "auto" takes on an NVIDIA GPU; "xla" for ops not listed. An op is listed once it has been measured on a GPU
(scripts/bench/kernels/run.py)."""

_assume_cuda: contextvars.ContextVar[bool] = contextvars.ContextVar("assume_cuda", default=False)


@contextlib.contextmanager
def lowering_for_cuda() -> Iterator[None]:
    """Context in which "pallas" can be traced and lowered for an H100 on a machine without a GPU."""
    token = _assume_cuda.set(True)
    # jax >= 0.12 needs to know which GPU to lower for; of the (empty) mesh only the device's name is read.
    h100 = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, **_platform_argument())
    try:
        with jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=h100)):
            yield
    finally:
        _assume_cuda.reset(token)


def why_pallas_cannot_run() -> str | None:
    """The reason why compiled Pallas kernels can't run here, or None if they can."""
    if _assume_cuda.get():
        return None
    if jax.default_backend() not in ("gpu", "cuda"):
        return f"it needs an NVIDIA GPU and jax runs on {jax.default_backend()!r}"
    try:
        _triton()
    except ImportError as error:
        return f"this jax ({jax.__version__}) has no Pallas Triton backend ({error})"
    return None


def resolve(implementation: Implementation, op: str) -> tuple[bool, bool]:
    """Resolves the `implementation` argument of an op.

    Args:
      implementation: the caller's choice.
      op: name of the op, for the message and for `AUTO`.

    Returns:
      (use the Pallas kernel, run it in interpret mode).

    Raises:
      ValueError: not one of the four names.
      NotImplementedError: "pallas" was chosen explicitly and can't run here.
    """
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation of {op} must be one of {', '.join(get_args(Implementation))}, got {implementation!r}")
    if implementation == "pallas_interpret":
        return True, True
    if implementation == "pallas":
        reason = why_pallas_cannot_run()
        if reason:
            raise NotImplementedError(f'{op} can\'t run as implementation="pallas": {reason}; use "xla", or "pallas_interpret" for a test')
        return True, False
    pallas = implementation == "auto" and AUTO.get(op) == "pallas" and why_pallas_cannot_run() is None
    return pallas, False


def runnable() -> list[str]:
    """Implementations other than "auto" that can run on this machine."""
    return ["xla", "pallas_interpret"] if why_pallas_cannot_run() else ["xla", "pallas"]


def _platform_argument() -> dict[str, str]:
    """AbstractDevice's `platform`, which jax 0.12 added."""
    return {"platform": "gpu"} if "platform" in inspect.signature(AbstractDevice).parameters else {}


@functools.cache
def _triton() -> Any:
    from jax.experimental.pallas import triton

    return triton


def kernel_call(
    kernel: Callable[..., None],
    *,
    name: str,
    out_shape: Any,
    grid: tuple[int, ...],
    in_specs: Sequence[pl.BlockSpec],
    out_specs: Any,
    interpret: bool,
    input_output_aliases: Mapping[int, int] | None = None,
    num_warps: int = 4,
    num_stages: int = 1,
) -> Callable[..., Any]:
    """`pallas_call` with Triton's compiler parameters: `num_warps` of 32 threads, `num_stages` of pipelining depth.

    `name` is what profilers show; the other arguments are those of `pallas_call`.
    """
    options = {} if interpret else {"compiler_params": _triton().CompilerParams(num_warps=num_warps, num_stages=num_stages)}
    return pl.pallas_call(
        kernel,
        out_shape=out_shape,
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        input_output_aliases=dict(input_output_aliases or {}),
        interpret=interpret,
        name=name,
        **options,
    )


def whole_array() -> pl.BlockSpec:
    """Spec of an array in global memory that every program can gather from."""
    return pl.BlockSpec(memory_space=pl.ANY)


def load(ref: Any, index: Any, *, mask: Any = None, other: Any = None) -> Any:
    """Gathers `ref[index]` inside a kernel; elements where `mask` is False become `other` without reading memory."""
    return _triton().load(ref.at[index], mask=mask, other=other)


def store(ref: Any, index: Any, value: Any, *, mask: Any = None) -> None:
    """Scatters `value` to `ref[index]` inside a kernel where `mask` is True."""
    _triton().store(ref.at[index], value, mask=mask)


def atomic_add(ref: Any, index: Any, value: Any, *, mask: Any = None) -> None:
    """Adds `value` to `ref[index]` inside a kernel. Interpret mode loses duplicate indices within a block and supports no mask."""
    _triton().atomic_add(ref, index, value, mask=mask)


def dot(a: Any, b: Any) -> Any:
    """Matrix product inside a kernel, in float32 rather than TF32; sides are powers of two, at least 16."""
    return _triton().dot(a, b, precision=jax.lax.Precision.HIGHEST)
