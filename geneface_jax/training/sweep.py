"""Sweeps (ablations): runs of one stage that differ in a few config keys, trained in parallel, resumed, and summarized in a table.

`geneface sweep` is the command line of this module.

A sweep file (`configs/ablations/*.py`) has a `get_config()` with
  base       the config, as for `geneface train --config`: "head:demo";
  overrides  keys that all runs share: {"train.steps": 500};
  grid       key -> values, every combination is a run; or
  runs       name -> {key: value}, every entry is a run;
  seeds      values of config.seed; every run is repeated with each;
  metrics    tags in metrics.jsonl, the columns of the table.
"""

import csv
import dataclasses
import io
import itertools
import logging
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.io import hold, require_writable, write_text
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.reporting import read_metrics

logger = logging.getLogger(__name__)

LOG_FILE = "output.txt"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run: its variant (entry of the sweep), its seed, and its config overrides."""

    variant: str
    seed: int
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its work folder."""
        return f"{self.variant}/seed{self.seed}"


def trials(sweep: ConfigDict, extra_overrides: Sequence[str] = ()) -> list[Trial]:
    """All runs of a sweep; `extra_overrides` are `key=value` texts for all of them, applied after the sweep's own.

    Raises:
      InputError: neither or both of grid and runs, two runs of one name, or a key or value that the base config refuses.
    """
    if bool(sweep.get("grid")) == bool(sweep.get("runs")):
        raise InputError("A sweep has either a grid or runs: see configs/ablations/head_grid.py.")
    shared = [*_texts(sweep.get("overrides", {})), *extra_overrides]
    if sweep.get("grid"):
        # A plain dict: a ConfigDict would split the keys at their dots, and sort them.
        grid = dict(sweep.grid)
        combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        variants = {_name(keys): keys for keys in combinations}
        if len(variants) != len(combinations):
            raise InputError("Two combinations of the grid have the same name: write them as runs, with names of your own.")
    else:
        variants = {name: dict(keys) for name, keys in dict(sweep.runs).items()}
    runs = [Trial(name, seed, (*shared, *_texts(keys), f"seed={seed}")) for name, keys in variants.items() for seed in sweep.seeds]
    for trial in runs:
        configs.load(sweep.base, trial.overrides)  # wrong keys are refused before anything is trained
    return runs


def run(
    sweep: ConfigDict,
    out: str | os.PathLike,
    slots: Sequence[str],
    extra_overrides: Sequence[str] = (),
    log: Callable[[str], None] = logger.info,
) -> list[str]:
    """Trains all runs, one at a time per slot; finished ones are skipped, stopped ones resumed.

    Args:
      sweep: see the module's docstring.
      out: folder of the runs, `out/<variant>/seed<seed>`.
      slots: CUDA_VISIBLE_DEVICES of each slot's runs; "" leaves it unchanged (CPU).
      extra_overrides: as in `trials`.
      log: called with a line whenever a run begins or ends.

    Returns:
      names of runs that failed; their output is in `output.txt` of their folder.
    """
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    for trial in trials(sweep, extra_overrides):
        waiting.put(trial)
    require_writable(out, "--out")
    failed: list[str] = []
    running: set[subprocess.Popen] = set()

    def work(slot: str) -> None:
        while True:
            try:
                trial = waiting.get_nowait()
            except queue.Empty:
                return
            log(f"{trial.name}: begins" + (f" on {slot}" if slot else ""))
            code = _train(sweep.base, trial, Path(out) / trial.name, slot, running)
            log(f"{trial.name}: {'done' if code == 0 else f'failed with exit code {code}'}")
            if code:
                failed.append(trial.name)

    workers = [threading.Thread(target=work, args=(slot,)) for slot in slots]
    with hold(out, "geneface sweep"):
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        except BaseException:  # Ctrl-C or SIGTERM: the runs save and end too, and no other begins
            while not waiting.empty():
                waiting.get()
            for process in list(running):
                process.terminate()
            for worker in workers:
                worker.join()
            raise
    return sorted(failed)


def summarize(sweep: ConfigDict, out: str | os.PathLike, extra_overrides: Sequence[str] = ()) -> tuple[Path, Path]:
    """Writes `out/summary.csv` and `out/summary.md`: a row per variant, the last value of each metric as mean +- sd over seeds.

    sd is the sample standard deviation (n - 1), empty for one seed. Unfinished runs are left out.
    """
    groups: dict[str, list[dict[str, float]]] = {}
    for trial in trials(sweep, extra_overrides):
        workdir = Path(out) / trial.name
        rows = groups.setdefault(trial.variant, [])
        steps = checkpoints.steps(workdir)
        if steps and steps[-1] >= configs.load(sweep.base, trial.overrides).train.steps:
            rows.append(_last_values(workdir, sweep.metrics))
    table = [_row(variant, rows, sweep.metrics) for variant, rows in groups.items()]
    header = ["variant", "seeds", *(f"{tag} {what}" for tag in sweep.metrics for what in ("mean", "sd"))]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *table])
    lines = [["variant", "seeds", *sweep.metrics], ["---"] * (2 + len(sweep.metrics))]
    lines += [[row[0], str(row[1]), *(_plus_minus(*row[i : i + 2]) for i in range(2, len(row), 2))] for row in table]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return write_text(Path(out) / "summary.csv", stream.getvalue()), write_text(Path(out) / "summary.md", text)


def _train(base: str, trial: Trial, workdir: Path, slot: str, running: set[subprocess.Popen]) -> int:
    workdir.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": slot} if slot else {})}
    command = [sys.executable, "-P", "-m", "geneface_jax", "train", "--config", base, "--workdir", str(workdir)]
    command += [f"--config.{text}" for text in trial.overrides]
    with (workdir / LOG_FILE).open("a", encoding="utf-8") as log:
        with subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process:
            running.add(process)
            try:
                return process.wait()
            finally:
                running.discard(process)


def _last_values(workdir: Path, tags: Sequence[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for row in read_metrics(workdir):
        values |= {tag: row[tag] for tag in tags if tag in row}
    return values


def _row(variant: str, rows: Sequence[Mapping[str, float]], tags: Sequence[str]) -> list[Any]:
    cells: list[Any] = [variant, len(rows)]
    for tag in tags:
        values = [row[tag] for row in rows if tag in row]
        cells += [float(np.mean(values)) if values else "", float(np.std(values, ddof=1)) if len(values) > 1 else ""]
    return cells


def _plus_minus(mean: Any, deviation: Any) -> str:
    if mean == "":
        return "-"
    return f"{mean:.4g}" if deviation == "" else f"{mean:.4g} ± {deviation:.2g}"


def _texts(keys: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in dict(keys).items()]


def _name(keys: Mapping[str, Any]) -> str:
    """`lr=0.001,hidden=64`: the last parts of the keys, as a folder name."""
    text = ",".join(f"{key.split('.')[-1]}={value}" for key, value in keys.items())
    return re.sub(r"[^\w.,=+-]", "_", text)
