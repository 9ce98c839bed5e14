"""Writes head masks, torso images and part labels of every frame of a video, and a preview strip.

The labels are 0 background, 1 face, 2 hair, 3 neck and 4 clothes.
"""

import argparse

from data_tools.command_line import add_video_arguments, run_program

PREVIEW_EVERY = 125
"""Frames between the preview's pictures: five seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    add_video_arguments(parser, "folder to write head/, torso/, parts/ and preview.png into")


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints the folder last."""
    import numpy as np

    from data_tools.dataset.analyze import analyzed_video, make_pictures, write_picture
    from data_tools.dataset.settings import chunk_frames
    from data_tools.masks import color_parts, label_parts, smooth_in_time

    preview = []
    with analyzed_video(args, folder=True) as clip:
        for kind in ("head", "torso", "parts"):
            (args.out / kind).mkdir(parents=True, exist_ok=True)
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
    return 0


if __name__ == "__main__":
    run_program()
