"""Head: landmark-conditioned radiance field of one person.

demo: hash grids and 64-channel networks for two CPU cores; the table in the README has the quality on the avatar and on a real clip.
reference: the sizes of GeneFace's `lm3d_radnerf` (tiled grids, 128-channel networks, 65,536 rays per step, 250,000 steps) with the blink
condition of GeneFace++.

    geneface train --config configs/head.py:demo --workdir SUBJECT/head --config.data.subject=SUBJECT/dataset
"""

import math

from base import grid, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("head", variant, {"steps": 250_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "subject": "",
            # A batch has `groups` frames with `rays` pixels each; the groups are distributed over the devices.
            "groups": 8,
            "rays": 8192,
            # Fractions of the pixels sampled from the face box, the lip box and the boxes of both eyes; the rest covers the image.
            # All 0 as in the original, whose persons may never blink: an `eye_share` of 0.02 and a `shut_share` of 0.125 change that.
            "face_share": 0.0,
            "lip_share": 0.0,
            "eye_share": 0.0,
            # Fraction of the groups sampled only from frames with closed eyes (less if the video has few).
            "shut_share": 0.0,
            "eval_frames": 10,
        }
    )
    config.model = ConfigDict(
        {
            "position_grid": grid(kind="tiled"),
            "ambient_grid": grid(kind="tiled", dims=2),
            "hidden": 128,
            "hidden_color": 128,
            "geometry_features": 128,
            "condition_features": 64,
            "condition_window": 5,
            "blink_channels": 4,
            # Number of appearance codes; set to the number of training frames when the dataset is loaded.
            "codes": 0,
            "code_features": 4,
            "bound": 1.0,
        }
    )
    config.march = ConfigDict(
        {
            "aabb": (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0),
            "min_near": 0.05,
            # Voxel diagonal of a 128-cell grid: RAD-NeRF's constant step.
            "step": 2.0 * math.sqrt(3.0) / 128,
            "max_angle_degrees": 50.0,
            "max_samples": 16,
            "budget": 16.0,
            "bound": 1.0,
            "grid_resolution": 128,
            "update_every": 16,
            "decay": 0.95,
            "density_threshold": 10.0,
            # Cells farther than this in front of the mean landmarks stay empty (scene units; 0.12 = 3 cm). 0 switches this off, as in the
            # original.
            "front_margin": 0.0,
        }
    )
    config.loss = ConfigDict({"entropy": 1e-4, "ambient": 0.1})
    config.optimizer = ConfigDict({"lr": 5e-4, "final_factor": 0.1, "multipliers": {"table": 10.0, "attention": 5.0}})
    # Decay of the exponential moving average of all parameters, which checkpoints hold; 0 switches it off, as in the original.
    config.optimizer.ema = 0.0
    # Lip patch loss: from step `start` on, every `every`th step renders a square of `side` pixels around the lips of each frame and adds
    # LPIPS times `weight`, which rises over `ramp` steps; the occupancy grid is frozen from then on. A weight of 0 switches it off.
    config.lips = ConfigDict({"start": 200_000, "every": 2, "side": 80, "weight": 0.01, "ramp": 5000})
    # LPIPS's network, its weights ("": the user's cache, see scripts/fetch_lpips.py), and its minimum input size (smaller patches are
    # enlarged).
    config.lips.update({"net": "alex", "weights": "", "shown_side": 64})
    # Distortion of the rays, which turns fog into a surface: weight, first step, and steps over which the weight rises, while the random
    # shift of the samples falls to `jitter` steps. A weight of 0 and a jitter of 1 are the original.
    config.distortion = ConfigDict({"weight": 3e-4, "start": 150_000, "ramp": 50_000, "jitter": 0.0})
    # Camera pose refinement of the training frames: learning rate (0: off), first step, weight of the mean squared correction.
    config.pose_refinement = ConfigDict({"lr": 0.0, "start": 0, "weight": 0.1})

    if variant == "demo":
        config.train.update({"steps": 6000, "log_every": 50, "eval_every": 1000, "save_every": 500})
        config.data.update(
            {"groups": 8, "rays": 768, "face_share": 0.5, "lip_share": 0.15, "eye_share": 0.1, "shut_share": 0.125, "eval_frames": 4}
        )
        config.model.update(
            {
                "position_grid": grid(kind="hash", levels=14, finest_resolution=1024, log2_table_size=15),
                "ambient_grid": grid(kind="hash", dims=2, levels=8, finest_resolution=256, log2_table_size=12),
                "hidden": 64,
                "hidden_color": 64,
                "geometry_features": 32,
            }
        )
        config.march.update({"max_samples": 12, "budget": 9.0, "grid_resolution": 64, "front_margin": 0.12})
        config.optimizer.update({"lr": 2e-3, "final_factor": 0.05, "multipliers": {"table": 5.0, "attention": 2.0}, "ema": 0.99})
        config.distortion.update({"weight": 6e-4, "start": 3000, "ramp": 1500})
        config.lips.update({"start": 2000, "weight": 0.0, "side": 27, "ramp": 200})
    return config
