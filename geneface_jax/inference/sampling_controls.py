"""The controls that only one kind of renderer has, and the sentences for those who use them on the other."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_tools.command_line import flag
from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.io.person_folder import SubjectParts

VANILLA = {"n_samples_per_ray": "samples", "n_samples_per_ray_fine": "fine_samples"}
"""Control of the vanilla NeRF -> its option of `NerfRenderer.render`."""

GRID = ("end_threshold",)
"""Controls of renderers whose rays march through a grid."""


def sampling_options(parts: SubjectParts, controls: Controls) -> dict[str, Any]:
    """Options of `render` that the person's renderer takes from the controls.

    Raises:
      InputError: a control was changed that this person's renderer does not have.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Controls)}
    vanilla = parts.head == "nerf_head"
    foreign = GRID if vanilla else tuple(VANILLA)
    for name in foreign:
        if getattr(controls, name) != defaults[name]:
            kind, other = (
                ("a vanilla NeRF", "the grid renderers'") if vanilla else (f"no vanilla NeRF (it has {parts.head}/)", "the vanilla NeRF's")
            )
            raise InputError(
                f"{flag(name)} is {getattr(controls, name)}, a control of {other} rays, but {parts.folder} is {kind}; leave it out"
            )
    if vanilla:
        return {option: getattr(controls, name) for name, option in VANILLA.items()}
    return {"end_threshold": controls.end_threshold}
