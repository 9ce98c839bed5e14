"""Writes the picture behind the person of a video, as `geneface prepare` would make it."""

import argparse

from data_tools.command_line import add_video_arguments, run_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    add_video_arguments(parser, "PNG to write")


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the picture's path last."""
    from data_tools.dataset.analyze import analyzed_video, write_picture

    with analyzed_video(args) as clip:
        write_picture(args.out, clip.analysis.background(args.size))
    print(args.out)
    return 0


if __name__ == "__main__":
    run_program()
