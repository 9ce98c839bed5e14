"""A hundred mutations of the files of every reader; `scripts/bench/fuzz.py` makes thousands."""

from __future__ import annotations

import pytest

from tests.fuzz import NEED_TORCH, TARGETS, fuzz

COUNT = 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_is_refused_or_read_right(name, tmp_path):
    if name in NEED_TORCH:
        pytest.importorskip("torch", reason="PyTorch is not installed (it is an extra)")
    outcome = fuzz(TARGETS[name], COUNT, tmp_path)
    print(f"{name}: {dict(outcome.counts)}, slowest {outcome.slowest:.2f} s, {outcome.most_memory:.0f} MB")
    assert not outcome.failures, "\n".join(outcome.failures)
    assert sum(outcome.counts[kind] for kind in ("refused", "read")) == COUNT
