"""Torso: 2D deformable field of neck and shoulders under the head.

demo: a few minutes on two CPU cores, after the head, over which the composite is judged. reference: the sizes and the loss of GeneFace's
`lm3d_radnerf_torso`, 250,000 steps. docs/torso.md says what each switch brought.

    geneface train --config configs/torso.py:demo --workdir SUBJECT/torso --config.data.subject=SUBJECT/dataset
"""

from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "torso"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 250_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "subject": "",
            # The head's work folder, for a torso that looks at it; "" is head/ beside the dataset.
            "head": "",
            "groups": 8,
            "rays": 8192,
            # Share of the pixels drawn from the box that holds the torso; the rest covers the picture.
            "torso_share": 0.0,
            # Share drawn from the box around the border between head and torso.
            "neck_share": 0.0,
            "eval_frames": 10,
        }
    )
    config.model = ConfigDict(
        {
            "grid": {
                "dims": 2,
                "levels": 16,
                "features": 2,
                "base_resolution": 16,
                "finest_resolution": 2048,
                "log2_table_size": 16,
                "kind": "tiled",
            },
            # Per-frame codes; set to the number of training frames when the dataset is read.
            "codes": 0,
            "code_features": 8,
            "hidden_deform": 64,
            "hidden": 32,
            "shrink": 0.8,
            # What bends the torso: "pose" (of the head's camera) or "jaw" (seven landmarks, as GeneFace++).
            "condition": "pose",
            # Whether the networks see the head's colour and opacity in front of each pixel.
            "head_aware": False,
        }
    )
    # torso: against the torso's own picture; hidden: how much that counts behind the head, where it was painted on (1 as anywhere);
    # opacity: against the picture's; composite: head over torso against the frame, where there is torso. The original's
    # `torso_train_mode: 1` is the first alone.
    config.loss = ConfigDict({"torso": 1.0, "hidden": 1.0, "opacity": 0.0, "composite": 0.0, "entropy": 1e-4})
    config.optimizer = ConfigDict({"lr": 5e-4, "final_factor": 0.1, "multipliers": {"table": 10.0}})

    if variant == "demo":
        config.train.update({"steps": 2000, "log_every": 50, "eval_every": 1000, "save_every": 500})
        config.data.update({"rays": 768, "torso_share": 0.65, "neck_share": 0.15, "eval_frames": 4})
        config.loss.update({"composite": 1.0, "hidden": 0.2, "opacity": 0.1})
        config.model.grid.update({"levels": 14, "finest_resolution": 512, "log2_table_size": 14, "kind": "hash"})
        config.optimizer.update({"lr": 2e-3, "final_factor": 0.05, "multipliers": {"table": 5.0}})
    elif variant != "reference":
        raise ValueError(f'configs/torso.py has the variants "demo" and "reference", not {variant!r}')
    return config
