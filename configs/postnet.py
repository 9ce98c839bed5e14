"""PostNet GAN: the VAE's landmarks -> one person's.

demo: 32 wide; first fine-tunes its copy of the VAE on the person's own speech, then trains generator and discriminator; about four
minutes on two CPU cores, for videos from about 8 s on.
reference: the networks, losses and rates of GeneFace's `lm3d_postnet_sync` (128 wide, 20,000 updates of which 4,000 to 6,000 are used; the
generator's rate is the 5e-4 that the original really ran at, not the 1e-4 it was configured with), no fine-tuning.

    geneface train --config configs/postnet.py:demo --workdir SUBJECT/postnet --config.data.subject=SUBJECT/dataset \
        --config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet --config.data.audio2motion=MODELS/audio2motion
"""

from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "postnet"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 20_000, "log_every": 100, "eval_every": 1000, "save_every": 1000, "keep": 20})
    config.data = ConfigDict(
        {
            "subject": "",
            "corpus": "",
            "syncnet": "",
            "audio2motion": "",
            # Windows of the corpus and of the person in a step, their length in video frames (a multiple of 4).
            "batch": 128,
            "person_batch": 32,
            "window": 200,
            # Of the VAE's samples that PostNet learns to refine.
            "temperature": 1.0,
            # Corpus clips judged by the expert in an evaluation.
            "eval_clips": 64,
            # See training/audio_augment.py for the units.
            "augment": {
                "enabled": False,
                "gain": 0.1,
                "tilt": 0.15,
                "ripple": 0.1,
                "noise": -1.5,
                "warp": 0.08,
                "pitch": 0.2,
                "f0": 0.3,
                "frequency_mask": 8,
                "time_mask": 4,
                "unvoice": 0.1,
            },
        }
    )
    # The landmark video of a validation: its longest clip in frames (0 = none) and its panels' size in pixels.
    config.eval_video = ConfigDict({"frames": 75, "size": 160})
    config.model = ConfigDict({"base": 128, "dropout": 0.25, "zero_init": False})
    # `mse_upper` weighs the squared error of brows, nose and eyes: speech says little of them, so a large one only keeps them still.
    config.loss = ConfigDict({"mse": 0.05, "mse_upper": 1.0, "adv": 0.85, "sync": 0.1, "sync_clips": 1024})
    # The first `steps` updates train the VAE instead; see the stage.
    config.finetune_audio2motion = ConfigDict({"steps": 0, "loss": {"mse": 1.0, "continuity": 3.0, "kl": 0.4, "sync": 0.0}})
    config.optimizer = ConfigDict(
        {
            "postnet": {"lr": 5e-4, "schedule": "exponential", "warmup": 1000, "clip": 1.0},
            "discriminator": {"lr": 1e-4, "schedule": "constant", "warmup": 0, "clip": 1.0},
            "audio2motion": {"lr": 3e-4, "schedule": "cosine", "warmup": 20, "clip": 1.0},
        }
    )
    # Filled in from the VAE's checkpoint by the stage.
    config.audio2motion = ConfigDict()

    if variant == "demo":
        config.train.update({"steps": 1600, "log_every": 50, "eval_every": 200, "save_every": 200, "keep": 6})
        config.data.update({"batch": 12, "person_batch": 12, "window": 64, "eval_clips": 8})
        config.data.augment.enabled = True
        config.model.update({"base": 32, "zero_init": True})
        config.loss.update({"mse": 1.0, "sync": 0.5, "sync_clips": 64})
        config.finetune_audio2motion.steps = 400
        # Without it the expert finds other voices out of step with a VAE that has listened to one person.
        config.finetune_audio2motion.loss.sync = 0.1
        config.optimizer.postnet.update({"schedule": "cosine", "warmup": 50})
        config.optimizer.discriminator.lr = 2.5e-4
    elif variant != "reference":
        raise ValueError(f'configs/postnet.py has the variants "demo" and "reference", not {variant!r}')
    return config
