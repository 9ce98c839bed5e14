"""One file per stage; `get_stage` finds it by the name in the config."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.training.stage import Stage


def get_stage(config: ConfigDict) -> Stage:
    """Makes the stage `config.stage`: imports `geneface_jax.training.stages.<stage>` and calls its `make(config)`.

    Raises:
      InputError: there is no such stage (the nearest is named).
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if config.stage not in known:
        nearest = difflib.get_close_matches(config.stage, known, 1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(known)}."
        raise InputError(f"config.stage is {config.stage!r}, which is no stage: {hint}")
    return importlib.import_module(f"{__name__}.{config.stage}").make(config)
