"""Torso: 2D deformable field of neck and shoulders under the head.

demo: a few minutes on two CPU cores. reference: the sizes of GeneFace's `lm3d_radnerf_torso`, 250,000 steps.

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
            "groups": 8,
            "rays": 8192,
            # Share of the pixels drawn from the box that holds the torso; the rest covers the picture.
            "torso_share": 0.0,
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
        }
    )
    config.loss = ConfigDict({"entropy": 1e-4})
    config.optimizer = ConfigDict({"lr": 5e-4, "final_factor": 0.1, "multipliers": {"table": 10.0}})

    if variant == "demo":
        config.train.update({"steps": 2000, "log_every": 50, "eval_every": 1000, "save_every": 500})
        config.data.update({"rays": 768, "torso_share": 0.8, "eval_frames": 4})
        config.model.grid.update({"levels": 14, "finest_resolution": 512, "log2_table_size": 14, "kind": "hash"})
        config.optimizer.update({"lr": 2e-3, "final_factor": 0.05, "multipliers": {"table": 5.0}})
    elif variant != "reference":
        raise ValueError(f'configs/torso.py has the variants "demo" and "reference", not {variant!r}')
    return config
