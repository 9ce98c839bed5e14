"""Renders a dataset's report again: `python -m data_tools.dataset DATASET`."""

import argparse
from pathlib import Path

from data_tools.command_line import run_step
from data_tools.dataset.report import rewrite_page


def main() -> None:
    """Rewrites report.html from report.json and the pictures, and prints its path."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.dataset", description="Renders a dataset's report.html again.")
    parser.add_argument("dataset", type=Path, help="the dataset folder")
    print(rewrite_page(parser.parse_args().dataset))


if __name__ == "__main__":
    run_step(main)
