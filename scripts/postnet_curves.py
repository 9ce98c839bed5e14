"""Draws the curves of a PostNet run as docs/training.md explains them, with a collapsed run beside it where one is given.

python scripts/postnet_curves.py runs/select_postnet/seed_1 docs/images/postnet-curves.png --collapsed runs/select_postnet/collapsed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from geneface_jax.training.reporting import read_metrics, save_png
from geneface_jax.training.select_postnet import adversarial_start, select

INK, OURS, OTHER, MARK = "#26323f", "#266298", "#d68222", "#c45c5c"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="work folder of a PostNet")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--collapsed", type=Path, metavar="RUN", help="work folder of a run that collapsed, for comparison")
    args = parser.parse_args()
    plt.switch_backend("Agg")  # no window
    print(draw(args.run, args.out, args.collapsed))


def draw(run: Path, out: Path, collapsed: Path | None) -> Path:
    """Writes the picture and returns its path. Raises InputError as `geneface select-postnet` does."""
    chosen = select(run)
    rows = [row for row in read_metrics(run) if row["step"] > adversarial_start(run)]
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.2), dpi=110, layout="constrained")
    (sync, error), (score, diversity) = axes

    sync.set_title("1  val/sync: low, but not at any price")
    line(sync, rows, "val/sync", "PostNet", OURS)
    error.set_title("2  val/mse: still falling = train on")
    line(error, rows, "val/mse", "PostNet", OURS)
    line(error, rows, "val_vae/mse", "the VAE alone", OTHER)
    score.set_title("3  discriminator: 0.5 for both = undecided")
    line(score, rows, "tr/disc_pos_conf", "the person's frames", OURS)
    line(score, rows, "tr/disc_neg_conf", "generated frames", OTHER)
    score.axhline(0.5, color=INK, lw=0.8, ls=":")
    diversity.set_title("4  val/diversity: near 0 = the same face for any speech")
    line(diversity, rows, "val/diversity", "PostNet", OURS)
    line(diversity, rows, "val_vae/diversity", "the VAE alone", OTHER)
    if collapsed:
        fallen = [row for row in read_metrics(collapsed) if row["step"] > adversarial_start(collapsed)]
        line(diversity, fallen, "val/diversity", "a collapsed run", MARK)
    diversity.set_ylim(bottom=0)
    for panel in axes.flat:
        panel.axvline(chosen.step, color=MARK, lw=1.2)
        panel.grid(color="#dddddd", lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("update")
        panel.legend(frameon=False, fontsize=9)
    figure.suptitle(f"PostNet curves, verdict: {chosen.verdict}. Red line: step {chosen.step}, which `geneface select-postnet` chooses")
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    return save_png(Image.fromarray(pixels[..., :3]), out)


def line(panel: Axes, rows: list[dict], tag: str, name: str, colour: str) -> None:
    """One curve over the updates at which `tag` was logged."""
    points = [(row["step"], row[tag]) for row in rows if tag in row]
    panel.plot(*zip(*points, strict=True), marker="o", ms=3, lw=1.6, color=colour, label=name)


if __name__ == "__main__":
    main()
