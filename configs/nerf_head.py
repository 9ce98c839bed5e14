"""Vanilla NeRF head: a coarse and a fine network without a grid (GeneFace's `lm3d_nerf`). Slow; for research and old checkpoints.

demo: small networks for two CPU cores; docs/vanilla-nerf.md has the quality.
reference: the sizes, rays, losses and schedule of the original (400,000 steps; about 30 hours on an RTX 3090 Ti).

    geneface train --config configs/nerf_head.py:demo --workdir SUBJECT/nerf_head --config.data.subject=SUBJECT/dataset
"""

from base import new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("nerf_head", variant, {"steps": 400_000, "log_every": 100, "eval_every": 10_000, "save_every": 10_000, "keep": 1})
    config.data = ConfigDict(
        {
            "subject": "",
            # Pixels per step, of one frame, and the fraction of them sampled from the face box.
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
            # Frames per input of the encoder, and frames weighted by the attention from step `attention_from` on; before it only the middle
            # one is used.
            "condition_frames": 1,
            "condition_window": 5,
            "attention_from": 200_000,
        }
    )
    config.rays = ConfigDict(
        {
            "samples": 64,
            "fine_samples": 128,
            # Near and far plane in meters. 0: the cameras' mean distance from the head minus and plus `reach`.
            "near": 0.0,
            "far": 0.0,
            "reach": 0.3,
            # 0.5: rays go through pixel centers; 0: as in the original.
            "offset": 0.5,
        }
    )
    config.loss = ConfigDict({"fine": 1.0, "coarse": 1.0})
    # The learning rate falls to a tenth every `tenth_after` steps.
    config.optimizer = ConfigDict({"lr": 5e-4, "tenth_after": 250_000, "attention": 5.0, "eps": 1e-8})
    # If the loss has not fallen by the fraction `fall` after `steps` steps, training restarts with another seed, up to `retries` times.
    # 0 steps: never.
    config.restart = ConfigDict({"steps": 500, "fall": 0.2, "retries": 3})

    if variant == "demo":
        config.train.update({"steps": 2000, "log_every": 50, "eval_every": 1000, "save_every": 500, "keep": 2})
        config.data.update({"rays": 512, "box_share": 0.7, "eval_frames": 4, "eval_size": 128})
        config.model.update(
            {"hidden": 64, "layers": 5, "skip": 2, "color_hidden": 32, "color_layers": 2, "density_start": 1.0, "attention_from": 1000}
        )
        config.rays.update({"samples": 24, "fine_samples": 24, "reach": 0.2})
        config.optimizer.update({"lr": 2e-3, "tenth_after": 2000})
        config.restart.steps = 200
    return config
