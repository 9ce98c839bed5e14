"""Whole checkpoints of the original vanilla NeRF (head, torso) -> our work folders."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from geneface_jax.convert import hparams, nerf
from geneface_jax.convert.imported import Imported
from geneface_jax.convert.match import match
from geneface_jax.convert.speech_checkpoint import KIND
from geneface_jax.convert.torch_checkpoint import TorchCheckpoint, number
from geneface_jax.data.compatibility import record_kind
from geneface_jax.io import configs
from geneface_jax.models.build import build_nerf_head, build_nerf_torso

DEEPSPEECH = 29
"""Channels of the audio features that the original torso hears."""

_MARK = "model_coarse.density_linears.0.weight"


def is_nerf(network: Mapping[str, np.ndarray]) -> bool:
    """Whether a state_dict is that of a vanilla NeRF."""
    return _MARK in network


def import_nerf(checkpoint: TorchCheckpoint) -> Imported:
    """Converts a vanilla head or torso.

    Raises:
      InputError: keys that are unknown, missing or mis-shaped (all of them are named).
    """
    weights = checkpoint.networks["model"]
    torso = any(key.startswith("aud_net.") for key in weights)
    stage = "nerf_torso" if torso else "nerf_head"
    config = configs.load(f"{stage}:reference")
    with config.unlocked():
        record_kind(config, KIND)
        config.model.update(nerf.sizes(weights))
        # The original's rays go through the pixels' corners, between depths that its config.yaml states; these are its own defaults.
        config.rays.update({"offset": 0.0, "near": 0.3, "far": 0.9})
        for theirs, ours in (
            ("near", "near"),
            ("far", "far"),
            ("n_samples_per_ray", "samples"),
            ("n_samples_per_ray_fine", "fine_samples"),
        ):
            value = number(checkpoint.hparams, theirs)
            if value is not None:
                config.rays[ours] = type(config.rays[ours])(value)
        without_attention = number(checkpoint.hparams, "no_smo_iterations")
        if not torso and without_attention is not None:
            config.model.attention_from = int(without_attention)
        hparams.apply(config, checkpoint)
    build, convert = (build_nerf_torso, nerf.torso) if torso else (build_nerf_head, nerf.head)
    model = config.model
    inner = (DEEPSPEECH,) if torso else (204,)
    frames = (model.condition_frames,) if model.condition_frames > 1 else ()
    window = jnp.zeros((model.condition_window, *frames, *inner))
    network = build(model)
    expected = jax.eval_shape(lambda: network.init(jax.random.key(0), window, method="initialise"))
    variables, problems = match(weights, convert, expected)
    if problems:
        what = "vanilla NeRF torso" if torso else "vanilla NeRF head"
        raise InputError(f"{checkpoint.path} does not fit our {what}, so nothing was imported: {'; '.join(problems)}.")
    notes = list(hparams.notes(checkpoint))
    if torso:
        notes.append("it hears DeepSpeech features, which are not computed here: it can be read and compared, but not driven by sound.")
    title = "vanilla NeRF torso" if torso else "vanilla NeRF head"
    return Imported(title, stage, checkpoint.step, config, {"params": variables["params"]}, tuple(notes))
