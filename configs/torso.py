"""Torso: 2D deformable field of neck and shoulders under the head.

demo: a few minutes on two CPU cores; needs a trained head for the composite loss. reference: the sizes and the loss of GeneFace's
`lm3d_radnerf_torso`, 250,000 steps. docs/torso.md has the effect of each option.

    geneface train --config configs/torso.py:demo --workdir SUBJECT/torso --config.data.subject=SUBJECT/dataset
"""

from base import grid, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("torso", variant, {"steps": 250_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "subject": "",
            # The head's work folder, for losses and conditions that need it; "": head/ next to the dataset.
            "head": "",
            "groups": 8,
            "rays": 8192,
            # Fraction of the pixels sampled from the torso's bounding box; the rest covers the image.
            "torso_share": 0.0,
            # Fraction sampled from the box around the border between head and torso.
            "neck_share": 0.0,
            "eval_frames": 10,
        }
    )
    config.model = ConfigDict(
        {
            "grid": grid(dims=2, kind="tiled"),
            # Number of per-frame codes; set to the number of training frames when the dataset is loaded.
            "codes": 0,
            "code_features": 8,
            "hidden_deform": 64,
            "hidden": 32,
            "shrink": 0.8,
            # Input of the deformation: "pose" (of the head's camera) or "jaw" (seven landmarks, as in GeneFace++).
            "condition": "pose",
            # Whether the head's color and opacity at each pixel are inputs of the networks.
            "head_aware": False,
        }
    )
    # torso: against the torso image; hidden: factor on it behind the head, where the torso image is inpainted; opacity: against the torso
    # image's alpha; composite: head over torso against the frame, where there is torso. The original's `torso_train_mode: 1` is `torso`
    # alone.
    config.loss = ConfigDict({"torso": 1.0, "hidden": 1.0, "opacity": 0.0, "composite": 0.0, "entropy": 1e-4})
    config.optimizer = ConfigDict({"lr": 5e-4, "final_factor": 0.1, "multipliers": {"table": 10.0}})

    if variant == "demo":
        config.train.update({"steps": 2000, "log_every": 50, "eval_every": 1000, "save_every": 500})
        config.data.update({"rays": 768, "torso_share": 0.65, "neck_share": 0.15, "eval_frames": 4})
        config.loss.update({"composite": 1.0, "hidden": 0.2, "opacity": 0.1})
        config.model.grid.update({"levels": 14, "finest_resolution": 512, "log2_table_size": 14, "kind": "hash"})
        config.optimizer.update({"lr": 2e-3, "final_factor": 0.05, "multipliers": {"table": 5.0}})
    return config
