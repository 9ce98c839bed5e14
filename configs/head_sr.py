"""Head with super-resolution: a field rendered at half the dataset's size, and a network that doubles the resolution.

demo: 128 -> 256 with small networks for two CPU cores; initialized from a head trained at full size (`data.head`).
reference: GeneFace++'s `lm3d_radnerf_sr`: 256 -> 512, one complete frame per step, 250,000 steps, LPIPS from step 200,000 on.

The original's weights of the perceptual terms (0.001, 0.0005, 0.0005) belong to an L1 of VGG19 and VGGFace features, which pulls harder
than LPIPS. `reference` multiplies them by 6, 3 and 4 (small, large, lips), so that the gradient of each term at the picture is as long as
the original's. Measured on three faces of 512 pixels, blurred or half a pixel off by errors of 1e-4 to 7e-4, with VGG16 in the place of
both networks, whose weights are not available: the original's loss has a gradient 4.5 to 9, 2.8 to 3.3 and 3 to 6 times as long.

    geneface train --config configs/head_sr.py:demo --workdir SUBJECT/head_sr --config.data.subject=SUBJECT/dataset \\
        --config.data.head=SUBJECT/head
"""

from base import VARIANTS
from head import get_config as head_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/head_sr.py has the variants "demo" and "reference", not {variant!r}')
    config = head_config(variant)
    config.stage = "head_sr"
    # `groups`: complete frames per step. `head`: work folder of a trained head with the same network sizes to initialize from, "": none.
    config.data = ConfigDict({"subject": "", "head": "", "groups": 1, "eval_frames": 10})
    # Landmark window and blink channels of GeneFace++ (`smo_win_size` 3, `eye_blink_dim` 2).
    config.model.update({"condition_window": 3, "blink_channels": 2})
    config.model.ambient_grid.dims = 3
    # Mean samples per ray of a complete frame; most rays miss the head.
    config.march.budget = 8.0
    config.super_resolution = ConfigDict({"size": 256, "features": (128, 64)})
    # Noise during training as in the original (never at inference, where it flickers). `start_plain`: initialize as plain upsampling.
    config.noise = True
    config.start_plain = False
    # The ambient weight changes by `ambient_rate` times the decades between the loss and `ambient_target`. From `perceptual_start` on,
    # LPIPS of the small image, of the large one and of its lips is added, with weights that rise over `perceptual_ramp` steps.
    config.loss = ConfigDict({"entropy": 1e-4, "ambient": 1.0, "ambient_target": 1e-8, "ambient_rate": 0.01, "ambient_most": 1000.0})
    config.loss.update({"small_mse": 1.0, "large_mse": 1.0, "perceptual_start": 200_000, "perceptual_ramp": 5000})
    config.loss.update({"perceptual_small": 0.006, "perceptual_large": 0.0015, "perceptual_lips": 0.002})
    config.perceptual = ConfigDict({"net": "vgg", "weights": "", "lip_side": 128})
    del config.lips

    if variant == "demo":
        config.train.update({"steps": 1000, "log_every": 50, "eval_every": 500, "save_every": 250})
        config.data.eval_frames = 4
        # As in configs/head.py:demo, with which `data.head` was trained.
        config.model.update({"condition_window": 5, "blink_channels": 4})
        config.model.ambient_grid.dims = 2
        config.march.budget = 6.0
        config.super_resolution.update({"size": 128, "features": (32, 16)})
        config.noise, config.start_plain = False, True
        config.loss.update({"ambient": 0.1, "ambient_rate": 0.0})
        config.loss.update({"perceptual_small": 0.0, "perceptual_large": 0.0, "perceptual_lips": 0.0})
        config.distortion.update({"start": 200, "ramp": 100})
        # The head is already trained, the super-resolution network is not.
        config.optimizer.lr = 5e-4
        config.optimizer.multipliers.super_resolution = 10.0
        config.perceptual.update({"net": "alex", "lip_side": 64})
    return config
