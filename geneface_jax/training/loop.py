"""The training loop of all stages: start or resume, update, log, evaluate, save; NaN recovery around it.

A run is a work folder: the same call starts it, resumes it, or finds it finished. Everything an update depends on is a function of
(config, step, state), so on a CPU a run that was stopped, killed or rolled back and resumed ends in the same bits as an uninterrupted one.
On a GPU the sums of an update have no fixed order, and a resumed run is as close to an uninterrupted one as that one is to itself, started
twice (docs/reliability.md).
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from geneface_jax.io import checkpoints, configs, restore
from geneface_jax.io.checkpoints import CheckpointWriter
from geneface_jax.io.compilation_cache import keep_programs
from geneface_jax.training import devices
from geneface_jax.training.optimizers import freeze_params, log_norms
from geneface_jax.training.recovery import Interrupts, NanRecovery, NotFiniteError, Prefetch, finite_means, with_rates
from geneface_jax.training.reporting import Profile, RunLog, duration
from geneface_jax.training.stage import Stage, get_stage
from geneface_jax.typing import Metrics, State

RUN_AHEAD = 2
"""Updates dispatched to the devices before waiting for one: the devices stay busy, and a signal is handled promptly."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Warm start of a run that has nothing to resume, and how strict it and a resume are. `io.restore` has the rules of all four.

    Attributes:
      init: work folder of another run whose parameters are loaded; None starts from random ones.
      appearance_codes: what happens to that run's appearance codes, "keep" or "mean".
      renames: (old, new) prefixes of tensor names if `init` is of another stage; none loads every tensor under its own name.
      mode: "strict" or "lenient".
    """

    init: str | os.PathLike | None
    appearance_codes: str
    renames: Sequence[tuple[str, str]]
    mode: str


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    stage: Stage | None = None,
    init: str | os.PathLike | None = None,
    appearance_codes: str = "keep",
    renames: Sequence[tuple[str, str]] = (),
    restore_mode: str = restore.STRICT,
    profile: int = 0,
    make_stage: Callable[[ConfigDict], Stage] | None = None,
) -> Path:
    """Trains one stage up to `config.train.steps` updates, from the newest complete checkpoint in `workdir` if there is one.

    Reads `config.seed`, `config.stage` and `config.train`: `steps`; `log_every`, `eval_every`, `save_every` (in updates, 0 = only at
    the end); `keep` (how many of the newest checkpoints are kept in addition to the best), and the keys of `io.configs.TRAIN_DEFAULTS`.

    Args:
      config: the resolved config.
      workdir: the work folder (docs/file-formats.md); created if absent.
      stage: the stage, if it shouldn't be made from `config.stage`.
      init, appearance_codes, renames, restore_mode: see `Start`.
      profile: how many updates to record (`training.reporting.Profile`).
      make_stage: makes the stage from a config, also at lower learning rates after a NaN. None is `stages.get_stage`.

    Returns:
      the work folder.

    Raises:
      InputError: another run works in the folder, bad data, a checkpoint or config that does not fit, a disk that is full or can't be
        written, or a loss that is repeatedly not finite.
      TrainingStopped: a KeyboardInterrupt, after SIGINT (Ctrl-C) or SIGTERM; a checkpoint was saved first.
    """
    workdir, start, make_stage = Path(workdir), Start(init, appearance_codes, renames, restore_mode), make_stage or get_stage
    keep_programs()
    with devices.one_run(workdir, "geneface train"):
        # Before the stage is made: its batches depend on these keys.
        config, kept = configs.as_begun(config, workdir) if checkpoints.steps(workdir) else (config, [])
        plan = configs.train_plan(config)
        recovery = NanRecovery(workdir, plan.returns, plan.return_rate)
        stage = make_stage(with_rates(config, config, recovery.rate)) if stage is None or recovery.rate != 1.0 else stage
        while True:
            log = RunLog(stage, plan.steps, enabled=devices.is_writer())
            for sentence in kept:
                log.say(sentence)
            try:
                with devices.lost_host_as_exit():
                    return _attempt(with_rates(stage.config, config, 1.0), plan, workdir, stage, start, profile, log)
            except NotFiniteError as error:
                log.say(recovery.record_failure(error, config, write=devices.is_writer()))
            finally:
                log.close()
            stage = make_stage(with_rates(config, config, recovery.rate))


def _attempt(config: ConfigDict, plan: ConfigDict, workdir: Path, stage: Stage, start: Start, profile: int, log: RunLog) -> Path:
    """One attempt, from the newest checkpoint to the end. `config` is recorded with the run: full rates, and what the stage added."""
    writes = devices.is_writer()

    # ------------------------------------------------------------------ 1. what the work folder holds
    for sentence in checkpoints.set_aside_damaged(workdir) if writes else ():
        log.say(sentence)
    devices.wait_for_all("damaged checkpoints are set aside")
    done = checkpoints.steps(workdir)
    if done and done[-1] >= plan.steps:
        log.say(f"{workdir} is already at step {done[-1]} of {plan.steps}")
        return workdir

    # ------------------------------------------------------------------ 2. state: initial, then resumed or warm-started (io.restore)
    seed = jax.random.key(config.seed)
    state, first = _initial_state(stage.init(jax.random.fold_in(seed, 0)), workdir, bool(done), start, log)
    if done:
        for sentence in configs.require_resumable(workdir, config, lenient=start.mode == restore.LENIENT):
            log.say(sentence)
    if writes:
        configs.save(config, workdir)
    data = stage.data()

    # ------------------------------------------------------------------ 3. on the devices
    state, data = devices.replicate(state), devices.replicate(data)
    step_fn = devices.parallel_step(log_norms(freeze_params(stage.train_step, plan.freeze)))
    step_seed, fold_in = devices.put_everywhere(jax.random.fold_in(seed, 1)), jax.jit(jax.random.fold_in)

    def inputs(step: int) -> tuple[Any, jax.Array, jax.Array]:
        """(batch, rng, step number) of an update, transferred to the devices ahead of time."""
        number = devices.put_everywhere(np.int32(step))
        return devices.put(stage.host_batch(step)), fold_in(step_seed, number), number

    writer = CheckpointWriter(workdir, keep=plan.keep, best=stage.best, milestones_every=plan.milestones_every, enabled=writes)
    recording = Profile(workdir, profile if writes else 0, first)
    log.open(workdir, first, config)
    pending: list[Metrics] = []
    started = time.perf_counter()
    for sentence in stage.opening_remarks():
        log.say(sentence)
    log.say(f"{plan.steps - first} steps on {devices.count()} {jax.default_backend()} device(s); the first one compiles")

    batches = Prefetch(inputs, first, plan.steps, stalled=log.stalled)  # last: an error above would leave its thread waiting
    with Interrupts() as interrupts:
        try:
            for step, (batch, rng, number) in zip(range(first, plan.steps), batches, strict=True):
                # -------------------------------------------------------- one update
                recording.before(step)
                state, metrics = step_fn(state, data, batch, rng, number)
                pending.append(metrics)
                now = step + 1
                last = now == plan.steps
                jax.block_until_ready(pending[-RUN_AHEAD - 1 : -RUN_AHEAD])
                if step == first:
                    jax.block_until_ready(metrics)
                    log.say(f"first step after {duration(time.perf_counter() - started)}")
                    log.clock.start()
                else:
                    log.clock.count()
                if message := recording.after(step, metrics):
                    log.say(message)

                # -------------------------------------------------------- log
                stopping = interrupts.requested(now)
                saving = last or stopping or _due(plan.save_every, now)
                if saving or _due(plan.log_every, now):
                    means = finite_means(pending, now)
                    pending = []
                    for line in stage.remarks(means):
                        log.say(line)
                    log.means(now, means, batches.waited)

                # -------------------------------------------------------- evaluate
                scalars: dict[str, float] = {}
                if not stopping and (last or _due(plan.eval_every, now)):
                    with log.clock.paused():
                        found = stage.evaluate(devices.unreplicate(state), devices.unreplicate(data), now)
                        scalars = {tag: float(value) for tag, value in found.scalars.items()}
                        log.evaluation(now, found)

                # -------------------------------------------------------- save
                if saving:
                    devices.require_run()
                    with log.clock.paused():
                        position = {"next_batch": now, "seed": config.seed}
                        writer.save(now, devices.unreplicate(state), {"config": config, "metrics": scalars, "run": position})
                if last:
                    log.finish(config, {**{f"tr/{tag}": value for tag, value in means.items()}, **scalars})
                if stopping and not last:
                    writer.wait()
                    log.say(f"stopped at step {now}; the same command resumes from there")
                    raise interrupts.stopped(now)
        finally:
            batches.close()
            recording.close()
            writer.close()

    log.say(f"{plan.steps} steps done, {duration(time.perf_counter() - started)} this time; in {workdir}")
    return workdir


def _initial_state(state: State, workdir: Path, resume: bool, start: Start, log: RunLog) -> tuple[State, int]:
    """(`state` with what is resumed or warm-started, number of updates it has had)."""
    if resume:
        state, first, skipped = restore.resume(workdir, state, mode=start.mode)
        log.say(f"resumes from step {first} in {workdir}")
    elif start.init is not None:
        state, origin, skipped = restore.warm_start(
            start.init, state, mode=start.mode, appearance_codes=start.appearance_codes, renames=start.renames
        )
        first = 0
        log.say(f"starts with the parameters of step {origin} of {start.init}")
    else:
        return state, 0
    for item in skipped:  # of a lenient restore
        log.say(f"not restored: {item}")
    return state, first


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
