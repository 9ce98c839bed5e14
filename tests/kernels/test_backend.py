"""The Pallas backend: implementation names, errors, and a kernel that gathers, on the installed jax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from geneface_kernels import backend
from jax.experimental import pallas as pl

from tests.lowered import NO_WARNINGS


def _gather(table, index, interpret):
    def kernel(table_ref, index_ref, out_ref):
        rows = index_ref[:]
        out_ref[:] = backend.load(table_ref, (rows,), mask=rows < 5, other=-1.0)

    block = pl.BlockSpec((32,), lambda i: (i,))
    return backend.kernel_call(
        kernel,
        name="gather",
        out_shape=jax.ShapeDtypeStruct(index.shape, table.dtype),
        grid=(index.shape[0] // 32,),
        in_specs=[backend.whole_array(), block],
        out_specs=block,
        interpret=interpret,
    )(table, index)


def test_a_kernel_gathers_and_masks():
    index = jnp.arange(64, dtype=jnp.int32) % 8
    out = _gather(jnp.arange(8, dtype=jnp.float32), index, interpret=True)
    np.testing.assert_array_equal(out, np.where(index < 5, index, -1))


@pytest.mark.filterwarnings(*NO_WARNINGS)
def test_a_kernel_lowers_to_triton_without_a_gpu():
    arguments = jax.ShapeDtypeStruct((8,), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    with backend.lowering_for_cuda():
        text = jax.jit(lambda t, i: _gather(t, i, False)).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text and "gather" in text


@pytest.mark.usefixtures("unchecked_annotations")
def test_named_implementations():
    assert backend.resolve("xla", "op") == (False, False)
    assert backend.resolve("pallas_interpret", "op") == (True, True)
    with pytest.raises(ValueError, match="implementation of op must be one of auto, xla, pallas, pallas_interpret, got 'cuda'"):
        backend.resolve("cuda", "op")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="tests the behavior without a GPU")
def test_pallas_by_name_says_why_it_cannot_run_instead_of_falling_back():
    with pytest.raises(NotImplementedError, match="needs an NVIDIA GPU and jax runs on 'cpu'"):
        backend.resolve("pallas", "op")
    with backend.lowering_for_cuda():
        assert backend.resolve("pallas", "op") == (True, False)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="tests the behavior without a GPU")
def test_auto_takes_only_what_can_run(monkeypatch):
    monkeypatch.setattr(backend, "AUTO", {"op": "pallas"})
    assert backend.resolve("auto", "op") == (False, False)
    with backend.lowering_for_cuda():
        assert backend.resolve("auto", "op") == (True, False)
        assert backend.resolve("auto", "another") == (False, False)
