"""Trials of the head's training on a person's held-out frames; their tables stand in docs/head-training.md.

python scripts/bench/head_trials.py curve|settings|super-resolution ARGUMENTS
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy
from PIL import Image

from data_tools.io import read_json, write_json
from geneface_jax.data.pixel_sampling import over
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.heldout import Target, heldout_target, render_target, score_render
from geneface_jax.evaluation.metrics import Perceptual
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.weights import load_lpips
from geneface_jax.models.lpips import lpips
from geneface_jax.training.field.super_resolution import halved
from geneface_jax.training.loop import train
from geneface_jax.training.stages.head import HeadSrStage, doubled

# ----------------------------------------------------------------------------------------------------
# Quality against training time: every kept checkpoint of a head on all held-out frames; the table is docs/head-training.md's.
#
#     geneface train --config configs/head.py:demo --workdir SUBJECT/head … --config.train.keep=100
#     python scripts/bench/head_trials.py curve SUBJECT --out FIGURES.json [--every 1000]
#
# Head protocol (docs/metrics.md). Minutes are those the run's log gives: updates over the rate of each log interval, without compilation,
# saving and evaluation; `rate` (updates a second) is of where the run was disturbed least, for what an idle machine would take. No picture
# is kept.

REGIONS = ("face hull", "head", "mouth", "frame")


def curve(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path, help="a folder with dataset/ and head/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1000, help="checkpoints at multiples of this, and the last")
    args = parser.parse_args(argv)
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


# ----------------------------------------------------------------------------------------------------
# What each setting of the head's training brings on held-out frames, with equal steps; the table is docs/head-training.md's.
#
#     python scripts/bench/head_trials.py settings SUBJECT --out FIGURES.json [--steps 1000] [--only NAME ...]
#
# SUBJECT holds a full `dataset/`; the heads are trained in a temporary folder. All held-out frames are scored by the head protocol (see
# docs/metrics.md). Of a run with a moving average both are scored, the average and the iterate behind it: the average does not change
# how the iterate moves. No picture is kept.

# noqa: F401  (imported before a long run, not after it)

AVERAGE = ["optimizer.ema=0.99"]
REFINED = [*AVERAGE, "pose_refinement.start=150"]
SETTINGS = {
    "baseline": AVERAGE,
    "poses": [*REFINED, "pose_refinement.lr=2e-5"],
    "poses, quick": [*REFINED, "pose_refinement.lr=1e-4"],
    "lips": [*AVERAGE, "lips.weight=0.01", "lips.start=400", "lips.ramp=50"],
}


def settings(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args(argv)
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
    trained = {name: checkpoint.state[name] for name in ("params", "poses") if name in checkpoint.state}
    iterate = jax.tree.map(np.add, trained, checkpoint.state["opt_state"]["ahead"])
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


# ----------------------------------------------------------------------------------------------------
# What super-resolution brings over plain enlargement, on a person's held-out frames; the table is docs/head-training.md's.
#
#     python scripts/bench/head_trials.py super-resolution SUBJECT --out FIGURES.json [--steps 300]
#
# SUBJECT holds a full `dataset/` and a trained `head/`. A `head_sr` goes on from that head in a temporary folder. All held-out frames are
# scored by the head protocol (docs/metrics.md): the network; bilinear and bicubic enlargement of the same small pictures and of those that
# the head rendered before; and the head at full size, which costs four times as many rays. No picture is kept.

PLAIN = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def super_resolution(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args(argv)
    dataset, head = (args.subject / "dataset").resolve(), (args.subject / "head").resolve()
    target = heldout_target(Subject.load(dataset))
    plan = [f"data.subject={dataset}", f"data.head={head}", f"train.steps={args.steps}", "train.eval_every=0", "train.save_every=0"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        workdir = train(configs.load("head_sr:demo", plan), Path(folder) / "head_sr")
        minutes = (time.perf_counter() - started) / 60
        state = checkpoints.load(workdir).state
    stage = HeadSrStage(configs.load("head_sr:demo", plan))
    before = checkpoints.load(head).state
    rows = compare(stage, state, before, target)
    figures = {"subject": args.subject.name, "steps": args.steps, "minutes": round(minutes, 2), "size": target.size, "rows": rows}
    write_json(args.out, figures)
    for name, row in rows.items():
        print(f"{name:32s} {row}")


def compare(stage: HeadSrStage, state: Any, before: Any, target: Target) -> dict[str, dict[str, float]]:
    """PSNR by region of each way to make a full-size frame."""
    variables = {"params": state["params"]["super_resolution"], "constants": state["constants"]}
    enlarge = jax.jit(stage.network.apply)

    def network(small: np.ndarray) -> np.ndarray:
        return np.asarray(enlarge(variables, jnp.asarray(small)[None])[0])

    def plain(kind: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
        return lambda small: doubled(small, kind)

    trained, old = (state["params"]["head"], state["occupancy"]["grid"]), (before["params"], before["occupancy"]["grid"])
    ways = {"network": (trained, True, network)}
    ways |= {f"{name}, same head": (trained, True, plain(kind)) for name, kind in PLAIN.items()}
    ways |= {f"{name}, head before": (old, True, plain(kind)) for name, kind in PLAIN.items()}
    ways["head before at full size"] = (old, False, lambda picture: picture)
    rows = {}
    for name, (head, small, finish) in ways.items():
        pixels = score_render(target, pictures(stage, head, target, small, finish), faces=False)["pixels"]
        rows[name] = {region: round(score["psnr"], 3) for region, score in pixels.items()}
    return rows


def pictures(
    stage: HeadSrStage, head: tuple[Any, Any], target: Target, small: bool, finish: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields uint8 [size, size, 3], one for each of the target's frames."""
    params, grid = head
    occupied = occupancy.occupied(jnp.asarray(grid), stage.config.march.density_threshold)
    for frame in target.frames:
        behind = over(stage.subject.torso([frame]), stage.subject.background)
        behind = (halved(behind) if small else behind)[0].astype(np.float32) / 255.0
        picture, _, _ = stage.heldout_picture(params, occupied, frame, behind)
        yield np.round(np.clip(finish(picture), 0.0, 1.0) * 255.0).astype(np.uint8)


TRIALS = {"curve": curve, "settings": settings, "super-resolution": super_resolution}


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if len(sys.argv) < 2 or sys.argv[1] not in TRIALS:
        sys.exit(f"{__doc__}\nGive one of: {', '.join(TRIALS)}")
    TRIALS[sys.argv[1]](sys.argv[2:])
