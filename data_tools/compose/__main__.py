"""`python -m data_tools.compose --face MP4 --into VIDEO --out MP4 --crop JSON_OR_SUBJECT`."""

import argparse

from data_tools.command import run_step
from data_tools.compose import command


def main() -> None:
    """Command line; prints the video's path last."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.compose", description=command.__doc__)
    command.add_arguments(parser)
    command.run(parser.parse_args())


if __name__ == "__main__":
    run_step(main)
