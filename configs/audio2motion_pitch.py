"""Pitch-aware audio2motion VAE: speech, its pitch, blinks and the mouth's amplitude -> 68 landmarks (GeneFace++).

The stage, losses and schedule of configs/audio2motion.py with the network of GeneFace++'s `PitchContourVAEModel`: conditioned on f0 in
255 bins, blinks, and mouth opening, so that `--mouth-amp` is an input of the network instead of a scaling of its output. PostNet and
inference support either VAE.
demo: 96 channels, for a small corpus with strong audio augmentation. With the losses of version 0.1.0 and `mel_f0` features, on the avatar
corpus (21 minutes of 16 speakers) after 4,000 updates, six minutes on two idle CPU cores, on two held-out speakers: val/lmd_ratio 0.46
(mouth error relative to no motion), val/mouth_correlation 0.90.
reference: the published sizes (128 condition channels, 12 million parameters) for a large corpus; `model.motion_dim` is 204, for landmarks
(GeneFace++'s 64 are coefficients of the Basel face model). `model.eye_amp=true` adds the eye opening as a condition.

    geneface train --config configs/audio2motion_pitch.py:demo --workdir MODELS/audio2motion \
        --config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet
"""

from audio2motion import get_config as audio2motion_config
from base import VARIANTS, augmentation
from ml_collections import ConfigDict


def get_config(variant: str = "demo") -> ConfigDict:
    """The config of `variant`, "demo" or "reference"."""
    if variant not in VARIANTS:
        raise ValueError(f'configs/audio2motion_pitch.py has the variants "demo" and "reference", not {variant!r}')
    config = audio2motion_config(variant)
    config.data.augment = augmentation(f0=0.5, enabled=config.data.augment.enabled)
    # Conditions besides the audio, see geneface_jax/models/audio2motion.py.
    config.model.update({"condition": 128, "pitch": 128, "blink": True, "mouth_amp": True})
    if variant == "demo":
        config.train.steps = 4000
        config.model.update({"condition": 64, "pitch": 32})
    return config
