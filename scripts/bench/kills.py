"""Fault injection: kills a training run at random moments and checks that nothing is lost; exit code 0 if every check passes.

    python scripts/bench/kills.py [--kills 50] [--seed 0] [--folder DIR]

The run is the tests' toy stage, whose updates take no time, so it is saving nearly always. It is killed (SIGKILL) at random moments:
while compiling, updating, copying, writing, renaming or deleting. Before every restart the newest intact checkpoint is determined by
reading all of them; the run must resume from exactly that one. At the end the parameters, the optimizer state and the curve must equal
those of an uninterrupted run bit for bit. A restart takes a few seconds, 50 kills a few minutes.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from geneface_jax.io import checkpoints
from geneface_jax.training.reporting import read_metrics

ROOT = Path(__file__).resolve().parents[2]
SAVE_EVERY = 2
STEPS_PER_KILL = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument("--folder", type=Path, help="folder of the runs (default: a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return trial(args.folder or Path(temporary), args.kills, args.seed)


def trial(folder: Path, kills: int, seed: int) -> int:
    """Runs the trial; returns the exit code, 1 if a check failed."""
    draw = random.Random(seed)
    uninterrupted, killed = folder / "undisturbed", folder / "killed"
    steps = kills * STEPS_PER_KILL
    if start(uninterrupted, steps).wait() != 0:
        raise RuntimeError("the uninterrupted run failed")
    broken, partial, log = 0, 0, folder / "output.txt"
    for number in range(kills):
        expected = newest_intact(killed)
        process = start(killed, steps, log)
        # One in five is killed before its first update, the others some saves later, at any moment of an update or a save.
        target = expected if draw.random() < 0.2 else expected + draw.randrange(1, STEPS_PER_KILL)
        wait_for(lambda process=process, target=target: has_reached(target, killed, log) or process.poll() is not None)
        time.sleep(draw.uniform(0.0, 0.1))
        finished = process.poll() is not None
        process.kill()
        process.wait()
        broken += report(number, log.read_text(), expected, finished)
        partial += any(path.name.startswith(".") for path in (killed / checkpoints.FOLDER).glob(".*"))
        if finished:
            print("The run finished before all kills: increase STEPS_PER_KILL.")
            break
    expected = newest_intact(killed)
    code = start(killed, steps, log).wait()
    broken += report("the last start", log.read_text(), expected, True) + (code != 0)
    broken += not same_result(uninterrupted, killed)
    print(f"{kills} kills, {partial} of them during a save or a deletion, {broken} failed checks")
    return int(broken > 0)


def start(workdir: Path, steps: int, log: Path | None = None) -> subprocess.Popen:
    """Starts the toy run in a new process."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    command = [sys.executable, str(ROOT / "tests" / "toy_stage.py"), str(workdir), str(steps), str(SAVE_EVERY), "0"]
    with open(log or os.devnull, "w", encoding="utf-8") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)


def wait_for(done) -> None:
    while not done():
        time.sleep(0.01)


def has_reached(step: int, workdir: Path, log: Path) -> bool:
    """Whether the run is training and has saved this step or a later one."""
    return "steps on" in log.read_text(encoding="utf-8") and (checkpoints.steps(workdir) or [0])[-1] >= step


def newest_intact(workdir: Path) -> int:
    """The newest step whose files are all undamaged; 0 if there is none."""
    return next((step for step in reversed(checkpoints.steps(workdir)) if checkpoints.damage(workdir, step) is None), 0)


def report(number: int | str, output: str, expected: int, finished: bool) -> int:
    """1 if a start did not resume from `expected`, or failed by itself."""
    found = re.search(r"resumes from step (\d+)", output)
    at = int(found[1]) if found else 0
    failed = "Traceback" in output or (at != expected and "already at step" not in output)
    print(f"{number}: resumed from step {at}{'' if not failed else f', expected {expected}: FAILED'}{' (to the end)' if finished else ''}")
    return int(failed)


def same_result(a: Path, b: Path) -> bool:
    """Whether two runs have bitwise equal final states and logged every step once, with the same losses."""
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
