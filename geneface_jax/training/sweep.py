"""Ablations: many runs of one stage that differ in a few keys, run side by side, resumed, and put into one table.

A sweep file (`configs/ablations/*.py`) has a `get_config()` with
  base       the config, as `geneface train --config` takes it: "head:demo";
  overrides  what all runs share, as `--config.key=value` takes it: {"train.steps": 500};
  grid       key -> values, every combination is a run; or
  runs       name -> {key: value}, every entry is a run;
  seeds      values of config.seed, each run is repeated with every one;
  metrics    tags of the table, as metrics.jsonl names them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
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
from data_tools.io import write_text
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.reporting import read_metrics

LOG_FILE = "output.txt"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run: the variant it belongs to, its seed, and the keys it sets."""

    variant: str
    seed: int
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its work folder's name."""
        return f"{self.variant}/seed{self.seed}"


def trials(sweep: ConfigDict, more: Sequence[str] = ()) -> list[Trial]:
    """All runs of a sweep.

    Args:
      sweep: see the module's docstring.
      more: `key=value` texts that all runs get, after the sweep's own.

    Raises:
      InputError: neither or both of grid and runs, two runs of one name, or a key or value that the base config refuses.
    """
    if bool(sweep.get("grid")) == bool(sweep.get("runs")):
        raise InputError("a sweep has either a grid or runs: look at configs/ablations/head_grid.py.")
    shared = [*_texts(sweep.get("overrides", {})), *more]
    if sweep.get("grid"):
        # A plain dict: a ConfigDict would take the dots of the keys apart, and sort them.
        grid = dict(sweep.grid)
        combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        named = {_name(chosen): chosen for chosen in combinations}
        if len(named) != len(combinations):
            raise InputError("two combinations of the grid have the same name: write them as runs, with names of your own.")
    else:
        named = {name: dict(chosen) for name, chosen in dict(sweep.runs).items()}
    found = [Trial(name, seed, (*shared, *_texts(chosen), f"seed={seed}")) for name, chosen in named.items() for seed in sweep.seeds]
    for trial in found:
        configs.load(sweep.base, trial.overrides)  # refuses what is wrong before hours are spent
    return found


def run(
    sweep: ConfigDict, out: str | os.PathLike, slots: Sequence[str], more: Sequence[str] = (), say: Callable[[str], None] = print
) -> list[str]:
    """Trains all runs, as many at a time as there are slots; finished ones are left alone, stopped ones resumed.

    Args:
      sweep: see the module's docstring.
      out: folder of the runs, `out/<variant>/seed<seed>`.
      slots: what each slot's runs see as CUDA_VISIBLE_DEVICES; "" leaves it as it is (CPU).
      more: as in `trials`.
      say: told when a run begins and ends.

    Returns:
      names of runs that failed; their output lies in `output.txt` of their folder.
    """
    waiting: queue.SimpleQueue[Trial] = queue.SimpleQueue()
    for trial in trials(sweep, more):
        waiting.put(trial)
    failed: list[str] = []

    def work(slot: str) -> None:
        while True:
            try:
                trial = waiting.get_nowait()
            except queue.Empty:
                return
            say(f"{trial.name}: begins" + (f" on {slot}" if slot else ""))
            code = _train(sweep.base, trial, Path(out) / trial.name, slot)
            say(f"{trial.name}: {'done' if code == 0 else f'failed with exit code {code}'}")
            if code:
                failed.append(trial.name)

    workers = [threading.Thread(target=work, args=(slot,)) for slot in slots]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(failed)


def summarize(sweep: ConfigDict, out: str | os.PathLike, more: Sequence[str] = ()) -> tuple[Path, Path]:
    """Writes `out/summary.csv` and `out/summary.md`: a row a variant, the last value of each metric as mean +- sd over seeds.

    The deviation is that of a sample (n - 1); with one seed there is none. Runs that have not finished do not count.
    """
    groups: dict[str, list[dict[str, float]]] = {}
    for trial in trials(sweep, more):
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


def _train(base: str, trial: Trial, workdir: Path, slot: str) -> int:
    workdir.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": slot} if slot else {})}
    command = [sys.executable, "-m", "geneface_jax", "train", "--config", base, "--workdir", str(workdir)]
    command += [f"--config.{text}" for text in trial.overrides]
    with (workdir / LOG_FILE).open("a", encoding="utf-8") as log:
        return subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False).returncode


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


def _texts(chosen: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in dict(chosen).items()]


def _name(chosen: Mapping[str, Any]) -> str:
    """`lr=0.001,hidden=64`: the keys' last parts, fit for a folder."""
    text = ",".join(f"{key.split('.')[-1]}={value}" for key, value in chosen.items())
    return re.sub(r"[^\w.,=+-]", "_", text)
