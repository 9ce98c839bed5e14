"""Writes landmarks, head pose, eye openness and blinks of a video (arrays as in docs/file-formats.md), and prints a summary."""

import argparse

from data_tools.command_line import add_video_arguments, run_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the tool's options."""
    add_video_arguments(parser, "NPZ to write")


def run(args: argparse.Namespace) -> int:
    """Runs the tool; prints a summary, and the file's path last."""
    import numpy as np

    from data_tools.dataset.analyze import analyzed_video
    from data_tools.face.pose import INTERPOLATED_TRUST, camera_matrices, canonical_landmarks, find_blinks, jitter, solve_poses
    from data_tools.io import write_npz
    from data_tools.landmarks68 import eye_openness, motion_from_landmarks, pick_68
    from data_tools.video import FPS

    with analyzed_video(args) as clip:
        found = clip.track.found
        pose = solve_poses(clip.landmarks, args.size, np.where(found, 1.0, INTERPOLATED_TRUST))
        points = canonical_landmarks(clip.landmarks, pose, args.size)
        openness = eye_openness(points)
        blinks = find_blinks(openness, FPS)
        write_npz(
            args.out,
            landmarks_mediapipe=clip.landmarks,
            landmarks_2d=pick_68(clip.landmarks)[..., :2],
            motion=motion_from_landmarks(points),
            cameras=camera_matrices(pose.rotation, pose.translation),
            eye_openness=openness,
            blinks=blinks,
            interpolated=~found,
        )
    before = jitter(pose.unsmoothed_rotation, pose.unsmoothed_translation, pose.shape, args.size)
    after = jitter(pose.rotation, pose.translation, pose.shape, args.size)
    print(
        f"{len(found)} frames, {(~found).sum()} without a face, {len(blinks)} blinks, pose jitter {before:.2f} px, {after:.2f} px smoothed"
    )
    print(args.out)
    return 0


if __name__ == "__main__":
    run_program()
