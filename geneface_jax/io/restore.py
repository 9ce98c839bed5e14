"""What a run may take over from a checkpoint: the rules, in one place.

1. *Resume* (the work folder holds checkpoints): the whole state, optimiser included, bit for bit.
2. *Warm start* (`geneface train --init WORKDIR`, `geneface fit --from SUBJECT`; only where there is nothing to resume): parameters and
   running statistics of another run. The optimiser, the step, the occupancy grid, corrected poses and constants of the data are its own.
3. Either way a tensor is taken whole or not at all, by its name, shape and type. `strict` refuses the first that does not fit; `lenient`
   (`--restore lenient`) leaves those as the new run began them and names every one.
4. Appearance codes belong to the frames of one video. A warm start on another video (`codes="mean"`) fills all rows with the mean code of
   the old one, whatever their number.
5. A warm start from another stage (`--init-rename OLD=NEW`, or `--init-rule` for one of `NAMED`) takes the tensors whose names begin with
   OLD, as NEW. The others begin anew; among those that it takes it is as strict as ever, both ways.
6. What must stay as it is, `config.train.freeze` names; that is the optimiser's business (`training.optimizers`), not a restore's.
"""

from __future__ import annotations

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
"""Collections that a warm start takes; what is learnt, and nothing of the run or its data."""

NAMED: dict[str, tuple[tuple[str, str], ...]] = {
    # The head of a person under super-resolution, from one without.
    "head-into-head_sr": (("params", "params/head"),),
    "head_sr-into-head": (("params/head", "params"),),
    # A torso's own networks share no tensor with a head's; the head itself it finds by config.data.head. What they may share is how the
    # light and the camera changed from frame to frame.
    "head-into-torso": (("params/frame_codes", "params/frame_codes"),),
    # A PostNet's VAE, fine-tuned on one person, as the beginning of a VAE for many.
    "postnet-into-audio2motion": (("params/audio2motion", "params"), ("batch_stats/audio2motion", "batch_stats")),
}
"""Rules by name: prefixes of names in the other run and in this one."""

