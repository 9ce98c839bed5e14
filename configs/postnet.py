"""PostNet GAN: maps the VAE's landmarks to one person's.

demo: 32 channels; first fine-tunes a copy of the VAE on the person's speech, then trains generator and discriminator; about four minutes
on two CPU cores, for videos of at least about 8 s.
reference: the networks, losses and learning rates of GeneFace's `lm3d_postnet_sync` (128 channels, 20,000 updates of which 4,000 to 6,000
are used; the generator's rate is the original's effective 5e-4, not its configured 1e-4), without fine-tuning.

    geneface train --config configs/postnet.py:demo --workdir SUBJECT/postnet --config.data.subject=SUBJECT/dataset \
        --config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet --config.data.audio2motion=MODELS/audio2motion
"""

from base import augmentation, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("postnet", variant, {"steps": 20_000, "log_every": 100, "eval_every": 1000, "save_every": 1000, "keep": 20})
    config.data = ConfigDict(
        {
            "subject": "",
            "corpus": "",
            # A second corpus ("": none), such as real speakers beside drawn ones, and its share of the training frames that are drawn.
            "extra_corpus": "",
            "extra_share": 0.5,
            "syncnet": "",
            "audio2motion": "",
            # Windows of the corpus and of the person per step, and their length in video frames (a multiple of 4).
            "batch": 128,
            "person_batch": 32,
            "window": 200,
            # As in configs/audio2motion.py.
            "draw": "length",
            # Move the corpus to the timing of the person's video, which the lips then keep, by the SyncNet.
            "align": True,
            # Sampling temperature of the VAE.
            "temperature": 1.0,
            # Corpus clips scored by the SyncNet expert in an evaluation.
            "eval_clips": 64,
            "augment": augmentation(
                gain=0.1,
                tilt=0.15,
                ripple=0.1,
                noise=-1.5,
                warp=0.08,
                pitch=0.2,
                f0=0.3,
                frequency_mask=8,
                time_mask=4,
                feature_noise=0.15,
                channel_mask=0.1,
            ),
        }
    )
    # Landmark video of a validation: maximum clip length in frames (0: no video) and panel size in pixels.
    config.eval_video = ConfigDict({"frames": 75, "size": 160})
    config.model = ConfigDict({"base": 128, "dropout": 0.25, "zero_init": False})
    # `mse_upper`: factor on the squared error of brows, nose and eyes; they correlate little with speech, so a large one freezes them.
    config.loss = ConfigDict({"mse": 0.05, "mse_upper": 1.0, "adv": 0.85, "sync": 0.1, "sync_clips": 1024})
    # The first `steps` updates fine-tune the VAE instead.
    config.finetune_audio2motion = ConfigDict({"steps": 0, "loss": {"mse": 1.0, "continuity": 3.0, "kl": 0.4, "sync": 0.0}})
    config.optimizer = ConfigDict(
        {
            "postnet": {"lr": 5e-4, "schedule": "exponential", "warmup": 1000, "clip": 1.0},
            "discriminator": {"lr": 1e-4, "schedule": "constant", "warmup": 0, "clip": 1.0},
            "audio2motion": {"lr": 3e-4, "schedule": "cosine", "warmup": 20, "clip": 1.0},
        }
    )
    # Set by the stage from the VAE's checkpoint.
    config.audio2motion = ConfigDict()

    if variant == "demo":
        config.train.update({"steps": 2000, "log_every": 50, "eval_every": 200, "save_every": 200, "keep": 6})
        config.data.update({"batch": 12, "person_batch": 12, "window": 64, "eval_clips": 8})
        config.data.augment.enabled = True
        config.model.update({"base": 32, "zero_init": True})
        config.loss.update({"mse": 1.0, "sync": 0.5, "sync_clips": 64})
        config.finetune_audio2motion.steps = 800
        # Without it the VAE fine-tuned on one person is out of sync for other voices.
        config.finetune_audio2motion.loss.sync = 0.1
        config.optimizer.postnet.update({"schedule": "cosine", "warmup": 50})
        config.optimizer.discriminator.lr = 2.5e-4
    return config
