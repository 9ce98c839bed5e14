"""geneface_jax: a talking video in, a model of that person out, and any speech recording becomes a video of that person saying it.

```python
import geneface_jax as gf

person = gf.Person.load("demo")
person.speak("speech.wav", gf.Controls(mouth_amp=0.5)).save("talk.mp4")
```

docs/api.md has an example of every name. Importing the package imports nothing else: a name is loaded when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "data_tools.errors": ("InputError",),
    "data_tools.avatar.speakers": ("sample_speech",),
    # Videos of a person.
    "geneface_jax.inference.person": ("Person", "TalkingVideo"),
    "geneface_jax.inference.controls": ("Controls",),
    "geneface_jax.inference.streaming": ("stream",),
    # From a video to a person.
    "geneface_jax.pipeline": ("fit", "prepare"),
    "geneface_jax.inference.culling": ("bake",),
    "geneface_jax.io.configs": ("load as load_config",),
    "geneface_jax.training.loop": ("train",),
    "geneface_jax.training.recovery": ("TrainingStopped",),
    "geneface_jax.training.reporting": ("read_metrics",),
    "geneface_jax.evaluation.evaluate": ("evaluate", "evaluate_video"),
    "geneface_jax.data.subject": ("Subject",),
    "geneface_jax.rendering.landmark_video": ("landmark_frames",),
    # Networks.
    "geneface_jax.models.audio2motion": ("Audio2Motion",),
    "geneface_jax.models.head": ("Head",),
    "geneface_jax.models.nerf": ("NerfHead", "NerfTorso"),
    "geneface_jax.models.postnet": ("CNNPostNet", "MLPDiscriminator"),
    "geneface_jax.models.super_resolution": ("SuperResolution",),
    "geneface_jax.models.syncnet": ("SyncNet",),
    "geneface_jax.models.torso": ("Torso",),
    # Array operations.
    "geneface_kernels": (
        "GridSpec",
        "MarchConfig",
        "composite_train",
        "grid_encode",
        "march_rays",
        "march_train",
        "near_far_from_aabb",
        "pack",
        "spherical_harmonics",
    ),
}
"""Module -> its public names, as in `from module import names`; `__init__.pyi` says the same to type checkers and editors."""

_SOURCES = {text.split(" as ")[-1]: (module, text.split(" as ")[0]) for module, names in _PUBLIC.items() for text in names}

__all__ = ["__version__", *sorted(_SOURCES)]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used (PEP 562)."""
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