CODES = "frame_codes"
"""Name of a table [frames, features] with one row for every training frame."""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A tensor that was not taken: its name (`params/head/kernel`), what the checkpoint holds, what the run expects."""

    name: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.name}: the checkpoint holds {self.found}, this run expects {self.expected}"


def resume(workdir: str | os.PathLike, state: Any, step: int | None = None, *, mode: str = STRICT) -> tuple[Any, int, list[Skipped]]:
    """Reads a run's own checkpoint to go on with it.

    Args:
      workdir: the work folder.
      state: the state as the run would begin; arrays, or shapes alone in `strict` mode.
      step: which; None is the newest.
      mode: "strict" or "lenient".

    Returns:
      (state of numpy arrays, step, what was skipped; nothing when strict).

    Raises:
      InputError: no (such) checkpoint, or, when strict, a tensor that does not fit: names it, both shapes and the ways out.
    """
    _check(mode)
    found, step = checkpoints.read_arrays(workdir, step)
    merged, skipped = merge(state, found)
    if skipped and mode == STRICT:
        raise InputError(
            f"{_first(skipped)} (step {step} of {workdir}): train with the config saved in {workdir}, in another --workdir, or with {FLAG} "
            "to begin the tensors that differ anew."
        )
    return merged, step, skipped


def warm_start(
    workdir: str | os.PathLike,
    state: Any,
    step: int | None = None,
    *,
    mode: str = STRICT,
    codes: str = "keep",
    moves: Sequence[tuple[str, str]] = (),
) -> tuple[Any, int, list[Skipped]]:
    """Begins a run with what another one has learnt.

    Args:
      workdir: the other run's work folder, full or released (no optimiser, float16).
      state: the state as the run would begin without it; arrays.
      step: which of the other run's checkpoints; None is the one that was chosen (`io.checkpoints`), or else the newest.
      mode: "strict" or "lenient".
      codes: "keep" takes appearance codes like every other tensor; "mean" is for another video, see rule 4.
      moves: (old, new) prefixes of names, see rule 5; none takes everything by its own name.

    Returns:
      (state, step of the other run, what was skipped).

    Raises:
      InputError: as `resume`.
    """
    _check(mode)
    if codes not in ("keep", "mean"):
        raise ValueError(f'codes must be "keep" or "mean", not {codes!r}')
    found, step = checkpoints.read_arrays(workdir, checkpoints.read_selected_step(workdir) if step is None else step, widen=True)
    found = {name: value for name, value in found.items() if name.split("/")[0] in WARM}
    part = {name: value for name, value in state.items() if name in WARM}
    if moves:
        found = _moved(found, moves)
        if not found:
            raise InputError(f"{workdir} holds nothing under {', '.join(old for old, _ in moves)}: look at --init, or name another rule.")
    if codes == "mean":
        rows = {name: value.shape[0] for name, value in checkpoints.named(part).items() if name.split("/")[-1] == CODES}
        found |= {name: np.tile(found[name].mean(0), (count, 1)) for name, count in rows.items() if name in found}
    merged, skipped = merge(part, found, [new for _, new in moves] or [""])
    if skipped and mode == STRICT:
        raise InputError(
            f"{_first(skipped)} (step {step} of {workdir}): use the config of that run, or {FLAG} to begin the tensors that differ anew."
        )
    return {**state, **merged}, step, skipped


def parse_moves(rule: str | None, renames: Sequence[str]) -> list[tuple[str, str]]:
    """The moves (rule 5) of a name in `NAMED` and of `OLD=NEW` texts.

    Raises:
      InputError: there is no such rule (the nearest is named), or a text is no renaming.
    """
    moves: list[tuple[str, str]] = []
    if rule is not None:
        if rule not in NAMED:
            nearest = difflib.get_close_matches(rule, NAMED, 1, cutoff=0.0)
            raise InputError(f"--init-rule is {rule!r}: did you mean {nearest[0]}? There are {', '.join(NAMED)}.")
        moves += NAMED[rule]
    for text in renames:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise InputError(f"--init-rename is {text!r}: write OLD=NEW, for example params=params/head.")
        moves.append((old.rstrip("/"), new.rstrip("/")))
    return moves


def merge(state: Any, found: Mapping[str, np.ndarray], prefixes: Sequence[str] = ("",)) -> tuple[Any, list[Skipped]]:
    """Puts arrays into a state by name.

    Args:
      state: pytree of arrays (or of shapes, where everything fits).
      found: `collection/module/.../array` -> array.
      prefixes: only tensors of the state under one of them are looked at; the others stay, and are not reported.

    Returns:
      (the state with every array that has the same name, shape and type, what did not fit: parameters first; arrays of `found` that the
      state has no place for are among it).
    """
    own = {name: value for name, value in checkpoints.named(state).items() if any(_under(name, prefix) for prefix in prefixes)}
    skipped = [
        Skipped(name, _shape(found.get(name)), _shape(own.get(name)))
        for name in sorted({*own, *found}, key=lambda name: (name.startswith("opt_state"), name))
        if _shape(found.get(name)) != _shape(own.get(name))
    ]
    refused = {item.name for item in skipped}

    def take(path: Any, value: Any) -> Any:
        name = checkpoints.path_name(path)
        return value if name in refused or name not in own else found[name]

    return jax.tree_util.tree_map_with_path(take, state), skipped


def _under(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}/")


def _moved(found: Mapping[str, np.ndarray], moves: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The arrays under an old prefix, by their new names."""
    return {new + name[len(old) :]: value for old, new in moves for name, value in found.items() if _under(name, old)}


def _first(skipped: list[Skipped]) -> str:
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    return f"{skipped[0]}{more}"


def _shape(value: Any) -> str:
    return "nothing" if value is None else f"{np.dtype(value.dtype)}{list(value.shape)}"


def _check(mode: str) -> None:
    if mode not in MODES:
        raise InputError(f"--restore is {mode!r}; choose {' or '.join(MODES)}.")
