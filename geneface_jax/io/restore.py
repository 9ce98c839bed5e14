"""Resume and warm start: the rules for restoring a training state from a checkpoint.

1. *Resume* (the work folder has checkpoints) restores the complete state, optimizer included, bit for bit.
2. *Warm start* (`geneface train --init WORKDIR`, `geneface fit --from SUBJECT`; only if there is nothing to resume) restores parameters
   and running statistics of another run. Optimizer, step, occupancy grid, corrected poses and data constants are the new run's own.
3. In both cases a tensor is restored completely or not at all, by name, shape and dtype. `strict` refuses the first that does not fit;
   `lenient` (`--restore lenient`) keeps the new run's initial values for those that do not fit and names each.
4. Appearance codes belong to the frames of one video. A warm start on another video (`appearance_codes="mean"`) fills all rows with the
   mean code of the old video, whatever the number of rows.
5. A warm start from another stage (`--init-rename OLD=NEW`, or `--init-rule` for one of `NAMED`) restores the tensors whose names begin
   with OLD under the prefix NEW. All others keep their initial values; rule 3 applies to the renamed ones.
6. Frozen parameters (`config.train.freeze`) are handled by the optimizer (`training.optimizers`), not here.
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_tools.errors import InputError
from geneface_jax.io import checkpoints

STRICT, LENIENT = "strict", "lenient"
MODES = (STRICT, LENIENT)
FLAG = "--restore lenient"

WARM = ("params", "batch_stats")
"""Collections that a warm start restores."""

NAMED: dict[str, tuple[tuple[str, str], ...]] = {
    # A head under super-resolution, from a plain head.
    "head-into-head_sr": (("params", "params/head"),),
    "head_sr-into-head": (("params/head", "params"),),
    # A torso shares no network tensor with a head (which it finds by config.data.head); only the appearance codes, which describe how
    # light and camera change from frame to frame, can be shared.
    "head-into-torso": (("params/frame_codes", "params/frame_codes"),),
    # The VAE inside a PostNet, fine-tuned on one person, as the start of a VAE for many.
    "postnet-into-audio2motion": (("params/audio2motion", "params"), ("batch_stats/audio2motion", "batch_stats")),
}
"""Renames of `--init-rule` by name: (prefix in the other run, prefix in this one)."""

CODES = "frame_codes"
"""Name of the appearance codes [frames, features], one row per training frame."""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A tensor that was not restored: its name (`params/head/kernel`), what the checkpoint holds, what the run expects."""

    name: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.name}: the checkpoint holds {self.found}, this run expects {self.expected}"


def resume(workdir: str | os.PathLike, state: Any, step: int | None = None, *, mode: str = STRICT) -> tuple[Any, int, list[Skipped]]:
    """Restores a run's own checkpoint (rule 1).

    Args:
      workdir: the work folder.
      state: the initial state; arrays, or only shapes in `strict` mode.
      step: the checkpoint; None is the newest.
      mode: "strict" or "lenient".

    Returns:
      (state of numpy arrays, step, skipped tensors; none if strict).

    Raises:
      InputError: no (such) checkpoint, or, if strict, a tensor that does not fit: names it, both shapes and the ways out.
    """
    _check(mode)
    found, step = checkpoints.read_arrays(workdir, step)
    merged, skipped = merge(state, found)
    if skipped and mode == STRICT:
        raise InputError(
            f"{_first(skipped)} (step {step} of {workdir}): train with the config saved in {workdir}, in another --workdir, or with {FLAG} "
            "to reinitialize the tensors that differ."
        )
    return merged, step, skipped


