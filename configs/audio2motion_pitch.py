"""Pitch-aware audio2motion VAE: speech, its pitch, blinks and the mouth's amplitude -> 68 landmarks (GeneFace++).

The stage, losses and schedule of configs/audio2motion.py with the network of GeneFace++'s `PitchContourVAEModel`: f0 in 255 bins, whether
the eyes blink, and how far the mouth opens, so that `--mouth-amp` is the network's own matter instead of a scaling afterwards. PostNet and
inference take either VAE.
demo: 96 wide, on synthetic voices with strong audio augmentation. On the avatar corpus (21 minutes of 16 speakers) after 4,000 updates, six
minutes on two idle CPU cores, on two held-out speakers: val/lmd_ratio 0.46 (mouth error relative to no motion), val/mouth_correlation 0.90.
reference: the published sizes (128 wide conditions, 12 million parameters) for a large corpus; `model.motion_dim` stays 204, for landmarks
(GeneFace++'s 64 are coefficients of the Basel face model). `model.eye_amp=true` adds the amplitude of the lids.

    geneface train --config configs/audio2motion_pitch.py:demo --workdir MODELS/audio2motion \
        --config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet
"""

from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    config = ConfigDict()
    config.stage = "audio2motion"
    config.variant = variant
    config.seed = 9999
    config.train = ConfigDict({"steps": 40_000, "log_every": 100, "eval_every": 2000, "save_every": 2000, "keep": 2})
    config.data = ConfigDict(
        {
            "corpus": "",
            "syncnet": "",
            # Subtract each speaker's mean face ("speaker"), or take the landmarks as they are ("none"). The SyncNet must agree.
            "center": "none",
            "batch": 128,
            # Video frames, a multiple of 4.
            "window": 200,
            # See training/audio_augment.py for the units.
            "augment": {
                "enabled": False,
                "gain": 0.15,
                "tilt": 0.3,
                "ripple": 0.25,
                "noise": -0.9,
                "warp": 0.15,
                "pitch": 0.3,
                "f0": 0.5,
                "frequency_mask": 12,
                "time_mask": 6,
                "unvoice": 0.1,
            },
        }
    )
    # The landmark video of a validation: its longest clip in frames (0 = none) and its panels' size in pixels.
    config.eval_video = ConfigDict({"frames": 75, "size": 160})
    config.model = ConfigDict(
        {
            "motion_dim": 204,
            "condition": 128,
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
            # What it hears beside the audio, see models/speech_condition.py.
            "pitch": 128,
            "blink": True,
            "mouth_amp": True,
            "eye_amp": False,
        }
    )
    # `sync` counts once its running mean has come down to `sync_gate`; `sync_clips` are judged each step.
    config.loss = ConfigDict({"mse": 1.0, "continuity": 3.0, "kl": 0.4, "sync": 0.01, "sync_gate": 0.75, "sync_clips": 1024})
    config.optimizer = ConfigDict({"lr": 5e-4, "schedule": "exponential", "warmup": 1000, "clip": 1.0})

    if variant == "demo":
        config.train.update({"steps": 4000, "log_every": 50, "eval_every": 500, "save_every": 500})
        config.data.update({"center": "speaker", "batch": 16, "window": 80})
        config.data.augment.enabled = True
        config.model.update({"hidden": 96, "encoder_layers": 4, "decoder_layers": 4, "flow_hidden": 32, "flow_layers": 2})
        config.model.update({"condition": 64, "pitch": 32, "pairing": "stack"})
        config.loss.update({"sync_clips": 64})
        config.optimizer.update({"lr": 1e-3, "schedule": "cosine", "warmup": 100})
    elif variant != "reference":
        raise ValueError(f'configs/audio2motion_pitch.py has the variants "demo" and "reference", not {variant!r}')
    return config
