"""Every test runs on the CPU, with compiled programs kept between runs."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports jax: child processes inherit all of it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("MPLBACKEND", "Agg")
# librosa's numba functions keep their machine code on disk. Two processes that make it at the same moment can leave a mixture that crashes
# whoever loads it, so every test process has a folder of its own.
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".numba_cache" / os.environ.get("PYTEST_XDIST_WORKER", "main"))

import pytest  # noqa: E402
from jaxtyping import config as jaxtyping_config  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

CHECKED = ("geneface_kernels", "geneface_jax.models", "geneface_jax.rendering", "geneface_jax.evaluation", "geneface_jax.inference")
"""Packages whose annotations, array shapes among them, are checked at every call while the tests run (never in a user's process)."""

if os.environ.get("GENEFACE_TYPECHECK", "1") == "1":
    install_import_hook(CHECKED, "beartype.beartype")

MANY_MAPS = 20_000
"""Memory maps of a process from which on compiled programs are dropped: each holds some, and Linux allows 65,530."""


@pytest.fixture(autouse=True)
def few_memory_maps():
    """Drops compiled programs between tests when there are very many: a process that reaches the limit is aborted."""
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.is_file() and maps.read_bytes().count(b"\n") > MANY_MAPS:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def own_logging():
    """Puts the packages' loggers back after each test: a command line with `-q` would keep the tests after it in this process quiet."""
    loggers = [logging.getLogger(name) for name in ("data_tools", "geneface_jax", "geneface_kernels")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="module")
def unoptimized_programs():
    """Compiles in half the time, into slower programs: for tests of many small programs that each run a few times."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def mediapipe() -> None:
    """Skips the test where MediaPipe can't start."""
    from data_tools.errors import InputError
    from data_tools.masks import SelfieSegmenter

    try:
        with SelfieSegmenter():
            pass
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden vectors and clips that lie beside the clone and are no part of it; tests that need them are skipped where they are absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with golden vectors beside the clone")
    return folder


@pytest.fixture
def unchecked_annotations():
    """Turns off the run-time check of annotations: for tests that pass wrong arguments on purpose and expect the function's own error."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)
