"""Trials of the head's training, scored on a person's held-out frames; docs/head-training.md has the tables.

    geneface train --config configs/head.py:demo --workdir SUBJECT/head … --config.train.keep=100
    python scripts/bench/head_trials.py curve SUBJECT --out FIGURES.json [--every 1000]
    python scripts/bench/head_trials.py settings SUBJECT --out FIGURES.json [--steps 1000] [--only NAME ...]
    python scripts/bench/head_trials.py super-resolution SUBJECT --out FIGURES.json [--steps 300]

All held-out frames are scored by the head protocol (docs/metrics.md). No image is written.
"""

import argparse
import itertools
import json
import os
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
from geneface_jax.training.field_losses import halved
from geneface_jax.training.loop import train
from geneface_jax.training.stages.head import HeadSrStage, doubled

# -------- Quality against training time

REGIONS = ("face hull", "head", "mouth", "frame")


def curve(args: argparse.Namespace) -> None:
    """Scores every kept checkpoint of a head.

    Minutes are computed from the run's log (updates divided by the rate of each log interval), without compilation, saving and evaluation;
    `rate` (updates per second) is of the least disturbed intervals, an estimate for an idle machine.
    """
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
    """Minutes until each of `steps`, and the 90th percentile of the updates per second, from a run's metrics.jsonl."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    logged = {row["step"]: row["steps_per_second"] for row in lines if row.get("steps_per_second")}
    minutes, total = {}, 0.0
    for previous, step in itertools.pairwise([0, *sorted(logged)]):
        total += (step - previous) / logged[step] / 60.0
        minutes[step] = total
    last_logged = {step: max(at for at in minutes if at <= step) for step in steps}
    return {step: minutes[at] for step, at in last_logged.items()}, float(np.percentile(list(logged.values()), 90))


def scores(subject: Path, step: int, target: Target) -> dict[str, Any]:
    """Scores of one checkpoint: PSNR (dB) of every region, and LPIPS of the face hull's box and the frame if its weights are installed."""
    with tempfile.TemporaryDirectory() as folder:
        person = Path(folder)
        (person / "dataset").symlink_to((subject / "dataset").resolve())
        (person / "head" / checkpoints.FOLDER).mkdir(parents=True)
        checkpoint = (subject / "head" / checkpoints.FOLDER / str(step)).resolve()
        (person / "head" / checkpoints.FOLDER / str(step)).symlink_to(checkpoint)
        pixels = score_render(target, render_target(person, target, "head"), faces=False, perceptual=Perceptual.find(None))["pixels"]
    found = {f"{name} PSNR": round(pixels[name]["psnr"], 3) for name in REGIONS}
    return found | {f"{name} LPIPS": round(pixels[name]["lpips"], 4) for name in REGIONS if "lpips" in pixels[name]}


# -------- Effect of each training option

AVERAGE = ["optimizer.ema=0.99"]
REFINED = [*AVERAGE, "pose_refinement.start=150"]
SETTINGS = {
    "baseline": AVERAGE,
    "poses": [*REFINED, "pose_refinement.lr=2e-5"],
    "poses, quick": [*REFINED, "pose_refinement.lr=1e-4"],
    "lips": [*AVERAGE, "lips.weight=0.01", "lips.start=400", "lips.ramp=50"],
}


def settings(args: argparse.Namespace) -> None:
    """Trains and scores a head per setting, with equal steps, in a temporary folder.

    Both the moving average of the parameters and the parameters themselves are scored: the average does not influence the training.
    """
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
    averaged = {name: checkpoint.state[name] for name in ("params", "poses") if name in checkpoint.state}
    iterate = jax.tree.map(np.add, averaged, checkpoint.state["opt_state"]["ahead"])
    checkpoints.save(workdir, steps, {**checkpoint.state, **iterate}, {"config": checkpoint.config})
    return {**found, "iterate": figures_of(folder, target)}


def figures_of(subject: Path, target: Target) -> dict[str, float]:
    """PSNR (dB) of the face hull, the mouth and the frame, and LPIPS (AlexNet) of the frame."""
    distances: list[float] = []
    weights = load_lpips("alex")

    def measure(truth: np.ndarray, image: np.ndarray) -> None:
        a, b = (picture[None].astype(np.float32) / 255.0 for picture in (truth, image))
        distances.append(float(lpips(a, b, weights)[0]))

    pixels = score_render(target, render_target(subject, target, "head"), measure, faces=False)["pixels"]
    scores = {name: round(pixels[name]["psnr"], 3) for name in ("face hull", "mouth", "frame")}
    return {**scores, "lpips": round(float(np.mean(distances)), 5)}


