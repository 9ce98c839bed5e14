"""What the training loop costs over the bare step, and steps per second over 1, 2, 4 and 8 host devices; writes JSON, asserts nothing.

    python scripts/bench/loop.py --subject SUBJECT/dataset [--json docs/figures/loop.json] [--turns 4] [--steps 32]

Overhead: configs/head.py:demo in `training.loop.train`, with batches from the dataset, logs and a checkpoint. After every log the same
number of bare steps is run (a compiled step on a state and a batch that lie on the device, and nothing else), so the two take turns and a
machine's other work hits both. The overhead is the median over turns of the loop's mean step over the bare one's.

Devices: the same config and global batch over 1, 2, 4 and 8 host devices of one process, in turns too. On a machine with fewer cores than
devices this shows what splitting costs, not what it brings. With GPUs, --devices names the counts to take.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
if os.environ.get("JAX_PLATFORMS", "cpu") == "cpu":
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from geneface_jax.io import configs  # noqa: E402
from geneface_jax.training import devices  # noqa: E402
from geneface_jax.training.loop import train  # noqa: E402
from geneface_jax.training.optimizers import log_norms  # noqa: E402
from geneface_jax.training.stages import get_stage  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", required=True, help="a dataset folder")
    parser.add_argument("--turns", type=int, default=4, help="turns of each side (the first of each, which compiles, apart)")
    parser.add_argument("--steps", type=int, default=32, help="steps of a turn, a multiple of 16")
    parser.add_argument("--devices", default="1,2,4,8", help="device counts, or nothing to leave that part out (default %(default)s)")
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
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n", encoding="utf-8")


def overhead(turns: int, steps: int, overrides: list[str]) -> dict[str, Any]:
    """Loop and bare step in turns, on one device."""
    plan = [f"train.steps={(turns + 1) * steps}", f"train.log_every={steps}", f"train.save_every={2 * steps}"]
    with devices.limited(1), tempfile.TemporaryDirectory() as workdir:
        stage = get_stage(configs.load("head:demo", [*overrides, *plan]))
        stage.evaluate = lambda state, data, step: _nothing()  # is judged at the end of a run whatever the config says
        bare = Bare(stage)
        seconds: dict[str, list[float]] = {"loop": [], "bare": []}
        began = [0.0]

        def take_turn(means):
            seconds["loop"].append((time.perf_counter() - began[0]) / steps)
            seconds["bare"].append(bare.turn(steps))
            began[0] = time.perf_counter()
            return []

        stage.remarks = take_turn
        train(stage.config, workdir, stage=stage)
    # The first turn of the loop compiles.
    loop, alone = np.array(seconds["loop"][1:]), np.array(seconds["bare"][1:])
    return {
        "turns": turns,
        "steps_a_turn": steps,
        "loop_ms": [round(1e3 * value, 1) for value in loop],
        "bare_ms": [round(1e3 * value, 1) for value in alone],
        "overhead_percent": round(100.0 * float(np.median(loop / alone) - 1.0), 2),
    }


def scaling(counts: list[int], turns: int, steps: int, overrides: list[str]) -> dict[str, float]:
    """Steps per second of the bare step by device count, medians over turns."""
    sides = {}
    for count in counts:
        with devices.limited(count):
            sides[count] = Bare(get_stage(configs.load("head:demo", overrides)))
            sides[count].turn(1)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(turns):
        for count, side in sides.items():
            with devices.limited(count):
                seconds[count].append(side.turn(steps))
    return {str(count): round(1.0 / float(np.median(values)), 3) for count, values in seconds.items()}


class Bare:
    """A compiled step on a state and one batch that stay on the devices."""

    def __init__(self, stage: Any):
        self._state = devices.replicate(stage.init(jax.random.key(0)))
        self._data = devices.replicate(stage.data())
        self._batch = devices.put(stage.host_batch(0))
        self._rng = devices.put_everywhere(jax.random.key(1))
        # The occupancy grid is refreshed at some step numbers: a turn goes through all of them, as the loop does.
        self._numbers = [devices.put_everywhere(np.int32(number)) for number in range(stage.config.march.update_every)]
        self._step = devices.parallel_step(log_norms(stage.train_step))

    def turn(self, steps: int) -> float:
        """Seconds a step, on average."""
        began = time.perf_counter()
        for step in range(steps):
            number = self._numbers[step % len(self._numbers)]
            self._state, metrics = self._step(self._state, self._data, self._batch, self._rng, number)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - began) / steps


def _nothing() -> Any:
    from geneface_jax.training.stage import Evaluation

    return Evaluation({})


if __name__ == "__main__":
    main()
