"""Head: landmark-conditioned radiance field of one person.

demo: hash grids, 64-wide networks, made for two CPU cores; see the table in the README for what to expect on the avatar and on a real clip.
reference: the sizes of GeneFace's `lm3d_radnerf` (tiled grids, 128-wide networks, 65,536 rays a step, 250,000 steps) with the blink
condition of GeneFace++.

    geneface train --config configs/head.py:demo --workdir SUBJECT/head --config.data.subject=SUBJECT/dataset
"""

import math

from ml_collections import ConfigDict


def _grid(**fields) -> ConfigDict:
    return ConfigDict(
        {"dims": 3, "levels": 16, "features": 2, "base_resolution": 16, "finest_resolution": 2048, "log2_table_size": 16} | fields
    )


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "head"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 250_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "subject": "",
            # A step looks at `groups` frames with `rays` pixels each; the groups are spread over the devices.
            "groups": 8,
            "rays": 8192,
            # Shares of the pixels drawn from the face box, the lip box and the boxes of both eyes; the rest covers the picture.
            "face_share": 0.0,
            "lip_share": 0.0,
            "eye_share": 0.0,
            # Share of the groups drawn from frames with shut eyes, beside those that come up anyway (less where the video has few).
            "shut_share": 0.0,
            "eval_frames": 10,
        }
    )
    config.model = ConfigDict(
        {
            "position_grid": _grid(kind="tiled"),
            "ambient_grid": _grid(kind="tiled", dims=2),
            "hidden": 128,
            "hidden_color": 128,
            "geometry_features": 128,
            "condition_features": 64,
            "condition_window": 5,
            "blink_channels": 4,
            # Appearance codes; set to the number of training frames when the dataset is read.
            "codes": 0,
            "code_features": 4,
            "bound": 1.0,
        }
    )
    config.march = ConfigDict(
        {
            "aabb": (-1.0, -0.5, -1.0, 1.0, 0.5, 1.0),
            "min_near": 0.05,
            # A voxel diagonal of a 128-cell grid: RAD-NeRF's constant step.
            "step": 2.0 * math.sqrt(3.0) / 128,
            "max_angle_degrees": 50.0,
            "max_samples": 16,
            "budget": 16.0,
            "bound": 1.0,
            "grid_resolution": 128,
            "update_every": 16,
            "decay": 0.95,
            "density_threshold": 10.0,
            # Cells further than this in front of the mean landmarks are never visited (scene units; 0.12 = 3 cm). 0 visits them, as the
            # original.
            "front_margin": 0.0,
        }
    )
    config.loss = ConfigDict({"entropy": 1e-4, "ambient": 0.1})
    config.optimizer = ConfigDict({"lr": 5e-4, "final_factor": 0.1, "multipliers": {"table": 10.0, "attention": 5.0}})
    # Decay of the moving average of all parameters, which is what a checkpoint holds; 0 keeps none, as the original.
    config.optimizer.ema = 0.0
    # From step `start` on, every `every`th step looks at a square of `side` pixels about the lips of each frame and adds LPIPS times
    # `weight`, which rises over `ramp` steps; the occupancy grid is left as it is from then on. A weight of 0 leaves all of it out.
    config.lips = ConfigDict({"start": 200_000, "every": 2, "side": 80, "weight": 0.01, "ramp": 5000})
    # LPIPS's network, its weights ("" for the user's cache, see scripts/fetch_lpips.py), and the least side of the patches it is shown
    # (smaller ones are enlarged).
    config.lips.update({"net": "alex", "weights": "", "shown_side": 64})
    # Corrections of the training frames' cameras: rate (0 leaves the tracked ones), first step, weight of their mean square.
    config.pose_refinement = ConfigDict({"lr": 0.0, "start": 0, "weight": 0.1})

    if variant == "demo":
        config.train.update({"steps": 6000, "log_every": 50, "eval_every": 1000, "save_every": 500})
        config.data.update(
            {"groups": 8, "rays": 768, "face_share": 0.5, "lip_share": 0.15, "eye_share": 0.1, "shut_share": 0.125, "eval_frames": 4}
        )
        config.model.update(
            {
                "position_grid": _grid(kind="hash", levels=14, finest_resolution=1024, log2_table_size=15),
                "ambient_grid": _grid(kind="hash", dims=2, levels=8, finest_resolution=256, log2_table_size=12),
                "hidden": 64,
                "hidden_color": 64,
                "geometry_features": 32,
            }
        )
        config.march.update({"max_samples": 12, "budget": 9.0, "grid_resolution": 64, "front_margin": 0.12})
        config.optimizer.update({"lr": 2e-3, "final_factor": 0.05, "multipliers": {"table": 5.0, "attention": 2.0}, "ema": 0.99})
        config.lips.update({"start": 2000, "weight": 0.0, "side": 27, "ramp": 200})
    elif variant != "reference":
        raise ValueError(f'configs/head.py has the variants "demo" and "reference", not {variant!r}')
    return config