# -------- Super-resolution against plain upsampling

PLAIN = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def super_resolution(args: argparse.Namespace) -> None:
    """Trains a `head_sr` from a person's head, in a temporary folder, and compares it with plain upsampling.

    Scored are the super-resolution network; bilinear and bicubic upsampling of the same small images and of those of the original head;
    and the original head at full size, which needs four times as many rays.
    """
    dataset, head = (args.subject / "dataset").resolve(), (args.subject / "head").resolve()
    target = heldout_target(Subject.load(dataset))
    plan = [f"data.subject={dataset}", f"data.head={head}", f"train.steps={args.steps}", "train.eval_every=0", "train.save_every=0"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        workdir = train(configs.load("head_sr:demo", plan), Path(folder) / "head_sr")
        minutes = (time.perf_counter() - started) / 60
        state = checkpoints.load(workdir).state
    stage = HeadSrStage(configs.load("head_sr:demo", plan))
    rows = compare(stage, state, checkpoints.load(head).state, target)
    figures = {"subject": args.subject.name, "steps": args.steps, "minutes": round(minutes, 2), "size": target.size, "rows": rows}
    write_json(args.out, figures)
    for name, row in rows.items():
        print(f"{name:32s} {row}")


def compare(stage: HeadSrStage, state: Any, original: Any, target: Target) -> dict[str, dict[str, float]]:
    """PSNR by region of each method that produces a full-size frame."""
    variables = {"params": state["params"]["super_resolution"], "constants": state["constants"]}
    enlarge = jax.jit(stage.network.apply)

    def network(small: np.ndarray) -> np.ndarray:
        return np.asarray(enlarge(variables, jnp.asarray(small)[None])[0])

    def plain(kind: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
        return lambda small: doubled(small, kind)

    trained, old = (state["params"]["head"], state["occupancy"]["grid"]), (original["params"], original["occupancy"]["grid"])
    methods = {"network": (trained, True, network)}
    methods |= {f"{name}, same head": (trained, True, plain(kind)) for name, kind in PLAIN.items()}
    methods |= {f"{name}, head before": (old, True, plain(kind)) for name, kind in PLAIN.items()}
    methods["head before at full size"] = (old, False, lambda image: image)
    rows = {}
    for name, (head, small, upsample) in methods.items():
        pixels = score_render(target, images(stage, head, target, small, upsample), faces=False)["pixels"]
        rows[name] = {region: round(score["psnr"], 3) for region, score in pixels.items()}
    return rows


def images(
    stage: HeadSrStage, head: tuple[Any, Any], target: Target, small: bool, upsample: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yields uint8 [size, size, 3] for each of the target's frames; `small` renders at half the size."""
    params, grid = head
    occupied = occupancy.occupied(jnp.asarray(grid), stage.config.march.density_threshold)
    for frame in target.frames:
        background = over(stage.subject.torso([frame]), stage.subject.background)
        background = (halved(background) if small else background)[0].astype(np.float32) / 255.0
        image, _, _ = stage.heldout_picture(params, occupied, frame, background)
        yield np.round(np.clip(upsample(image), 0.0, 1.0) * 255.0).astype(np.uint8)


# -------- Command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials = parser.add_subparsers(required=True)
    for name, run, content in (
        ("curve", curve, "dataset/ and head/"),
        ("settings", settings, "a full dataset/"),
        ("super-resolution", super_resolution, "a full dataset/ and head/"),
    ):
        trial_parser = trials.add_parser(name, description=run.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        trial_parser.add_argument("subject", type=Path, metavar="SUBJECT", help=f"folder with {content}")
        trial_parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
        trial_parser.set_defaults(trial=run)
    trials.choices["curve"].add_argument(
        "--every", type=int, default=1000, help="score steps that are a multiple, and the last one (%(default)s)"
    )
    trials.choices["settings"].add_argument("--steps", type=int, default=1000, help="updates per setting (default %(default)s)")
    trials.choices["settings"].add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS), help="settings (default: all)")
    trials.choices["super-resolution"].add_argument("--steps", type=int, default=300, help="updates (default %(default)s)")
    args = parser.parse_args()
    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
    args.trial(args)


if __name__ == "__main__":
    main()
