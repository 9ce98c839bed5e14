"""Masks of a video: `python -m data_tools.segmentation VIDEO FOLDER`."""

import argparse

import numpy as np

from data_tools.command_line import run_step
from data_tools.dataset.analyze import add_video_arguments, analyzed_video, make_pictures, write_picture
from data_tools.dataset.settings import chunk_frames
from data_tools.masks import PARTS, color_parts, label_parts, smooth_in_time

PREVIEW_EVERY = 125
"""Frames between the preview's pictures: five seconds."""


def main() -> None:
    """Writes head masks, torso images and part labels of every frame, and a preview strip."""
    names = ", ".join(f"{number} {part}" for number, part in enumerate(PARTS))
    parser = argparse.ArgumentParser(prog="python -m data_tools.segmentation", description=f"Masks of a video. Parts: {names}.")
    add_video_arguments(parser, "folder to write head/, torso/, parts/ and preview.png into")
    args = parser.parse_args()
    for kind in ("head", "torso", "parts"):
        (args.out / kind).mkdir(parents=True, exist_ok=True)
    preview = []
    with analyzed_video(args) as clip:
        background = clip.analysis.background(args.size)
        for position, chunk in enumerate(clip.analysis.chunks):
            layers = clip.analysis.layers(position)
            for number, frame in chunk_frames(clip.source, chunk):
                smoothed, mesh = smooth_in_time(layers, number - chunk.first + 1), clip.landmarks[number]
                made = make_pictures(frame, mesh, smoothed, background)
                classes = smoothed if len(smoothed) > 1 else None
                labels = label_parts(frame, mesh, made["head"] / 255.0, made["torso"][..., 3] / 255.0, classes)
                for kind, picture in (("head", made["head"]), ("torso", made["torso"]), ("parts", labels)):
                    write_picture(args.out / kind / f"{number:06d}.png", picture)
                if number % PREVIEW_EVERY == 0:
                    preview.append(np.vstack([frame, color_parts(frame, labels)]))
    write_picture(args.out / "preview.png", np.hstack(preview))
    print(args.out)


if __name__ == "__main__":
    run_step(main)
