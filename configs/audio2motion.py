"""audio2motion VAE: speech of any speaker -> 68 landmarks.

demo: 96 channels, input from both audio frames of a video frame, for a small corpus with strong audio augmentation. On the avatar corpus
and checkpoints/grid, half of the frames from each, 1,200 updates take a minute and a half on two idle CPU cores. More updates still lower
the error on held-out drawn speakers, but lips follow real people less.
The weights in checkpoints/ are of this config.
reference: the network, losses and schedule of GeneFace's `lm3d_vae_sync` (256 channels, 11 million parameters, 40,000 updates), for a
large corpus. The original's batches have at most 60,000 audio frames of complete clips; 128 windows of 200 video frames have about as many,
and are drawn so that every clip's frames are seen equally often, as there.

    geneface train --config configs/audio2motion.py:demo --workdir MODELS/audio2motion \
        --config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet
"""

from base import augmentation, new_config
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = new_config("audio2motion", variant, {"steps": 40_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "corpus": "",
            # A second corpus ("": none), such as real speakers beside drawn ones, and its share of the training frames that are drawn.
            "extra_corpus": "",
            "extra_share": 0.5,
            # Frames by which faces are moved earlier against their sound.
            "lead": 0,
            "syncnet": "",
            # Subtract each speaker's mean face ("speaker"), or use the landmarks unchanged ("none"). Must match the SyncNet's.
            "center": "none",
            "batch": 128,
            # Video frames, a multiple of 4.
            "window": 200,
            # Which windows are drawn. "length": a clip in proportion to its length. "starts": every possible start, which short clips
            # hardly have; runs that began with version 0.1.0 keep it.
            "draw": "length",
            "augment": augmentation(),
        }
    )
    # Landmark video of a validation: maximum clip length in frames (0: no video) and panel size in pixels.
    config.eval_video = ConfigDict({"frames": 75, "size": 160})
    config.model = ConfigDict(
        {
            "motion_dim": 204,
            "condition": 64,
            "hidden": 256,
            "kernel_size": 5,
            "encoder_layers": 8,
            "decoder_layers": 4,
            "latent": 16,
            "flow_blocks": 4,
            "flow_hidden": 64,
            "flow_layers": 4,
            "flow_kernel_size": 3,
            "pairing": "even",
            # Conditions besides the audio: none here, see configs/audio2motion_pitch.py.
            "pitch": 0,
            "blink": False,
            "mouth_amp": False,
            "eye_amp": False,
        }
    )
    # The sync loss is switched on once its running mean falls to `sync_gate`; it uses `sync_clips` clips per step.
    # `mse_upper`: factor on the squared error of brows, nose and eyes, which speech hardly tells.
    config.loss = ConfigDict(
        {"mse": 1.0, "mse_upper": 1.0, "continuity": 3.0, "kl": 0.4, "sync": 0.01, "sync_gate": 0.75, "sync_clips": 1024}
    )
    config.optimizer = ConfigDict({"lr": 5e-4, "schedule": "exponential", "warmup": 1000, "clip": 1.0})

    if variant == "demo":
        config.train.update({"steps": 1200, "log_every": 50, "eval_every": 400, "save_every": 400})
        config.data.update({"center": "speaker", "batch": 16, "window": 72})
        config.data.augment.enabled = True
        config.model.update(
            {"hidden": 96, "encoder_layers": 4, "decoder_layers": 4, "flow_hidden": 32, "flow_layers": 2, "pairing": "stack"}
        )
        # Few talkers are learnt by heart through their brows and eyes, and through latents that know the motion: less of both.
        config.loss.update({"mse_upper": 0.1, "kl": 1.0, "sync": 0.15, "sync_clips": 64})
        config.optimizer.update({"lr": 1e-3, "schedule": "cosine", "warmup": 100})
    return config
