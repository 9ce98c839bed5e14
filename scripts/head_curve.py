"""Quality against training time: every kept checkpoint of a head on all held-out frames; the table is docs/head-training.md's.

    geneface train --config configs/head.py:demo --workdir SUBJECT/head … --config.train.keep=100
    python scripts/head_curve.py SUBJECT --out FIGURES.json [--every 1000]

Head protocol (docs/metrics.md). Minutes are those the run's log gives: updates over the rate of each log interval, without compilation,
saving and evaluation; `rate` (updates a second) is of where the run was disturbed least, for what an idle machine would take. No picture
is kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.io import write_json
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.heldout import Target, heldout_target, render_target, score_render
from geneface_jax.evaluation.metrics import Perceptual
from geneface_jax.io import checkpoints

REGIONS = ("face hull", "head", "mouth", "frame")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path, help="a folder with dataset/ and head/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1000, help="checkpoints at multiples of this, and the last")
    args = parser.parse_args()
    target = heldout_target(Subject.load(args.subject / "dataset"))
    steps = checkpoints.steps(args.subject / "head")
    chosen = [step for step in steps if step % args.every == 0 or step == steps[-1]]
    minutes, rate = training_time(args.subject / "head" / "metrics.jsonl", chosen)
    rows = []
    for step in chosen:
        rows.append({"step": step, "minutes": round(minutes[step], 2), **scores(args.subject, step, target)})
        print(rows[-1], flush=True)
    config = checkpoints.without_folders(checkpoints.read_meta(args.subject / "head", steps[-1])["config"])
    frames = {"held_out_frames": len(target.frames), "size": target.size, "protocol": "head"}
    write_json(args.out, {**frames, "rate": round(rate, 2), "curve": rows, "config": config})


def training_time(log: Path, steps: list[int]) -> tuple[dict[int, float], float]:
    """Minutes until each step, and the 90th percentile of the updates per second.

    Args:
      log: a run's metrics.jsonl.
      steps: those that are asked for.
    """
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    logged = {row["step"]: row["steps_per_second"] for row in lines if row.get("steps_per_second")}
    spent, total = {}, 0.0
    for before, step in itertools.pairwise([0, *sorted(logged)]):
        total += (step - before) / logged[step] / 60.0
        spent[step] = total
    return {step: spent[max(known for known in spent if known <= step)] for step in steps}, float(np.percentile(list(logged.values()), 90))


def scores(subject: Path, step: int, target: Target) -> dict[str, Any]:
    """PSNR (dB) of every region, and LPIPS of the face hull's box and the frame where its weights are installed, of one checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        person = Path(folder)
        (person / "dataset").symlink_to((subject / "dataset").resolve())
        (person / "head" / checkpoints.FOLDER).mkdir(parents=True)
        kept = (subject / "head" / checkpoints.FOLDER / str(step)).resolve()
        (person / "head" / checkpoints.FOLDER / str(step)).symlink_to(kept)
        pixels = score_render(target, render_target(person, target, "head"), faces=False, perceptual=Perceptual.find(None))["pixels"]
    found = {f"{name} PSNR": round(pixels[name]["psnr"], 3) for name in REGIONS}
    return found | {f"{name} LPIPS": round(pixels[name]["lpips"], 4) for name in REGIONS if "lpips" in pixels[name]}


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
