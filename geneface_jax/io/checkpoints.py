"""Checkpoints: reading and writing with orbax, the asynchronous checkpoint writer, and the selected step of a work folder.

A work folder holds `checkpoints/<step>/` with two items, `state` (a dict of arrays: `params`, `opt_state`, ...; one copy, no device axis)
and `meta` (step, metrics, config, run), and a `manifest.json` of their files. A step is written under a temporary name and renamed when
all of it is on the disk, so a killed save is never listed; later damage is detected by the manifest. No other module uses orbax.
"""

import contextlib
import dataclasses
import fnmatch
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools import io as files
from data_tools.errors import InputError
from data_tools.records import Field, read_record
from geneface_jax.io import configs

FOLDER = "checkpoints"
_STEP = re.compile(r"0|[1-9][0-9]{0,14}")
_META = {"config": Field(dict), "metrics": Field(dict)}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One step read from disk.

    Attributes:
      state: collections of numpy arrays in nested plain dicts (and lists where the state had tuples); float16 is widened to float32.
      config: the config it was trained with.
      step: number of updates.
      metrics: evaluation scalars taken at this step, by tag.
    """

    state: dict[str, Any]
    config: ConfigDict
    step: int
    metrics: dict[str, float]


def steps(workdir: str | os.PathLike) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    folder = Path(workdir) / FOLDER
    if not folder.is_dir():
        return []
    complete = (path for path in folder.iterdir() if _STEP.fullmatch(path.name) and (path / "state").is_dir() and (path / "meta").is_dir())
    return sorted(int(path.name) for path in complete)


def damage(workdir: str | os.PathLike, step: int) -> str | None:
    """How a listed step is damaged, as half a sentence; None if it is not.

    A step with a manifest is compared with its checksums; one without (older versions wrote none) is read as a trial.
    """
    path = _step_path(workdir, step)
    if (path / files.MANIFEST).is_file():
        return files.manifest_damage(path)
    try:
        read_meta(workdir, step)
        _read(path, _tree_on_disk(path))
    except Exception as error:
        return _unreadable(error)
    return None


def set_aside_damaged(workdir: str | os.PathLike) -> list[str]:
    """Renames damaged steps to `<step>.damaged`, from the newest down to the first intact one; only for the process that writes the folder.

    Returns:
      a sentence for each renamed step.
    """
    sentences = []
    for step in reversed(steps(workdir)):
        wrong = damage(workdir, step)
        if wrong is None:
            break
        path = _step_path(workdir, step)
        aside = path.with_name(f"{step}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)
        sentences.append(f"the checkpoint of step {step} is damaged, {wrong}: set aside as {aside.name}, the newest intact one is used")
    return sentences


def clear_partial(workdir: str | os.PathLike) -> None:
    """Deletes leftovers of killed saves and deletions; only for the process that writes the folder, before it saves."""
    folder = Path(workdir) / FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith((".partial", ".dropped", ".old")) or ".orbax-checkpoint-tmp" in path.name:
            shutil.rmtree(path, ignore_errors=True)


def best_step(workdir: str | os.PathLike, tag: str, mode: str) -> int | None:
    """The step whose evaluation scalar `tag` is best (`mode` is "min" or "max"); None if no step was evaluated."""
    if mode not in ("min", "max"):
        raise ValueError(f'mode must be "min" or "max", not {mode!r}')
    scored = []
    for step in steps(workdir):
        with contextlib.suppress(InputError):  # a damaged step is not the best one; whoever reads it is told
            score = read_meta(workdir, step)["metrics"].get(tag)
            scored += [(score, step)] if isinstance(score, int | float) and np.isfinite(score) else []
    if not scored:
        return None
    return (min(scored) if mode == "min" else max(scored))[1]


def save(
    workdir: str | os.PathLike,
    step: int,
    state: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    keep: int | None = None,
    best: tuple[str, str] | None = None,
    milestones_every: int = 0,
) -> Path:
    """Writes a checkpoint, replacing an existing one of the same step, and deletes old ones. Only one process of a run may call it.

    Args:
      workdir: the work folder.
      step: number of updates done.
      state: dict of arrays.
      meta: `config` (ConfigDict or plain dict), `metrics` (tag -> number) and, for a resumable run, `run` (its progress as plain JSON);
        `step` is added.
      keep: how many of the newest steps are kept; None keeps all.
      best: (tag, "min" | "max"); the best step by this metric is kept too.
      milestones_every: steps divisible by it are kept forever; 0 keeps none for that reason.

    Returns:
      the step's folder.
    """
    import orbax.checkpoint as ocp

    config = meta.get("config", {})
    record = {
        "step": int(step),
        "metrics": {tag: float(value) for tag, value in meta.get("metrics", {}).items()},
        "config": configs.to_json(config) if isinstance(config, ConfigDict) else dict(config),
        **({"run": dict(meta["run"])} if "run" in meta else {}),
    }
    folder = _step_path(workdir, step)
    state = jax.tree.map(np.asarray, jax.device_get(dict(state)))

    def fill(partial: Path) -> None:
        with _open() as checkpointer:
            items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(record))
            checkpointer.save(partial, items, force=True)
        files.write_manifest(partial)

    files.write_folder(folder, fill, lock=False)  # the run holds its work folder
    if keep is not None:
        _drop_old(workdir, keep, best, milestones_every)
    return folder


def read_meta(workdir: str | os.PathLike, step: int) -> dict[str, Any]:
    """The `meta` item of a step: `step`, `metrics`, `config` as plain JSON.

    Raises:
      InputError: it is missing or damaged.
    """
    path = Path(workdir) / FOLDER / str(step) / "meta" / "metadata"
    return read_record(path, _META, "use another step, or copy it again from its source")


def load(workdir: str | os.PathLike, step: int | None = None, drop: Sequence[str] = ("opt_state",)) -> Checkpoint:
    """Reads a checkpoint for inference, in the tree structure found on disk (`io.restore` is for training).

    Args:
      workdir: the work folder.
      step: the checkpoint; None is the newest.
      drop: collections that are not read.

    Raises:
      InputError: there is no (such) checkpoint, or it is damaged.
    """
    workdir = configs.resolve(workdir)
    step = _resolve_step(workdir, step)
    path = _step_path(workdir, step)
    _require_intact(workdir, step)
    with _told(workdir, step):
        tree = {name: value for name, value in _tree_on_disk(path).items() if name not in drop}
        state = jax.tree.map(_widen, _read(path, tree))
    meta = read_meta(workdir, step)
    return Checkpoint(state, configs.from_json(meta["config"], path / "meta" / "metadata"), step, meta["metrics"])


def read_arrays(workdir: str | os.PathLike, step: int | None = None, *, widen: bool = False) -> tuple[dict[str, np.ndarray], int]:
    """Reads the complete state by flat names, bit for bit (the rules of restoring it are in `io.restore`).

    Args:
      workdir: the work folder.
      step: the checkpoint; None is the newest.
      widen: convert float16, which released checkpoints may hold, to float32.

    Returns:
      (`collection/module/.../array` -> array, step).

    Raises:
      InputError: there is no (such) checkpoint, or it is damaged.
    """
    workdir = configs.resolve(workdir)
    step = _resolve_step(workdir, step)
    path = _step_path(workdir, step)
    _require_intact(workdir, step)
    with _told(workdir, step):
        arrays = named(_read(path, _tree_on_disk(path)))
    return {name: _widen(value) if widen else value for name, value in arrays.items()}, step


def release(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    step: int | None = None,
    half: Sequence[str] = (),
    drop: Sequence[str] = ("opt_state",),
) -> Path:
    """Writes a small copy of a work folder for shipping: one step, no optimizer state, large tables in float16, no absolute paths.

    Args:
      workdir: the work folder of a trained stage.
      out: the released work folder (replaced if it exists).
      step: the checkpoint; None is the selected one, else the newest.
      half: shell patterns on `collection/module/.../array`; matching float32 arrays are stored as float16.
      drop: collections left out.

    Raises:
      InputError: no such checkpoint, or a value does not fit float16. Densities of an occupancy grid, which are only compared with a
        threshold, are cut to what fits: those of an opaque head are large.
    """
    checkpoint = load(workdir, read_selected_step(workdir) if step is None else step, drop)

    def narrow(path: Any, value: np.ndarray) -> np.ndarray:
        name = path_name(path)
        if value.dtype != np.float32 or not any(fnmatch.fnmatch(name, pattern) for pattern in half):
            return value
        if name.startswith("occupancy/"):
            value = np.minimum(value, np.finfo(np.float16).max)
        if np.abs(value).max(initial=0.0) > np.finfo(np.float16).max:
            raise InputError(f"{name} in {workdir} has values that don't fit float16: exclude it from the patterns in `half`.")
        return value.astype(np.float16)

    state = jax.tree_util.tree_map_with_path(narrow, checkpoint.state)
    config = configs.from_json(without_folders(configs.to_json(checkpoint.config)))

    def fill(folder: Path) -> None:
        configs.save(config, folder)
        save(folder, checkpoint.step, state, {"config": config, "metrics": checkpoint.metrics})
        for note in (folder / FOLDER).rglob("commit_success.txt"):
            note.unlink()  # contains a path of this machine, and nothing reads it

    return files.write_folder(out, fill)


def _resolve_step(workdir: str | os.PathLike, step: int | None) -> int:
    found = steps(workdir)
    if not found:
        raise InputError(
            f"There is no checkpoint in {Path(workdir) / FOLDER}: make one with `geneface train --config … --workdir {workdir}`."
        )
    if step is None:
        return found[-1]
    if step not in found:
        raise InputError(f"There is no checkpoint of step {step} in {Path(workdir) / FOLDER}: there are {', '.join(map(str, found))}.")
    return step


def _require_intact(workdir: str | os.PathLike, step: int) -> None:
    wrong = files.manifest_damage(_step_path(workdir, step))
    if wrong is not None:
        raise _damaged(workdir, step, wrong)


def _damaged(workdir: str | os.PathLike, step: int, wrong: str) -> InputError:
    others = [str(other) for other in steps(workdir) if other != step]
    way_out = f"delete that folder to use step {others[-1]}" if others else "train again, or copy it again from its source"
    return InputError(f"The checkpoint {Path(workdir) / FOLDER / str(step)} is damaged, {wrong}: {way_out}.")


@contextlib.contextmanager
def _told(workdir: str | os.PathLike, step: int) -> Iterator[None]:
    """Turns what orbax and tensorstore raise about damage that no manifest shows into an InputError."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(workdir, step, _unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    # orbax and tensorstore raise a dozen kinds, some with a page of text.
    return f"it can't be read ({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"


