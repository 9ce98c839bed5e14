"""The one training loop. Read it from top to bottom.

A run is a work folder: the same call makes it, resumes it, or finds it done. Everything an update depends on is a function of
(config, step, state), so a run that was stopped and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.errors import InputError
from geneface_jax.io import checkpoints, configs, restore
from geneface_jax.training import devices
from geneface_jax.training.interrupts import Interrupts
from geneface_jax.training.prefetch import prefetch
from geneface_jax.training.progress import Clock, Progress, duration
from geneface_jax.training.stage import Metrics, Stage
from geneface_jax.training.stages import get_stage
from geneface_jax.training.summaries import Summaries


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    stage: Stage | None = None,
    init: str | os.PathLike | None = None,
    codes: str = "keep",
    restore_mode: str = restore.STRICT,
) -> Path:
    """Trains one stage up to `config.train.steps` updates, from the newest checkpoint in `workdir` if there is one.

    Reads `config.seed`, `config.stage` and `config.train`: `steps`; `log_every`, `eval_every`, `save_every` (in updates, 0 = only at
    the end); `keep` (how many of the newest checkpoints stay beside the best).

    Args:
      config: the resolved config.
      workdir: the work folder (docs/file-formats.md); made when absent.
      stage: the stage, when it isn't to be made from `config.stage`.
      init: another run's work folder whose parameters this one begins with; of no effect on a run that is resumed.
      codes: what becomes of that run's appearance codes, "keep" or "mean" (`io.restore`).
      restore_mode: "strict" or "lenient", for resuming and for `init` (`io.restore`).

    Returns:
      the work folder.

    Raises:
      InputError: bad data, a checkpoint of another config, or a loss that is no longer finite (the step and the last checkpoint are named).
      SystemExit: 143 after SIGTERM, 130 after SIGINT; a checkpoint was saved first.
    """
    workdir = Path(workdir)

    # ------------------------------------------------------------------ the stage and its folder
    stage = stage or get_stage(config)
    config = stage.config  # the stage may have filled in what only the data knows
    plan = config.train
    progress = Progress(config.stage, plan.steps, stage.unit)
    done = checkpoints.steps(workdir)
    if done and done[-1] >= plan.steps:
        progress.say(f"{workdir} is already at step {done[-1]} of {plan.steps}")
        return workdir

    # ------------------------------------------------------------------ state: 1. a fresh one; 2. over it the newest checkpoint, or
    # where there is none what another run has learnt (io.restore has the rules)
    seed = jax.random.key(config.seed)
    state = stage.init(jax.random.fold_in(seed, 0))
    step_seed = jax.random.fold_in(seed, 1)
    first = 0
    if done:
        state, first, skipped = restore.resume(workdir, state, mode=restore_mode)
        progress.say(f"goes on from step {first} in {workdir}")
        _note_skipped(skipped, progress)
        _note_changes(config, workdir, progress)
    elif init is not None:
        state, origin, skipped = restore.warm_start(init, state, mode=restore_mode, codes=codes)
        progress.say(f"begins with the parameters of step {origin} of {init}")
        _note_skipped(skipped, progress)
    configs.save(config, workdir)
    data = stage.data()

    # ------------------------------------------------------------------ to the devices
    state = devices.replicate(state)
    data = devices.replicate(data)
    step_fn = devices.parallel_step(stage.train_step)
    batches = prefetch(lambda step: devices.shard(stage.host_batch(step)), first, plan.steps)

    summaries = Summaries(workdir, first, getattr(stage, "charts", {}))
    clock = Clock()
    remarks = getattr(stage, "remarks", lambda means: ())
    pending: list[Metrics] = []
    evaluated: dict[str, float] = {}
    started = time.perf_counter()
    progress.say(f"{plan.steps - first} steps on {devices.count()} {jax.default_backend()} device(s); the first one compiles")

    with Interrupts() as interrupts:
        try:
            for step, batch in zip(range(first, plan.steps), batches, strict=True):
                # -------------------------------------------------------- one update
                state, metrics = step_fn(state, data, batch, jax.random.fold_in(step_seed, step), np.int32(step))
                pending.append(metrics)
                now = step + 1
                last = now == plan.steps
                stopping = interrupts.received is not None
                if step == first:
                    jax.block_until_ready(metrics)
                    progress.say(f"first step after {duration(time.perf_counter() - started)}")
                    clock.start()
                else:
                    clock.count()

                # -------------------------------------------------------- log
                saving = last or stopping or _due(plan.save_every, now)
                if saving or _due(plan.log_every, now):
                    means = _mean(pending, now, workdir)
                    pending = []
                    for line in remarks(means):
                        progress.say(line)
                    rate = clock.rate()
                    speed = {"steps_per_second": rate, f"{stage.unit}_per_second": rate * stage.items_per_step}
                    summaries.scalars(now, {**{f"tr/{tag}": value for tag, value in means.items()}, **(speed if rate else {})})
                    progress.update(now, means, rate, rate * stage.items_per_step)

                # -------------------------------------------------------- evaluate
                evaluated = {}
                if not stopping and (last or _due(plan.eval_every, now)):
                    clock.stop()
                    found = stage.evaluate(devices.unreplicate(state), devices.unreplicate(data), now)
                    evaluated = {tag: float(value) for tag, value in found.scalars.items()}
                    summaries.evaluation(now, found)
                    progress.say(f"step {now}: " + "  ".join(f"{tag} {value:.4g}" for tag, value in evaluated.items()))
                    clock.start()

                # -------------------------------------------------------- save
                if saving:
                    clock.stop()
                    meta = {"config": config, "metrics": evaluated}
                    checkpoints.save(workdir, now, devices.unreplicate(state), meta, keep=plan.keep, best=stage.best)
                    clock.start()
                if stopping and not last:
                    progress.say(f"stopped at step {now}; the same command goes on from there")
                    raise SystemExit(interrupts.exit_code())
        finally:
            batches.close()
            summaries.close()
            progress.close()

    progress.say(f"{plan.steps} steps done, {duration(time.perf_counter() - started)} this time; in {workdir}")
    return workdir


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _mean(pending: list[Metrics], step: int, workdir: Path) -> dict[str, float]:
    """Means over the updates since the last log, fetched from the first device in one go; `step` is the last of them.

    Raises:
      InputError: a value is not finite. Saves come after this check, so no checkpoint holds a state that has broken.
    """
    fetched = jax.device_get(pending)  # [D] each, equal on all devices
    table: dict[str, Any] = {tag: np.array([row[tag][0] for row in fetched], np.float64) for tag in fetched[0]}
    finite = np.all([np.isfinite(values) for values in table.values()], axis=0)
    if not finite.all():
        broken = int(np.argmin(finite))
        tags = ", ".join(tag for tag, values in table.items() if not np.isfinite(values[broken]))
        saved = checkpoints.steps(workdir)
        way_out = f"the checkpoint of step {saved[-1]} in {workdir} is sound, resume from it" if saved else "start again"
        raise InputError(f"{tags} is not finite at step {step - len(fetched) + broken + 1}: {way_out} with a smaller learning rate.")
    return {tag: float(values.mean()) for tag, values in table.items()}


def _note_skipped(skipped: list[restore.Skipped], progress: Progress) -> None:
    """Names every tensor that a lenient restore left as the run began it."""
    for item in skipped:
        progress.say(f"not restored: {item}")


def _note_changes(config: ConfigDict, workdir: Path, progress: Progress) -> None:
    """A resumed run with another config is allowed (longer, another rate) but never silent."""
    if (workdir / configs.CONFIG_FILE).is_file():
        for change in configs.differences(configs.load_saved(workdir), config):
            progress.say(f"config changed since the last run: {change}")
