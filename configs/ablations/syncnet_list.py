"""Ablation of SyncNet's training recipe: each part removed from the demo config, with three seeds (12 runs of 1,000 updates).

geneface sweep configs/ablations/syncnet_list.py --out runs/syncnet --config.data.corpus=CORPUS
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The sweep."""
    config = ConfigDict(convert_dict=False)
    config.base = "syncnet:demo"
    config.overrides = {"train.steps": 1000, "train.eval_every": 0, "train.save_every": 250}
    config.runs = {
        "demo": {},
        "no_augmentation": {"data.augment.enabled": False},
        "no_centring": {"data.center": "none"},
        "small_batches": {"data.batch": 64},
    }
    config.seeds = (0, 1, 2)
    config.metrics = ("val/auc", "val/auc_clip", "val/sync_loss")
    return config