def _step_path(workdir: str | os.PathLike, step: int) -> Path:
    return (Path(workdir) / FOLDER / str(step)).absolute()


def _open() -> Any:
    """An orbax checkpointer for a step folder that does not synchronize with the other processes of a multi-host run."""
    import orbax.checkpoint as ocp

    # orbax logs every save, and a failed one with a traceback for each of its threads, although it raises the error as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    index = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}")
    handlers = {
        "state": ocp.PyTreeCheckpointHandler(multiprocessing_options=options),
        "meta": ocp.JsonCheckpointHandler(multiprocessing_options=options),
    }
    composite = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(multiprocessing_options=options), **handlers)
    return ocp.Checkpointer(composite, multiprocessing_options=options)


def _tree_on_disk(path: Path) -> dict[str, Any]:
    """Names, shapes and dtypes of a saved state, without its data."""
    with _open() as checkpointer:
        return dict(checkpointer.metadata(path).item_metadata["state"].tree)


def _read(path: Path, tree: Any) -> Any:
    """Reads the arrays of a saved state that are in `tree`, as numpy arrays in the structure of `tree`."""
    import orbax.checkpoint as ocp

    item = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    what = ocp.args.PyTreeRestore(item=item, restore_args=restore_args, partial_restore=True)
    with _open() as checkpointer:
        return checkpointer.restore(path, args=ocp.args.Composite(state=what))["state"]


