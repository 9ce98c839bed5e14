"""SyncNet: does this mouth belong to this sound?

demo: 32 wide, on a small corpus of synthetic voices, with strong audio augmentation so that it also hears real ones. On the avatar corpus
(16 speakers and 21 minutes train, 2 speakers are held out) after 4,000 updates, about five minutes on two CPU cores: val/auc_clip 0.977 on
single 0.2 s clips, val/auc 1.00 on voiced one-second windows. reference: the network and schedule of GeneFace's `lm3d_syncnet` (128 wide,
1,024 clip pairs a step, 40,000 updates, cosine schedule), for a large corpus.

    geneface train --config configs/syncnet.py:demo --workdir MODELS/syncnet --config.data.corpus=CORPUS
"""

from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "syncnet"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 40_000, "log_every": 100, "eval_every": 1000, "save_every": 1000, "keep": 2})
    config.data = ConfigDict(
        {
            "corpus": "",
            # Subtract each speaker's mean face ("speaker"), or take the landmarks as they are ("none").
            "center": "none",
            "batch": 1024,
            "eval_clips": 20_000,
            # See training/audio_augment.py for the units.
            "augment": {
                "enabled": False,
                "gain": 0.15,
                "tilt": 0.3,
                "ripple": 0.25,
                "noise": -0.9,
                "warp": 0.15,
                "pitch": 0.3,
                "frequency_mask": 12,
                "time_mask": 2,
                "unvoice": 0.1,
            },
        }
    )
    config.model = ConfigDict({"base": 128})
    config.optimizer = ConfigDict({"lr": 5e-4, "schedule": "cosine", "warmup": 0, "clip": 1.0})

    if variant == "demo":
        config.train.update({"steps": 4000, "log_every": 50, "eval_every": 500, "save_every": 500})
        config.data.update({"center": "speaker", "batch": 256, "eval_clips": 2000})
        config.data.augment.enabled = True
        config.model.base = 32
        config.optimizer.update({"lr": 1e-3, "warmup": 100})
    elif variant != "reference":
        raise ValueError(f'configs/syncnet.py has the variants "demo" and "reference", not {variant!r}')
    return config
