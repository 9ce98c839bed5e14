"""What the config files share: the first keys of a stage's config, grid encodings, audio augmentation.

A config file imports its neighbors by their plain names (`from base import new_config`); the loader (`geneface_jax.io.configs`) resolves
them to the files beside it, and for a config file outside of this folder to these.
"""

from ml_collections import ConfigDict

VARIANTS = ("demo", "reference")


def new_config(stage: str, variant: str, train: dict) -> ConfigDict:
    """A config that has its stage, variant, seed and `config.train`.

    Args:
      stage: name of the stage, and of the config file.
      variant: the one asked for.
      train: the training plan.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f'configs/{stage}.py has the variants "demo" and "reference", not {variant!r}')
    return ConfigDict({"stage": stage, "variant": variant, "seed": 9999, "train": train})


def grid(**fields) -> dict:
    """A grid encoding of the original's size (16 levels, 2 features, finest resolution 2048), changed by `fields`."""
    size = {"dims": 3, "levels": 16, "features": 2, "base_resolution": 16, "finest_resolution": 2048, "log2_table_size": 16}
    return size | fields


def augmentation(**fields) -> dict:
    """Strengths of the audio augmentation, switched off, changed by `fields`; units in geneface_jax/training/speech_augment.py."""
    strengths = {
        "enabled": False,
        "gain": 0.15,
        "tilt": 0.3,
        "ripple": 0.25,
        "noise": -0.9,
        "warp": 0.15,
        "pitch": 0.3,
        "feature_noise": 0.3,
        "channel_mask": 0.4,
    }
    return strengths | {"frequency_mask": 12, "time_mask": 6, "unvoice": 0.1} | fields
