"""Vanilla NeRF head: a coarse and a fine network without a grid (GeneFace's `lm3d_nerf`). Slow; for research and for old checkpoints.

demo: small networks for two CPU cores, see docs/vanilla-nerf.md for what to expect.
reference: the sizes, rays, losses and schedule of the original (400,000 steps; it took about 30 hours on an RTX 3090 Ti).

    geneface train --config configs/nerf_head.py:demo --workdir SUBJECT/nerf_head --config.data.subject=SUBJECT/dataset
"""

from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "nerf_head"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 400_000, "log_every": 100, "eval_every": 10_000, "save_every": 10_000, "keep": 1})
    config.data = ConfigDict(
        {
            "subject": "",
            # Pixels of the one frame that a step looks at, and the share of them drawn from the face box.
            "rays": 1600,
            "box_share": 0.95,
            "eval_frames": 10,
            # Pixels per side of the frames an evaluation renders; 0 for the dataset's.
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
            # Added to the first densities (per metre), so that no field begins empty and without a gradient; 0: as in the original.
            "density_start": 0.0,
            "condition_features": 64,
            # Frames one encoder sees at once, and frames that the attention weighs from step `attention_from` on; until then the middle
            # one counts alone.
            "condition_frames": 1,
            "condition_window": 5,
            "attention_from": 200_000,
        }
    )
    config.rays = ConfigDict(
        {
            "samples": 64,
            "fine_samples": 128,
            # Depths in metres between which the samples lie. 0: the cameras' mean distance from the head, `reach` nearer and farther.
            "near": 0.0,
            "far": 0.0,
            "reach": 0.3,
            # 0.5: rays go through pixel centres; 0: as in the original.
            "offset": 0.5,
        }
    )
    config.loss = ConfigDict({"fine": 1.0, "coarse": 1.0})
    # The rate falls to a tenth every `tenth_after` steps.
    config.optimizer = ConfigDict({"lr": 5e-4, "tenth_after": 250_000, "attention": 5.0, "eps": 1e-8})
    # A start whose loss has not fallen by `fall` after so many steps is dead and is made again with another seed, up to `retries` times.
    # 0 steps: no start is given up.
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
    elif variant != "reference":
        raise ValueError(f'configs/nerf_head.py has the variants "demo" and "reference", not {variant!r}')
    return config
