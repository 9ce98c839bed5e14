"""Writes a dataset's report.html again, from its report.json and pictures."""

import argparse
from pathlib import Path

from data_tools.command_line import run_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="the dataset folder")


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the page's path last."""
    from data_tools.dataset.report import rewrite_page

    print(rewrite_page(args.dataset))
    return 0


if __name__ == "__main__":
    run_program()
