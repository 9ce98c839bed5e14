"""What may change between the two halves of a resumed run: one table."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from pathlib import Path

from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import configs

REFUSE, WARN = "refuse", "warn"

RULES = (
    # pattern on the dotted key, what happens, why
    ("stage", REFUSE, "another network"),
    ("seed", REFUSE, "the order of the data and all random draws follow from it"),
    ("model.codes", WARN, "read from the dataset; the tensors' shapes are compared anyway"),
    ("model.*", REFUSE, "another network, or the same tensors read in another way"),
    ("audio2motion.*", REFUSE, "the VAE inside a PostNet"),
    ("super_resolution.*", REFUSE, "another network"),
    ("data.face_model", REFUSE, "landmarks of another kind"),
    ("data.audio_model", REFUSE, "audio features of another kind"),
    ("data.center", REFUSE, "another network space"),
    ("march.bound", REFUSE, "the scene's extent, which the grids are stretched over"),
    ("*", WARN, "the run goes on differently from here"),
)
"""The first pattern that fits a key decides. A key that only one of the two configs has never refuses: configs gain keys over time."""


@dataclasses.dataclass(frozen=True)
class Change:
    """A key with its old and new value, and what its rule says."""

    key: str
    text: str
    action: str
    why: str


def changes(old: ConfigDict, new: ConfigDict) -> list[Change]:
    """Every leaf that differs, judged by `RULES`."""
    shared = set(configs.keys(old)) & set(configs.keys(new))
    found = []
    for text in configs.differences(old, new):
        key = text.partition(":")[0]
        action, why = next((action, why) for pattern, action, why in RULES if fnmatch.fnmatch(key, pattern))
        found.append(Change(key, text, action if key in shared else WARN, why))
    return found


def require_resumable(workdir: str | os.PathLike, new: ConfigDict, *, lenient: bool = False) -> list[str]:
    """Compares the config a run was begun with and the one it is resumed with.

    Args:
      workdir: the run; its config.json is what it was begun with.
      new: the resolved config to go on with.
      lenient: `--restore lenient` turns refusals into warnings.

    Returns:
      a sentence for every change that is let through.

    Raises:
      InputError: a change that its rule refuses.
    """
    if not (Path(workdir) / configs.CONFIG_FILE).is_file():
        return []
    found = changes(configs.load_saved(workdir), new)
    refused = [change for change in found if change.action == REFUSE and not lenient]
    if refused:
        first, more = refused[0], f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise InputError(
            f"config.{first.text}{more} can't change in a run that is resumed ({first.why}): set it back, use another --workdir than "
            f"{workdir}, or accept it with --restore lenient."
        )
    return [f"config changed since the last run: {change.text}" for change in found]