def _drop_old(workdir: str | os.PathLike, keep: int, best: tuple[str, str] | None, milestones_every: int) -> None:
    found = steps(workdir)
    kept = set(found[-max(keep, 1) :])
    if best is not None:
        best_found = best_step(workdir, *best)
        kept |= set() if best_found is None else {best_found}
    if milestones_every > 0:
        kept |= {step for step in found if step % milestones_every == 0}
    for step in found:
        if step not in kept:
            path = _step_path(workdir, step)
            # Renamed first, so that an interrupted deletion does not look like a checkpoint.
            dropped = path.with_name(f".{step}.dropped")
            os.replace(path, dropped)
            shutil.rmtree(dropped, ignore_errors=True)


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a state by flat name, such as `params/body/kernel`."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def path_name(path: Any) -> str:
    """Flat name of a pytree path: dict keys, tuple positions and attribute names joined by slashes."""
    parts = (getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))) for key in path)
    return "/".join(str(part) for part in parts)


def _widen(value: Any) -> np.ndarray:
    value = np.asarray(value)
    return value.astype(np.float32) if value.dtype == np.float16 else value


def without_folders(value: Any) -> Any:
    """Plain JSON with absolute paths reduced to their last name: they mean nothing on another machine."""
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


# -------- Asynchronous checkpoint writer: copies the state to host memory, a thread writes it while training continues


