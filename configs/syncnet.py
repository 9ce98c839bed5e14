"""SyncNet: scores whether mouth landmarks and audio are in sync.

demo: 32 channels, for a small corpus, with strong audio augmentation. On the avatar corpus (16 speakers and 21 minutes for training, 2
speakers held out) and checkpoints/grid (18 and 4 talkers) after 4,000 updates, about three minutes on two idle CPU cores: auc_clip 0.976
on single 0.2 s clips of drawn and 0.873 of real talkers, auc 1.00 and 0.964 on voiced one-second windows.
reference: the network and schedule of GeneFace's `lm3d_syncnet` (128 channels, 1,024 clip pairs per step, 40,000 updates, cosine
schedule), for a large corpus.

    geneface train --config configs/syncnet.py:demo --workdir MODELS/syncnet --config.data.corpus=CORPUS
"""

from base import augmentation, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("syncnet", variant, {"steps": 40_000, "log_every": 100, "eval_every": 1000, "save_every": 1000, "keep": 2})
    config.data = ConfigDict(
        {
            "corpus": "",
            # A second corpus ("": none), such as real speakers beside drawn ones, and its share of the training frames that are drawn.
            "extra_corpus": "",
            "extra_share": 0.5,
            # Frames by which faces are moved earlier against their sound.
            "lead": 0,
            # Subtract each speaker's mean face ("speaker"), or use the landmarks unchanged ("none").
            "center": "none",
            "batch": 1024,
            "eval_clips": 20_000,
            "augment": augmentation(time_mask=2),
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
    return config