def warm_start(
    workdir: str | os.PathLike,
    state: Any,
    step: int | None = None,
    *,
    mode: str = STRICT,
    appearance_codes: str = "keep",
    renames: Sequence[tuple[str, str]] = (),
) -> tuple[Any, int, list[Skipped]]:
    """Initializes a run with the learned parameters of another one (rule 2).

    Args:
      workdir: the other run's work folder, full or released (no optimizer, float16).
      state: the initial state; arrays.
      step: the other run's checkpoint; None is the selected one (`io.checkpoints`), else the newest.
      mode: "strict" or "lenient".
      appearance_codes: "keep" restores them like every other tensor; "mean" is for another video (rule 4).
      renames: (old, new) prefixes of names (rule 5); none restores everything by its own name.

    Returns:
      (state, step of the other run, skipped tensors).

    Raises:
      InputError: as `resume`.
    """
    _check(mode)
    if appearance_codes not in ("keep", "mean"):
        raise ValueError(f'appearance_codes must be "keep" or "mean", not {appearance_codes!r}')
    found, step = checkpoints.read_arrays(workdir, checkpoints.read_selected_step(workdir) if step is None else step, widen=True)
    found = {name: value for name, value in found.items() if name.split("/")[0] in WARM}
    part = {name: value for name, value in state.items() if name in WARM}
    if renames:
        found = _renamed(found, renames)
        if not found:
            prefixes = ", ".join(old for old, _ in renames)
            raise InputError(f"{workdir} has no tensor under {prefixes}: check --init, or use another --init-rule or --init-rename.")
    if appearance_codes == "mean":
        rows = {name: value.shape[0] for name, value in checkpoints.named(part).items() if name.split("/")[-1] == CODES}
        found |= {name: np.tile(found[name].mean(0), (count, 1)) for name, count in rows.items() if name in found}
    merged, skipped = merge(part, found, [new for _, new in renames] or [""])
    if skipped and mode == STRICT:
        raise InputError(
            f"{_first(skipped)} (step {step} of {workdir}): use the config of that run, or {FLAG} to reinitialize the tensors that differ."
        )
    return {**state, **merged}, step, skipped


def parse_renames(rule: str | None, texts: Sequence[str]) -> list[tuple[str, str]]:
    """The renames (rule 5) of a name in `NAMED` and of `OLD=NEW` texts.

    Raises:
      InputError: there is no such rule (suggests the nearest), or a text is not `OLD=NEW`.
    """
    renames: list[tuple[str, str]] = []
    if rule is not None:
        if rule not in NAMED:
            nearest = difflib.get_close_matches(rule, NAMED, 1, cutoff=0.0)
            raise InputError(f"--init-rule is {rule!r}: did you mean {nearest[0]}? The rules are {', '.join(NAMED)}.")
        renames += NAMED[rule]
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise InputError(f"--init-rename is {text!r}: write OLD=NEW, for example params=params/head.")
        renames.append((old.rstrip("/"), new.rstrip("/")))
    return renames


def merge(state: Any, found: Mapping[str, np.ndarray], prefixes: Sequence[str] = ("",)) -> tuple[Any, list[Skipped]]:
    """Replaces tensors of a state by arrays of the same name, shape and dtype.

    Args:
      state: pytree of arrays (or of shapes, if everything fits).
      found: `collection/module/.../array` -> array.
      prefixes: only tensors of the state under one of these are considered; the others stay and are not reported.

    Returns:
      (the new state; what did not fit, arrays of `found` without a counterpart included, parameters first).
    """
    current = {name: value for name, value in checkpoints.named(state).items() if any(_under(name, prefix) for prefix in prefixes)}
    skipped = [
        Skipped(name, _shape(found.get(name)), _shape(current.get(name)))
        for name in sorted({*current, *found}, key=lambda name: (name.startswith("opt_state"), name))
        if _shape(found.get(name)) != _shape(current.get(name))
    ]
    refused = {item.name for item in skipped}

    def restored(path: Any, value: Any) -> Any:
        name = checkpoints.path_name(path)
        return value if name in refused or name not in current else found[name]

    return jax.tree_util.tree_map_with_path(restored, state), skipped


def _under(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}/")


def _renamed(found: Mapping[str, np.ndarray], renames: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The arrays under an old prefix, by their new names."""
    return {new + name[len(old) :]: value for old, new in renames for name, value in found.items() if _under(name, old)}


def _first(skipped: list[Skipped]) -> str:
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    return f"{skipped[0]}{more}"


def _shape(value: Any) -> str:
    return "nothing" if value is None else f"{np.dtype(value.dtype)}{list(value.shape)}"


def _check(mode: str) -> None:
    if mode not in MODES:
        raise InputError(f"--restore is {mode!r}: choose {' or '.join(MODES)}.")
