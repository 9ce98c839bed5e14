"""Head with super-resolution: a field rendered whole at half the dataset's size, and a network that doubles the picture.

demo: 128 -> 256 in small networks, for two CPU cores; it goes on from a head that was trained at full size (`data.head`).
reference: GeneFace++'s `lm3d_radnerf_sr`: 256 -> 512, one whole frame a step, 250,000 steps, LPIPS from step 200,000 on.

    geneface train --config configs/head_sr.py:demo --workdir SUBJECT/head_sr --config.data.subject=SUBJECT/dataset \\
        --config.data.head=SUBJECT/head
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict


def _head_config(variant: str) -> ConfigDict:
    """The config beside this one: a config file is loaded by its path, so it can't be imported by a package's name."""
    spec = importlib.util.spec_from_file_location("geneface_config_head", Path(__file__).with_name("head.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant)


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    if variant not in ("demo", "reference"):
        raise ValueError(f'configs/head_sr.py has the variants "demo" and "reference", not {variant!r}')
    config = _head_config(variant)
    config.stage = "head_sr"
    # `groups` whole frames a step. `head`: work folder of a trained head of the same sizes to begin with, "" for none.
    config.data = ConfigDict({"subject": "", "head": "", "groups": 1, "eval_frames": 10})
    # The landmarks' window and the blink's share of GeneFace++ (`smo_win_size` 3, `eye_blink_dim` 2).
    config.model.update({"condition_window": 3, "blink_channels": 2})
    config.model.ambient_grid.dims = 3
    # Mean samples a ray of a whole frame may use; most rays miss the head.
    config.march.budget = 8.0
    config.super_resolution = ConfigDict({"size": 256, "features": (128, 64)})
    # Noise in training as the original has it (never at inference, where it flickers); whether the network begins as a plain enlargement.
    config.noise = True
    config.start_plain = False
    # The ambient weight moves by `ambient_rate` times the decades between the loss and `ambient_target`; from `perceptual_start` on LPIPS
    # of the small picture, of the large one and of its lips are added, all of it rising over `perceptual_ramp` steps.
    config.loss = ConfigDict({"entropy": 1e-4, "ambient": 1.0, "ambient_target": 1e-8, "ambient_rate": 0.01, "ambient_most": 1000.0})
    config.loss.update({"small_mse": 1.0, "large_mse": 1.0, "perceptual_start": 200_000, "perceptual_ramp": 5000})
    config.loss.update({"perceptual_small": 0.001, "perceptual_large": 0.0005, "perceptual_lips": 0.0005})
    config.perceptual = ConfigDict({"net": "vgg", "weights": "", "lip_side": 128})
    del config.lips

    if variant == "demo":
        config.train.update({"steps": 1000, "log_every": 50, "eval_every": 500, "save_every": 250})
        config.data.eval_frames = 4
        # What `data.head` was trained with, configs/head.py:demo.
        config.model.update({"condition_window": 5, "blink_channels": 4})
        config.model.ambient_grid.dims = 2
        config.march.budget = 6.0
        config.super_resolution.update({"size": 128, "features": (32, 16)})
        config.noise, config.start_plain = False, True
        config.loss.update({"ambient": 0.1, "ambient_rate": 0.0})
        config.loss.update({"perceptual_small": 0.0, "perceptual_large": 0.0, "perceptual_lips": 0.0})
        # The head is trained already, the network that doubles begins.
        config.optimizer.lr = 5e-4
        config.optimizer.multipliers.super_resolution = 10.0
        config.perceptual.update({"net": "alex", "lip_side": 64})
    return config
