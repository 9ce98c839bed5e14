"""Array shape annotations (jaxtyping), with a fallback to plain types where jaxtyping is not installed.

`Float[Array, "N 3"]` is a floating-point array of N rows of three; a single dimension has a leading space, `Float[Array, " N"]`. Nothing
is checked at run time outside the tests, which check every annotated function of kernels, models, rendering, evaluation and inference
(tests/conftest.py). Letters: B batch, T frames, A audio frames, N rays or points, S samples, M packed rows, L levels, C channels, R cells
per side, H and W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
"""What public functions take; they return jax.Array."""

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int, Int32, Integer, Num, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Float32, Int, Int32, Integer, Num, Shaped, UInt8
    except ImportError:

        class _Unchecked:
            """Replaces jaxtyping's types: `Float[Array, "N 3"]` is `Array`."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Float32 = Int = Int32 = Integer = Num = Shaped = UInt8 = _Unchecked

__all__ = ["Array", "Bool", "Float", "Float32", "Int", "Int32", "Integer", "Num", "Shaped", "UInt8"]
