"""Kills a training run at random moments and shows that nothing is lost; exit code 0 means that every promise held.

    python scripts/bench/kills.py [--kills 50] [--seed 0] [--folder DIR]

The run is the tests' toy stage, whose updates take no time: it is nearly always saving. Each time it is killed (SIGKILL) at a random
moment, whatever it is doing: compiling, updating, copying, writing, renaming, deleting. Before every restart the newest whole
checkpoint is found by reading all of them; the restart must go on from just that one. At the end the parameters, the optimiser and the
curve must equal those of a run that nobody disturbed, bit for bit. A restart takes a few seconds, so 50 kills take some minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from geneface_jax.io import checkpoints  # noqa: E402
from geneface_jax.training.reporting import read_metrics  # noqa: E402

SAVE_EVERY = 2
STEPS_PER_KILL = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs go; a temporary folder when left out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return trial(args.folder or Path(temporary), args.kills, args.seed)


def trial(folder: Path, kills: int, seed: int) -> int:
    """Runs the trial; returns the number of broken promises."""
    draw = random.Random(seed)
    whole, killed = folder / "undisturbed", folder / "killed"
    steps = kills * STEPS_PER_KILL
    if start(whole, steps).wait() != 0:
        raise RuntimeError("the undisturbed run failed")
    broken, partial, log = 0, 0, folder / "output.txt"
    for number in range(kills):
        expected = newest_whole(killed)
        process = start(killed, steps, log)
        # One in five dies before its first update, the others some saves later, at any moment of an update or a save.
        target = expected if draw.random() < 0.2 else expected + draw.randrange(1, STEPS_PER_KILL)
        wait_for(lambda process=process, target=target: has_come_to(target, killed, log) or process.poll() is not None)
        time.sleep(draw.uniform(0.0, 0.1))
        finished = process.poll() is not None
        process.kill()
        process.wait()
        broken += report(number, log.read_text(), expected, finished)
        partial += any(path.name.startswith(".") for path in (killed / checkpoints.FOLDER).glob(".*"))
        if finished:
            print("the run was done before all kills: raise STEPS_PER_KILL")
            break
    expected = newest_whole(killed)
    code = start(killed, steps, log).wait()
    broken += report("the last start", log.read_text(), expected, True) + (code != 0)
    broken += not same_end(whole, killed)
    print(f"{kills} kills, {partial} of them inside a save or a deletion, {broken} broken promises")
    return int(broken > 0)


def start(workdir: Path, steps: int, log: Path | None = None) -> subprocess.Popen:
    """The toy run in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    command = [sys.executable, str(ROOT / "tests" / "toy_stage.py"), str(workdir), str(steps), str(SAVE_EVERY), "0"]
    with open(log or os.devnull, "w", encoding="utf-8") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)


def wait_for(done) -> None:
    while not done():
        time.sleep(0.01)


def has_come_to(step: int, workdir: Path, log: Path) -> bool:
    """Whether the run has begun to train, and has saved this step or a later one."""
    return "steps on" in log.read_text(encoding="utf-8") and (checkpoints.steps(workdir) or [0])[-1] >= step


def newest_whole(workdir: Path) -> int:
    """The newest step whose files are all as they were written; 0 where there is none."""
    return next((step for step in reversed(checkpoints.steps(workdir)) if checkpoints.damage(workdir, step) is None), 0)


def report(number: int | str, output: str, expected: int, finished: bool) -> int:
    """1 when a start did not go on from `expected`, or failed by itself."""
    found = re.search(r"goes on from step (\d+)", output)
    at = int(found[1]) if found else 0
    failed = "Traceback" in output or (at != expected and "already at step" not in output)
    print(f"{number}: went on from step {at}{'' if not failed else f', expected {expected}: BROKEN'}{' (to the end)' if finished else ''}")
    return int(failed)


def same_end(a: Path, b: Path) -> bool:
    """Whether two runs ended in the same bits and logged every step once, with the same losses."""
    states = [checkpoints.read_arrays(workdir) for workdir in (a, b)]
    (one, step), (two, other) = states
    same = step == other and one.keys() == two.keys() and all(one[name].tobytes() == two[name].tobytes() for name in one)
    curves = [[(row["step"], row["tr/loss"]) for row in read_metrics(workdir) if "tr/loss" in row] for workdir in (a, b)]
    logged = [step for step, _ in curves[1]]
    print(
        f"state {'equal' if same else 'DIFFERENT'}, curve {'equal' if dict(curves[0]).items() <= dict(curves[1]).items() else 'DIFFERENT'}"
    )
    return same and logged == sorted(set(logged)) and dict(curves[0]) == dict(curves[1])


if __name__ == "__main__":
    sys.exit(main())
