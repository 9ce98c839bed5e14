"""Live speech to motion: a causal network, 0.31 s behind the sound, that imitates the offline networks.

demo: 96 channels, four gated layers; a minute on two idle CPU cores. With more updates or stronger augmentation it follows real voices less
well. `geneface fit` makes a person's in the same way, from the shipped one; see `geneface_jax.live.fit`.
reference: 192 channels.

    python scripts/live_models.py GRID_FOLDER     # the corpora with live features, and this stage on them

Its corpora hold features "whisper_live" and the motion to learn, with faces already as early as they shall be.
"""

from base import augmentation, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("live", variant, {"steps": 20_000, "log_every": 100, "eval_every": 1000, "save_every": 1000, "keep": 2})
    config.data = ConfigDict(
        {
            "corpus": "",
            # A second corpus ("": none), and its share of the training frames that are drawn.
            "extra_corpus": "",
            "extra_share": 0.5,
            # Scale of the network's motion; 0 measures it on the corpus, another value is that of the network a run starts from.
            "scale": 0.0,
            "batch": 64,
            "window": 120,
            "draw": "length",
            "augment": augmentation(enabled=True, feature_noise=0.1, channel_mask=0.1),
        }
    )
    config.eval_video = ConfigDict({"frames": 75, "size": 160})
    config.model = ConfigDict({"motion_dim": 204, "condition": 128, "hidden": 192, "layers": 4, "kernel_size": 5, "delay": 3})
    # `mse_upper`: factor on the squared error of brows, nose and eyes, which speech hardly tells.
    config.loss = ConfigDict({"mse": 1.0, "mse_upper": 0.1, "continuity": 3.0})
    config.optimizer = ConfigDict({"lr": 1e-3, "schedule": "cosine", "warmup": 100, "clip": 1.0})

    if variant == "demo":
        config.train.update({"steps": 1000, "log_every": 50, "eval_every": 250, "save_every": 250})
        config.data.update({"batch": 16, "window": 72})
        config.model.update({"condition": 64, "hidden": 96})
    return config
