"""Torso for super-resolution: neck and shoulders at half the dataset's size, upsampled by the frozen network of `head_sr`.

demo: 128 -> 256, a few minutes on two CPU cores. reference: GeneFace++'s `lm3d_radnerf_torso_sr`: 256 -> 512, deformed by seven landmarks
of the jaw, with the head as input, one complete frame per step, 250,000 steps.

    geneface train --config configs/torso_sr.py:demo --workdir SUBJECT/torso_sr --config.data.subject=SUBJECT/dataset
"""

from base import VARIANTS
from ml_collections import ConfigDict
from torso import get_config as torso_config


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/torso_sr.py has the variants "demo" and "reference", not {variant!r}')
    config = torso_config(variant)
    config.stage = "torso_sr"
    # `groups`: complete frames per step. `head`: work folder of the trained head_sr; "": head_sr/ next to the dataset.
    config.data = ConfigDict({"subject": "", "head": "", "groups": 1, "eval_frames": 10})
    config.model.update({"condition": "jaw", "head_aware": True})
    # small, large: torso over background against the true one, before and after super-resolution; composite: head over torso against the
    # frame at the small size, where there is torso. Perceptual terms as in configs/head_sr.py, without the one of the lips: the original's
    # 0.0005 and 0.0005, times 6 and 3.
    config.loss = ConfigDict({"small_mse": 1.0, "large_mse": 1.0, "composite": 0.0, "entropy": 1e-4})
    config.loss.update({"perceptual_start": 200_000, "perceptual_ramp": 5000})
    config.loss.update({"perceptual_small": 0.003, "perceptual_large": 0.0015, "perceptual_lips": 0.0})
    config.perceptual = ConfigDict({"net": "vgg", "weights": ""})

    if variant == "demo":
        config.train.update({"steps": 1000, "log_every": 50, "eval_every": 500, "save_every": 250})
        config.data.eval_frames = 4
        config.model.update({"condition": "pose", "head_aware": False})
        config.loss.update({"perceptual_small": 0.0, "perceptual_large": 0.0})
    return config