class CheckpointWriter:
    """Writes the checkpoints of one run in the background, one at a time and in order.

    Args of the constructor:
      workdir: the work folder; leftovers of killed saves are deleted.
      keep, best, milestones_every: which steps are kept, see `checkpoints.save`.
      enabled: False (all but one process of a run) makes every method a no-op.
    """

    def __init__(
        self, workdir: str | os.PathLike, *, keep: int | None, best: tuple[str, str] | None, milestones_every: int = 0, enabled: bool = True
    ):
        self._workdir = Path(workdir)
        self._rules: dict[str, Any] = {"keep": keep, "best": best, "milestones_every": milestones_every}
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._enabled = enabled
        if enabled:
            clear_partial(workdir)

    def save(self, step: int, state: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint once the previous one is done; returns as soon as the state may be overwritten.

        Args: as `checkpoints.save`.

        Raises:
          InputError: the disk has too little space, or the previous checkpoint could not be written.
        """
        if not self._enabled:
            return
        self.wait()
        # Copied because device_get may return a view of a buffer that the next update overwrites.
        copied = jax.tree.map(np.array, jax.device_get(dict(state)))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(copied))
        files.require_space(self._workdir, size, f"the checkpoint of step {step}")
        self._thread = threading.Thread(target=self._write, args=(step, copied, dict(meta)), name="save")
        self._thread.start()

    def wait(self) -> None:
        """Waits until the checkpoint being written is on the disk.

        Raises:
          InputError: the disk is full or read-only; other errors are raised as they are.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            with files.disk_errors_as_input_errors(self._workdir, in_text=True):
                raise error

    def close(self) -> None:
        """`wait`, at the end of a run."""
        self.wait()

    def _write(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        try:
            save(self._workdir, step, state, meta, **self._rules)
        except Exception as error:
            self._error = error


# -------- Selected step: `selected.json` names the checkpoint that inference uses instead of the newest

SELECTED_FILE = "selected.json"
FORMAT = "geneface_jax.selected"


def write_selected_step(workdir: str | os.PathLike, step: int, record: dict[str, Any]) -> Path:
    """Writes `selected.json`.

    Args:
      workdir: the work folder.
      step: the selected checkpoint.
      record: JSON for human readers, such as the reasons; `format` and `step` are added.
    """
    return files.write_json(Path(workdir) / SELECTED_FILE, {"format": FORMAT, "step": int(step), **record}, checksum=True)


def read_selected_step(workdir: str | os.PathLike) -> int | None:
    """The selected step of a work folder; None if there is no selection.

    Raises:
      InputError: `selected.json` is damaged, or its step has no checkpoint.
    """
    path = Path(workdir) / SELECTED_FILE
    if not path.is_file():
        return None
    remedy = f"delete it, or select again with `geneface select-postnet {workdir}`"
    step = read_record(path, {"format": Field(str, choices=(FORMAT,)), "step": Field(int, low=0)}, remedy)["step"]
    if step not in steps(workdir):
        raise InputError(f"{path} names step {step}, which has no checkpoint: {remedy}.")
    return step
