"""Selects the PostNet checkpoint for inference: lowest validation sync loss and error, undecided discriminator, fewest steps.

Prints a ranked table with reasons, reports a collapsed or under-trained run, and writes WORKDIR/selected.json and selected.png.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    parser.add_argument("workdir", metavar="WORKDIR", help="work folder of a trained PostNet, SUBJECT/postnet")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="cost difference to the lowest that counts as a tie, won by fewer steps (default 0.1)"
    )
    parser.add_argument("--png", metavar="FILE", help="file for the plot of the curves (default: WORKDIR/selected.png)")
    parser.add_argument("--dry-run", action="store_true", help="only print; write neither selected.json nor the plot")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints the path of selected.json last."""
    from data_tools.errors import InputError
    from data_tools.io import hold, require_output
    from geneface_jax.io.checkpoints import write_selected_step
    from geneface_jax.io.configs import require_not_installed
    from geneface_jax.training.reporting import draw_curves, save_png
    from geneface_jax.training.select_postnet import Rules, charts, select, table

    if args.tolerance is not None and not args.tolerance >= 0:
        raise InputError(f"--tolerance is {args.tolerance}: give 0 (the lowest cost wins, at any step) or more.")
    selection = select(args.workdir, Rules() if args.tolerance is None else Rules(tolerance=args.tolerance))
    print(table(selection))
    for finding in selection.findings:
        print(finding)
    print(f"run: {selection.verdict}; choice: step {selection.step}")
    if args.dry_run:
        return 0
    require_not_installed(args.workdir, "add --dry-run")
    png = args.png or Path(args.workdir) / "selected.png"
    require_output(png, option="--png")
    heading = f"PostNet {Path(args.workdir).resolve().parent.name}: step {selection.step} chosen, run {selection.verdict}"
    with hold(args.workdir, "geneface select-postnet"):
        save_png(draw_curves(charts(args.workdir), selection.step, heading), png)
        print(write_selected_step(args.workdir, selection.step, selection.record()))
    return 0
