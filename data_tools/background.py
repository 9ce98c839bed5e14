"""The picture behind the person: `python -m data_tools.background VIDEO background.png`."""

import argparse

from data_tools.command_line import run_step
from data_tools.dataset.analyze import add_video_arguments, analyzed_video, write_picture


def main() -> None:
    """Writes the background of the crop that `geneface prepare` would make."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.background", description="The picture behind the person.")
    add_video_arguments(parser, "PNG to write")
    args = parser.parse_args()
    with analyzed_video(args) as clip:
        write_picture(args.out, clip.analysis.background(args.size))
    print(args.out)


if __name__ == "__main__":
    run_step(main)
