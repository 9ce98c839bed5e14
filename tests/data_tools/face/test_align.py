import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial.transform import Rotation

from data_tools.face.align import AlignSettings, Texture, align_texture, sample_texture, skin_of
from data_tools.face.canonical import canonical_face
from data_tools.face.pose import intrinsics, project, solve_poses

SIZE = 256


def clip_of_a_textured_plane(n_frames=40, landmark_shake=1.0):
    """A face-sized textured plane at the skin's depth that slides and turns in the picture's plane; landmarks shake by common jumps."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.normal(size=(512, 512)), 4.0)
    texture = 128.0 + 40.0 * texture / texture.std()
    roll = gaussian_filter1d(rng.normal(size=n_frames), 6.0) * 0.3
    shift = gaussian_filter1d(rng.normal(size=(n_frames, 2)), 6.0, axis=0) * 0.3
    rotation = Rotation.from_rotvec(np.stack([0 * roll, 0 * roll, roll], 1)).as_matrix()
    translation = np.concatenate([shift, np.full((n_frames, 1), -16.0)], 1)
    vertices = np.concatenate([canonical_face()["vertices"] / 10.0, np.zeros((10, 3))]).astype(np.float64)
    vertices[:, 2] *= 0.05
    pixels = project(vertices, rotation, translation, SIZE)
    focal, centre = intrinsics(SIZE)["fx"], SIZE / 2.0
    v, u = np.mgrid[:SIZE, :SIZE]
    frames = []
    for r, t in zip(rotation, translation, strict=True):
        ray = np.stack([(u - centre) / focal * 16.0, -(v - centre) / focal * 16.0], -1) - t[:2]
        x, y = np.moveaxis(ray @ r[:2, :2], -1, 0)
        grey = map_coordinates(texture, [256 - y * 160, 256 + x * 160], order=1, mode="nearest")
        frames.append(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1))
    landmarks = np.concatenate([pixels, np.zeros((n_frames, 478, 1))], -1)
    landmarks[..., :2] += landmark_shake * rng.normal(size=(n_frames, 1, 2))
    return frames, landmarks, rotation, translation


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
