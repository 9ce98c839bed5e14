"""Grid sweep: learning rate and width of the demo head, each with three seeds (12 runs of 1,000 updates).

geneface sweep configs/ablations/head_grid.py --out runs/head_grid --config.data.subject=SUBJECT/dataset
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The sweep."""
    config = ConfigDict(convert_dict=False)
    config.base = "head:demo"
    config.overrides = {"train.steps": 1000, "train.eval_every": 0, "train.save_every": 250}
    config.grid = {"optimizer.lr": (1e-3, 2e-3), "model.hidden": (32, 64)}
    config.seeds = (0, 1, 2)
    config.metrics = ("val/psnr_face_box", "val/psnr_lip_box", "tr/mse")
    return config
