import numpy as np

from data_tools.face.align import AlignSettings, Texture, align_texture, sample_texture, skin_of
from data_tools.face.pose import project, solve_poses
from tests.textured_clip import SIZE, clip_of_a_textured_plane


def align(frames, landmarks, pose, settings=None, chunk=40):
    """Poses refined on the texture, whose samples come in chunks."""
    texture = sample_texture(iter(frames), skin_of(landmarks, pose, SIZE), pose.rotation, pose.translation, SIZE)
    parts = [Texture(*(array[first : first + chunk] for array in vars(texture).values())) for first in range(0, 40, chunk)]
    return align_texture([lambda part=part: part for part in parts], landmarks, pose, np.ones(40), SIZE, 36, settings)


def test_the_texture_pulls_shaken_poses_to_the_true_ones():
    frames, landmarks, rotation, translation = clip_of_a_textured_plane()
    pose = solve_poses(landmarks, SIZE)
    refined = align(frames, landmarks, pose, AlignSettings(independent_samples=300.0))

    def error(p):
        offset = p.translation[:, :2] - translation[:, :2]
        return (offset - offset.mean(0)).std()

    assert error(refined) < 0.5 * error(pose)
    assert refined.shape is pose.shape and refined.error.shape == (40,)


def test_brightness_and_contrast_changes_are_not_taken_for_movement():
    frames, landmarks, _, _ = clip_of_a_textured_plane(landmark_shake=0.2)
    pose = solve_poses(landmarks, SIZE)
    same = align(frames, landmarks, pose)
    dimmed = [np.round(frame * (0.7 if t % 2 else 1.0) + 20 * (t % 2)).astype(np.uint8) for t, frame in enumerate(frames)]
    flicker = align(dimmed, landmarks, pose)
    moved = np.abs(
        project(pose.shape, same.rotation, same.translation, SIZE) - project(pose.shape, flicker.rotation, flicker.translation, SIZE)
    )
    assert moved.mean() < 0.15


def test_a_picture_without_texture_leaves_the_landmarks_poses():
    _, landmarks, _, _ = clip_of_a_textured_plane()
    pose = solve_poses(landmarks, SIZE)
    flat = [np.full((SIZE, SIZE, 3), 90, np.uint8)] * 40
    refined = align(flat, landmarks, pose)
    np.testing.assert_allclose(refined.translation, pose.translation, atol=1e-3)


def test_chunks_change_nothing():
    frames, landmarks, _, _ = clip_of_a_textured_plane()
    pose = solve_poses(landmarks, SIZE)
    whole, parts = align(frames, landmarks, pose), align(frames, landmarks, pose, chunk=13)
    np.testing.assert_allclose(parts.rotation, whole.rotation, atol=1e-6)
