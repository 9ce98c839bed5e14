"""The picture behind the person: `python -m data_tools.background VIDEO background.png`."""

from __future__ import annotations

import argparse

import cv2

from data_tools.command_line import run_step
from data_tools.dataset.analyze import add_video_arguments, analyzed_video
from data_tools.io import write_bytes


def main() -> None:
    """Writes the background of the crop that `geneface prepare` would make."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.background", description="The picture behind the person.")
    add_video_arguments(parser, "PNG to write")
    args = parser.parse_args()
    with analyzed_video(args) as clip:
        write_bytes(args.out, cv2.imencode(".png", clip.analysis.background(args.size)[..., ::-1])[1].tobytes())
    print(args.out)


if __name__ == "__main__":
    run_step(main)
