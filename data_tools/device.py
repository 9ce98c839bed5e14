"""Where JAX works, when the user says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_tools.errors import InputError


@contextmanager
def jax_device(device: str | None) -> Iterator[None]:
    """Lets JAX work on "cpu" or on the first "gpu" inside the block; None leaves JAX's own choice, and JAX unimported.

    Raises:
      InputError: this machine, or the JAX that is installed, has no such device.
    """
    if device is None:
        yield
        return
    import jax

    try:
        first = jax.devices(device)[0]
    except RuntimeError as error:
        raise InputError(f"JAX finds no {device} here: leave --device out, or see `geneface doctor` for what is missing.") from error
    with jax.default_device(first):
        yield
