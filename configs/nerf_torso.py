"""Vanilla NeRF torso: neck and shoulders in front of a frozen vanilla head (GeneFace's `lm3d_nerf_torso`).

demo: small networks for two CPU cores. reference: the sizes, rays, losses and schedule of the original (400,000 steps; about 36 hours on
an RTX 3090 Ti).

    geneface train --config configs/nerf_torso.py:demo --workdir SUBJECT/nerf_torso --config.data.subject=SUBJECT/dataset \
        --config.data.head=SUBJECT/nerf_head
"""

from base import new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("nerf_torso", variant, {"steps": 400_000, "log_every": 100, "eval_every": 10_000, "save_every": 10_000, "keep": 1})
    config.data = ConfigDict(
        {
            "subject": "",
            # Work folder of the head, and its checkpoint (-1: the newest when training begins).
            "head": "",
            "head_step": -1,
            # Pixels per step, of one frame, and the fraction of them sampled from the lower half.
            "rays": 1600,
            "box_share": 0.95,
            "eval_frames": 10,
            # Size in pixels of the frames rendered in an evaluation; 0: the dataset's.
            "eval_size": 0,
        }
    )
    config.model = ConfigDict(
        {
            "hidden": 256,
            "layers": 8,
            "skip": 4,
            "color_hidden": 128,
            "color_layers": 3,
            "octaves": 10,
            "view_octaves": 4,
            # Added to the initial densities (per meter), so that no field starts empty and without gradient; 0: as in the original.
            "density_start": 0.0,
            "condition_features": 64,
            "condition_frames": 1,
            "condition_window": 8,
        }
    )
    # Near, far and offset are set to the head's when training begins, and `head.fingerprint` to its checksum: a torso fits no other head.
    config.rays = ConfigDict({"samples": 64, "fine_samples": 128, "near": 0.0, "far": 0.0, "offset": 0.5})
    config.head = ConfigDict({"fingerprint": ""})
    config.loss = ConfigDict({"fine": 1.0, "coarse": 1.0})
    config.optimizer = ConfigDict({"lr": 5e-4, "tenth_after": 250_000, "attention": 5.0, "eps": 1e-8})
    config.restart = ConfigDict({"steps": 500, "fall": 0.2, "retries": 3})

    if variant == "demo":
        config.train.update({"steps": 1500, "log_every": 50, "eval_every": 1000, "save_every": 500, "keep": 2})
        config.data.update({"rays": 512, "box_share": 0.8, "eval_frames": 4, "eval_size": 128})
        config.model.update({"hidden": 64, "layers": 5, "skip": 2, "color_hidden": 32, "color_layers": 2, "density_start": 1.0})
        config.rays.update({"samples": 24, "fine_samples": 24})
        config.optimizer.update({"lr": 2e-3, "tenth_after": 1500})
        config.restart.steps = 200
    return config
