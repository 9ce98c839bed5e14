"""Measures the training loop's overhead over the bare step, and steps per second on 1, 2, 4 and 8 host devices; writes JSON.

    python scripts/bench/loop.py --subject SUBJECT/dataset [--json docs/figures/loop.json] [--turns 4] [--steps 32]

Overhead: configs/head.py:demo in `training.loop.train`, with batches from the dataset, logs and a checkpoint. After every log the same
number of bare steps is run (only the compiled step, with state and batch on the device), so that other load on the machine affects both.
The overhead is the median over turns of the ratio of mean step times.

Devices: the same config and global batch on 1, 2, 4 and 8 host devices of one process, also in turns. On a machine with fewer cores than
devices this measures the cost of sharding, not a speed-up. With GPUs, --devices gives the device counts.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

# Before the import of jax.
if os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from data_tools.io import write_json  # noqa: E402
from geneface_jax.io import configs  # noqa: E402
from geneface_jax.training import devices  # noqa: E402
from geneface_jax.training.loop import train  # noqa: E402
from geneface_jax.training.optimizers import log_norms  # noqa: E402
from geneface_jax.training.stage import Evaluation, get_stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", required=True, help="a dataset folder")
    parser.add_argument("--turns", type=int, default=4, help="timed turns, after the compiling one (default %(default)s)")
    parser.add_argument("--steps", type=int, default=32, help="steps per turn, a multiple of 16 (default %(default)s)")
    parser.add_argument("--devices", default="1,2,4,8", help="device counts, or an empty string to skip that part (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    args, overrides = parser.parse_known_args()
    overrides = [f"data.subject={args.subject}", "train.eval_every=0", *overrides]
    device = jax.devices()[0]
    result = {
        "device": device.device_kind if device.platform != "cpu" else f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "load": round(os.getloadavg()[0], 1),
        "config": "configs/head.py:demo",
        "overhead": overhead(args.turns, args.steps, overrides),
    }
    if args.devices:
        result["steps_per_second"] = scaling([int(n) for n in args.devices.split(",")], args.turns, max(args.steps // 4, 1), overrides)
    print(json.dumps(result, indent=2))
    if args.json:
        write_json(args.json, result)


def overhead(turns: int, steps: int, overrides: list[str]) -> dict[str, Any]:
    """Times the loop and the bare step in turns, on one device."""
    plan = [f"train.steps={(turns + 1) * steps}", f"train.log_every={steps}", f"train.save_every={2 * steps}"]
    with devices.limited(1), tempfile.TemporaryDirectory() as workdir:
        stage = get_stage(configs.load("head:demo", [*overrides, *plan]))
        stage.evaluate = lambda state, data, step: Evaluation({})  # the loop evaluates at the end of a run with any config
        bare = BareStep(stage)
        seconds: dict[str, list[float]] = {"loop": [], "bare": []}
        started = [0.0]

        def take_turn(means):
            seconds["loop"].append((time.perf_counter() - started[0]) / steps)
            seconds["bare"].append(bare.turn(steps))
            started[0] = time.perf_counter()
            return []

        stage.remarks = take_turn
        train(stage.config, workdir, stage=stage)
    # The first turn compiles.
    loop, step = np.array(seconds["loop"][1:]), np.array(seconds["bare"][1:])
    return {
        "turns": turns,
        "steps_a_turn": steps,
        "loop_ms": [round(1e3 * value, 1) for value in loop],
        "bare_ms": [round(1e3 * value, 1) for value in step],
        "overhead_percent": round(100.0 * float(np.median(loop / step) - 1.0), 2),
    }


def scaling(counts: list[int], turns: int, steps: int, overrides: list[str]) -> dict[str, float]:
    """Steps per second of the bare step by device count, medians over turns."""
    bare_steps = {}
    for count in counts:
        with devices.limited(count):
            bare_steps[count] = BareStep(get_stage(configs.load("head:demo", overrides)))
            bare_steps[count].turn(1)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(turns):
        for count, bare in bare_steps.items():
            with devices.limited(count):
                seconds[count].append(bare.turn(steps))
    return {str(count): round(1.0 / float(np.median(values)), 3) for count, values in seconds.items()}


class BareStep:
    """The compiled step with a state and one batch that stay on the devices."""

    def __init__(self, stage: Any):
        self._state = devices.replicate(stage.init(jax.random.key(0)))
        self._data = devices.replicate(stage.data())
        self._batch = devices.put(stage.host_batch(0))
        self._rng = devices.put_everywhere(jax.random.key(1))
        # The occupancy grid is updated at certain step numbers: a turn uses all of them, like the loop.
        self._numbers = [devices.put_everywhere(np.int32(number)) for number in range(stage.config.march.update_every)]
        self._step = devices.parallel_step(log_norms(stage.train_step))

    def turn(self, steps: int) -> float:
        """Mean seconds per step."""
        started = time.perf_counter()
        for step in range(steps):
            number = self._numbers[step % len(self._numbers)]
            self._state, metrics = self._step(self._state, self._data, self._batch, self._rng, number)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
