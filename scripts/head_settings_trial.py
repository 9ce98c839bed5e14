"""What each setting of the head's training brings on held-out frames, with equal steps; the table is docs/head-training.md's.

    python scripts/head_settings_trial.py SUBJECT --out FIGURES.json [--steps 1000] [--only NAME ...]

SUBJECT holds a full `dataset/`; the heads are trained in a temporary folder. All held-out frames are scored by the head protocol (see
docs/metrics.md). Of a run with a moving average both are scored, the average and the iterate behind it: the average does not change
how the iterate moves. No picture is kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_tools.io import read_json, write_json
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.heldout import Target, heldout_target, render_target, score_render
from geneface_jax.inference.renderer import SubjectRenderer  # noqa: F401  (imported before a long run, not after it)
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.training.loop import train

AVERAGE = ["optimizer.ema=0.99"]
REFINED = [*AVERAGE, "pose_refinement.start=150"]
SETTINGS = {
    "baseline": AVERAGE,
    "poses": [*REFINED, "pose_refinement.lr=2e-5"],
    "poses, quick": [*REFINED, "pose_refinement.lr=1e-4"],
    "lips": [*AVERAGE, "lips.weight=0.01", "lips.start=400", "lips.ramp=50"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    target = heldout_target(Subject.load(args.subject))
    figures = read_json(args.out) if args.out.is_file() else {"subject": args.subject.name, "settings": {}}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            figures["settings"][name] = trial(args.subject, Path(folder), SETTINGS[name], args.steps, target)
        write_json(args.out, figures)
        print(name, figures["settings"][name], flush=True)


def trial(subject: Path, folder: Path, overrides: list[str], steps: int, target: Target) -> dict[str, Any]:
    """Trains a head and scores it."""
    dataset = (subject / "dataset").resolve()
    plan = [f"data.subject={dataset}", f"train.steps={steps}", "train.eval_every=0", "train.save_every=0"]
    started = time.perf_counter()
    workdir = train(configs.load("head:demo", [*plan, *overrides]), folder / "head")
    minutes = (time.perf_counter() - started) / 60
    (folder / "dataset").symlink_to(dataset)
    found = {"overrides": overrides, "steps": steps, "minutes": round(minutes, 2), "average": figures_of(folder, target)}
    checkpoint = checkpoints.load(workdir, drop=())
    learnt = {name: checkpoint.state[name] for name in ("params", "poses") if name in checkpoint.state}
    iterate = jax.tree.map(np.add, learnt, checkpoint.state["opt_state"]["ahead"])
    checkpoints.save(workdir, steps, {**checkpoint.state, **iterate}, {"config": checkpoint.config})
    return {**found, "iterate": figures_of(folder, target)}


def figures_of(subject: Path, target: Target) -> dict[str, float]:
    """PSNR (dB) of the face hull, the mouth and the frame, and LPIPS (AlexNet) of the frame."""
    distances: list[float] = []
    weights = load_lpips("alex")

    def each(truth: np.ndarray, image: np.ndarray) -> None:
        a, b = (picture[None].astype(np.float32) / 255.0 for picture in (truth, image))
        distances.append(float(lpips(a, b, weights)[0]))

    pixels = score_render(target, render_target(subject, target, "head"), each, faces=False)["pixels"]
    scores = {name: round(pixels[name]["psnr"], 3) for name in ("face hull", "mouth", "frame")}
    return {**scores, "lpips": round(float(np.mean(distances)), 5)}


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
