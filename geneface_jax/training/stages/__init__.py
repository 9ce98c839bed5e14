"""The training stages by name: which module and class each one is."""

import difflib
import importlib

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.training.stage import Stage

STAGES = {
    "syncnet": "syncnet.SyncNetStage",
    "audio2motion": "audio2motion.Audio2MotionStage",
    "postnet": "postnet.PostNetStage",
    "head": "head.HeadStage",
    "head_sr": "head.HeadSrStage",
    "torso": "torso.TorsoStage",
    "torso_sr": "torso.TorsoSrStage",
    "nerf_head": "nerf.NerfHeadStage",
    "nerf_torso": "nerf.NerfTorsoStage",
}
"""`config.stage` -> module of this package and its class, which takes the config; imported on use."""


def get_stage(config: ConfigDict) -> Stage:
    """Makes the stage that `config.stage` names; raises InputError, with the nearest name, if there is none."""
    if config.stage not in STAGES:
        nearest = difflib.get_close_matches(config.stage, STAGES, 1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(sorted(STAGES))}."
        raise InputError(f"config.stage is {config.stage!r}, which is no stage: {hint}")
    module, name = STAGES[config.stage].split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)(config)
