"""Chooses the checkpoint of a PostNet that inference uses: lowest validation sync and error, undecided discriminator, fewest steps.

Prints a ranked table with reasons, says when the run collapsed or ended too early, and writes WORKDIR/selected.json and selected.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geneface_jax.training.curve_picture import Chart
    from geneface_jax.training.select_postnet import Selection

COLUMNS = ("step", "sync", "mse", "disc_pos_conf", "disc_neg_conf", "adv", "diversity", "frechet", "cost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("workdir", metavar="WORKDIR", help="work folder of a trained PostNet, SUBJECT/postnet")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="costs this near to the lowest are level: fewest steps win (default 0.1)"
    )
    parser.add_argument("--png", metavar="FILE", help="where the curves go (default: WORKDIR/selected.png)")
    parser.add_argument("--dry-run", action="store_true", help="only print: write neither selected.json nor the curves")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the chosen step's file last."""
    from geneface_jax.errors import InputError
    from geneface_jax.io import selected
    from geneface_jax.training.curve_picture import draw_curves, save_png
    from geneface_jax.training.select_postnet import Rules, select

    if args.tolerance is not None and not args.tolerance >= 0:
        raise InputError(f"--tolerance is {args.tolerance}; give a number from 0 (the cheapest wins, however late) upwards.")
    selection = select(args.workdir, Rules() if args.tolerance is None else Rules(tolerance=args.tolerance))
    print(table(selection))
    for finding in selection.findings:
        print(finding)
    print(f"run: {selection.verdict}; choice: step {selection.step}")
    if args.dry_run:
        return 0
    heading = f"PostNet {Path(args.workdir).resolve().parent.name}: step {selection.step} chosen, run {selection.verdict}"
    save_png(draw_curves(charts(args.workdir), selection.step, heading), args.png or Path(args.workdir) / "selected.png")
    print(selected.write(args.workdir, selection.step, selection.record()))
    return 0


def table(selection: Selection) -> str:
    """The candidates, best first, as aligned text."""
    rows = [["rank", *COLUMNS, "reason"]]
    for candidate in selection.candidates:
        numbers = [getattr(candidate, name) for name in COLUMNS]
        cells = ["-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}" for value in numbers]
        rows.append([str(candidate.rank), *cells, candidate.reason])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows)


def charts(workdir: str) -> list[Chart]:
    """The curves that the choice rests on; the updates before the adversarial ones are left out."""
    from geneface_jax.training.curve_picture import Chart
    from geneface_jax.training.select_postnet import adversarial_start
    from geneface_jax.training.summaries import read_metrics

    first = adversarial_start(workdir)
    rows = [row for row in read_metrics(workdir) if row["step"] > first]

    def chart(title: str, tags: dict[str, str], *guides: float) -> Chart:
        return Chart(title, {name: [(int(row["step"]), row[tag]) for row in rows if tag in row] for name, tag in tags.items()}, guides)

    return [
        chart("val/sync (lower is better)", {"PostNet": "val/sync"}),
        chart("val/mse (lower is better)", {"PostNet": "val/mse", "VAE alone": "val_vae/mse"}),
        chart("discriminator (0.5: undecided)", {"the person": "tr/disc_pos_conf", "generated": "tr/disc_neg_conf"}, 0.5),
        chart("adversarial loss of the generator (0.25: undecided)", {"tr/adv": "tr/adv"}, 0.25),
        chart("diversity (0: the same face for any speech)", {"PostNet": "val/diversity", "VAE alone": "val_vae/diversity"}, 0.0),
        chart("Frechet distance to the person (lower is better)", {"PostNet": "val/frechet", "VAE alone": "val_vae/frechet"}),
    ]
