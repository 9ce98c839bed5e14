"""What super-resolution brings over plain enlargement, on a person's held-out frames; the table is docs/head-training.md's.

    python scripts/super_resolution_trial.py SUBJECT --out FIGURES.json [--steps 300]

SUBJECT holds a full `dataset/` and a trained `head/`. A `head_sr` goes on from that head in a temporary folder. All held-out frames are
scored by the head protocol (docs/metrics.md): the network; bilinear and bicubic enlargement of the same small pictures and of those that
the head rendered before; and the head at full size, which costs four times as many rays. No picture is kept.
"""

from __future__ import annotations

import argparse
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

from data_tools.io import write_json
from geneface_jax.data.pixel_sampling import over
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.heldout import Target, heldout_target, score_render
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.field.super_resolution import halved
from geneface_jax.training.loop import train
from geneface_jax.training.stages.head_sr import HeadSrStage, doubled, make

PLAIN = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    dataset, head = (args.subject / "dataset").resolve(), (args.subject / "head").resolve()
    target = heldout_target(Subject.load(dataset))
    plan = [f"data.subject={dataset}", f"data.head={head}", f"train.steps={args.steps}", "train.eval_every=0", "train.save_every=0"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        workdir = train(configs.load("head_sr:demo", plan), Path(folder) / "head_sr")
        minutes = (time.perf_counter() - started) / 60
        state = checkpoints.load(workdir).state
    stage = make(configs.load("head_sr:demo", plan))
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


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
