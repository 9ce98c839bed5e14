"""Landmarks, head pose, eyes and blinks of a video: `python -m data_tools.face VIDEO face.npz`."""

import argparse

import numpy as np

from data_tools.command_line import run_step
from data_tools.dataset.analyze import add_video_arguments, analyzed_video
from data_tools.face.pose import INTERPOLATED_TRUST, camera_matrices, canonical_landmarks, find_blinks, jitter, solve_poses
from data_tools.io import write_npz
from data_tools.landmarks68 import eye_openness, motion_from_landmarks, pick_68
from data_tools.video import FPS


def main() -> None:
    """Writes the arrays (documented in docs/file-formats.md) and prints a summary."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.face", description="Landmarks, head pose and blinks of a video.")
    add_video_arguments(parser, "NPZ to write")
    args = parser.parse_args()
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


if __name__ == "__main__":
    run_step(main)
