"""A subject folder with untrained networks: a head with occupancy from the masks, a torso, and the tiny synthetic dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from geneface_jax.data.subject import Subject
from geneface_jax.io import checkpoints, configs
from geneface_jax.models.torso import Torso
from geneface_jax.training.stages import head
from tests.synthetic_subject import tiny_field_config, write_subject


def write_person(
    folder: Path, *, size: int = 32, seed: int = 0, torso: dict[str, Any] | None = None, audio_model: str = "mel_f0", **model: Any
) -> Path:
    """Writes `folder/{dataset,head,torso}`; `model` and `torso` change keys of the networks' `config.model`. Returns the folder."""
    dataset = write_subject(folder / "dataset", size=size, audio_model=audio_model)
    config = tiny_field_config(configs.from_file("head:demo"), dataset)
    config.model.update(model)
    stage = head.HeadStage(config)
    state = stage.init(jax.random.key(seed))
    state["params"] = _stronger(state["params"])
    # All cells inside the masks are occupied.
    state["occupancy"] = {"grid": np.where(np.asarray(state["occupancy"]["grid"]) < 0, -1.0, 1e3).astype(np.float32)}
    checkpoints.save(folder / "head", 1, state, {"config": stage.config})

    config = tiny_field_config(configs.from_file("torso:demo"), dataset)
    config.model.codes = stage.subject.n_train
    config.model.update(torso or {})
    params = Torso.from_config(config.model).init(jax.random.key(seed), jnp.zeros((8, 2)), method=Torso.initialize)["params"]
    checkpoints.save(folder / "torso", 1, {"params": _stronger(params)}, {"config": config})
    return folder


def partial_subject(**fields: Any) -> Subject:
    """A dataset with some of its fields only."""
    subject = object.__new__(Subject)
    for name, value in fields.items():
        object.__setattr__(subject, name, value)
    return subject


def _stronger(params: Any) -> Any:
    """Scales initial parameters up, so that the pictures have contrast."""
    return jax.tree.map(lambda value: 3.0 * np.asarray(value), params)
