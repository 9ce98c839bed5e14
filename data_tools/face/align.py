"""Photometric pose refinement on the skin texture, and posing a second clip of a known person in the first clip's head frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.face.motion import mean_mesh
from data_tools.face.pose import HeadPose, PoseSettings, pose_jacobian, poses_of_known, refit
from data_tools.landmarks68 import RIGID_SKIN, KnownFace, canonical_face

# ----------------------------------------------------------------------------------------------------
# Pose refined on the picture itself: the skin of forehead, nose and upper cheeks should look the same in every frame.
#
# Landmarks place a face to a fraction of a pixel, and drift where light or expression changes. The texture under them says more: each
# frame is aligned with the clip's mean texture (Lucas and Kanade), together with the landmarks and the prior on acceleration, by the same
# smoother. Each frame is read once: brightness and its derivative by pose are sampled at the landmark poses, and what follows is linear.
#
# Measured on the avatar at 512x512, where the truth is known: rigid points 0.82 -> 0.68 px off, second differences of that error 0.14 ->
# 0.08 px. With 300 independent samples instead of 100 the lighting begins to turn the head (0.80 px).


@dataclasses.dataclass(frozen=True)
class AlignSettings:
    """Noise model of the texture.

    Attributes:
      sigma: grey levels, standard deviation of the skin's brightness for other reasons than pose.
      independent_samples: how many independent brightness samples a frame is worth.
      samples_per_triangle: points looked at.
      blur: pixels, Gaussian blur before sampling (widens the range of the linearisation, takes compression noise off).
      rounds: alternations of poses and mean texture.
    """

    sigma: float = 4.0
    independent_samples: float = 100.0
    samples_per_triangle: int = 8
    blur: float = 1.0
    rounds: int = 5


@dataclasses.dataclass(frozen=True)
class Skin:
    """Points to look at: `points` [N, 3] dm in the canonical head frame and the skin's unit normals [N, 3] there."""

    points: np.ndarray
    normals: np.ndarray


@dataclasses.dataclass(frozen=True)
class Texture:
    """Skin samples of frames: `value` [T, N] grey levels at the poses `state` [T, 6], `slope` [T, N, 6] by pose, `seen` [T, N] 0 or 1."""

    value: np.ndarray
    slope: np.ndarray
    seen: np.ndarray
    state: np.ndarray


def align_texture(
    chunks: Sequence[Callable[[], Texture]],
    landmarks: np.ndarray,
    pose: HeadPose,
    trust: np.ndarray,
    size: int,
    n_train: int = 0,
    settings: AlignSettings | None = None,
    pose_settings: PoseSettings | None = None,
    known: np.ndarray | None = None,
) -> HeadPose:
    """Refines a clip's poses.

    Args:
      chunks: what gives the samples of consecutive frames (`sample_texture`), T frames in all; each is called several times, so that a
        long clip's samples can stay in files.
      landmarks: [T, 478, 3] pixels.
      pose: from `solve_poses` on the same landmarks.
      trust: [T] 0..1, weight of each frame.
      size: pixels.
      n_train: the mean texture is taken over the first n_train frames.
      settings, pose_settings: noise models; None means the defaults.
      known: [N] grey levels, the mean texture of another clip, to be used instead of the clip's own.

    Returns:
      HeadPose with the same shape, refined rotation and translation, and new errors.
    """
    settings, pose_settings = settings or AlignSettings(), pose_settings or PoseSettings()
    refined = pose
    for _ in range(settings.rounds):
        state = pose_state(refined)
        mean = mean_texture(chunks, state, trust, n_train) if known is None else known
        extra = _texture_term(chunks, state, trust, mean, settings)
        refined = refit(refined, landmarks, size, trust, extra, pose_settings)
    return refined


def pose_state(pose: HeadPose) -> np.ndarray:
    """[T, 6]: rotation vectors and translations of a clip's poses."""
    return np.concatenate([Rotation.from_matrix(pose.rotation).as_rotvec(), pose.translation], 1)


def skin_of(landmarks: np.ndarray, pose: HeadPose, size: int, settings: AlignSettings | None = None) -> Skin:
    """Points spread over the rigid skin of a clip's average face.

    Args:
      landmarks: [T, 478, 3] pixels.
      pose: the clip's poses.
      size: pixels.
      settings: None means the defaults.
    """
    mesh, triangles = mean_mesh(landmarks, pose, size), canonical_face()["triangles"]
    triangles = triangles[np.isin(triangles, RIGID_SKIN).all(1)]
    per_triangle = (settings or AlignSettings()).samples_per_triangle
    shares = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], size=(len(triangles), per_triangle))
    corners = mesh[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals *= np.sign(normals[:, 2].mean())
    return Skin(np.einsum("nkv,nvc->nkc", shares, corners).reshape(-1, 3), np.repeat(normals, per_triangle, axis=0))


def sample_texture(
    stream: Iterable[np.ndarray],
    skin: Skin,
    rotation: np.ndarray,
    translation: np.ndarray,
    size: int,
    settings: AlignSettings | None = None,
) -> Texture:
    """Reads brightness, and its slope by pose, at the skin's points.

    Args:
      stream: frames, uint8 [size, size, 3], as many as there are poses.
      skin: where to look.
      rotation: [T, 3, 3], translation: [T, 3] dm: poses.
      size: pixels.
      settings: None means the defaults.
    """
    settings = settings or AlignSettings()
    vectors = Rotation.from_matrix(rotation).as_rotvec()
    n_frames, n_points = len(vectors), len(skin.points)
    value, slope = np.zeros((n_frames, n_points), np.float32), np.zeros((n_frames, n_points, 6), np.float16)
    seen = np.zeros((n_frames, n_points), np.uint8)
    for t, frame in zip(range(n_frames), stream, strict=False):
        pixels, jacobian = (x[0] for x in pose_jacobian(skin.points, vectors[t : t + 1], translation[t : t + 1], size))
        x0, y0 = np.clip(np.floor(pixels.min(0)).astype(int) - 8, 0, size - 16)
        x1, y1 = np.maximum(np.ceil(pixels.max(0)).astype(int) + 8, [x0 + 16, y0 + 16])
        gray = cv2.cvtColor(np.ascontiguousarray(frame[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY).astype(np.float32)
        gray = cv2.GaussianBlur(gray, (0, 0), settings.blur * size / 512.0)
        # Sobel over 8 is the derivative in grey levels per pixel.
        planes = np.dstack([gray, cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=0.125)])
        place = (pixels - [x0, y0]).astype(np.float32)
        sampled = cv2.remap(planes, place[None], None, cv2.INTER_LINEAR)[0]
        value[t] = sampled[:, 0]
        slope[t] = np.einsum("nk,nki->ni", sampled[:, 1:], jacobian)
        inside = ((pixels > 1) & (pixels < size - 2)).all(-1)
        # A patch seen at a flat angle is stretched and near the outline: only what faces the camera by 60 degrees or better counts.
        seen[t] = inside & ((skin.normals @ rotation[t].T)[:, 2] > 0.5)
    return Texture(value, slope, seen, np.concatenate([vectors, translation], 1))


def skin_brightness(texture: Texture) -> np.ndarray:
    """[T] mean grey level of the skin that faces the camera."""
    return (texture.value * texture.seen).sum(1) / np.maximum(texture.seen.sum(1), 1)


def mean_texture(chunks: Sequence[Callable[[], Texture]], state: np.ndarray, trust: np.ndarray, n_train: int) -> np.ndarray:
    """[N] grey levels: the mean over the first n_train frames, at the poses `state` [T, 6]; NaN where a point never faced the camera."""
    total, known = 0.0, 0.0
    for first, texture in _with_first_frame(chunks):
        count = min(len(texture.value), n_train - first)
        if count > 0:
            weight = texture.seen[:count] * trust[first : first + count, None]
            total = total + (_moved(texture, state[first:])[:count] * weight).sum(0)
            known = known + weight.sum(0)
    return np.where(known > 0, total / np.maximum(known, 1e-6), np.nan)


def _texture_term(chunks: Sequence[Callable[[], Texture]], state: np.ndarray, trust: np.ndarray, mean: np.ndarray, settings: AlignSettings):
    """The texture's quadratic term at `state`: information [T, 6, 6], pull [T, 6], and the state itself."""
    known, mean = np.isfinite(mean), np.nan_to_num(mean)
    information, pull = np.zeros((len(state), 6, 6)), np.zeros((len(state), 6))
    for first, texture in _with_first_frame(chunks):
        moved = _moved(texture, state[first:])
        for t in range(len(moved)):
            use = texture.seen[t] * known
            slope, residual = texture.slope[t].astype(np.float64), (mean - moved[t]).astype(np.float64)
            # Exposure may change: brightness and contrast of the frame are free, and taken out of residual and slope alike.
            free = np.stack([moved[t], np.ones_like(mean)], 1) * np.sqrt(use)[:, None]
            basis = np.linalg.qr(free)[0]
            residual, slope = residual * np.sqrt(use), slope * np.sqrt(use)[:, None]
            residual, slope = residual - basis @ (basis.T @ residual), slope - basis @ (basis.T @ slope)
            # Cauchy weights: a highlight or a lock of hair must not pull.
            weight = 1.0 / (1.0 + (residual / (1.5 * settings.sigma)) ** 2)
            weight *= trust[first + t] * settings.independent_samples / max(use.sum(), 1.0) / settings.sigma**2
            information[first + t] = slope.T @ (slope * weight[:, None])
            pull[first + t] = slope.T @ (residual * weight)
    return information, pull, state


def _with_first_frame(chunks: Sequence[Callable[[], Texture]]):
    """Yields (number of its first frame, samples) of every chunk."""
    first = 0
    for load in chunks:
        texture = load()
        yield first, texture
        first += len(texture.value)


def _moved(texture: Texture, state: np.ndarray) -> np.ndarray:
    """[T, N] the samples' values, carried linearly from the poses they were taken at to `state` [>= T, 6]."""
    step = (state[: len(texture.value)] - texture.state).astype(np.float32)
    return texture.value + np.einsum("tni,ti->tn", texture.slope.astype(np.float32), step)


# ----------------------------------------------------------------------------------------------------
# Posing a second clip of a person whom another clip has shown, in that clip's head frame.
#
# A short clip shows its person from few sides: the rigid shape it suggests is bent by the poses it has, and its head frame is turned
# against the other's by a degree or two. The first clip's shape, and the mean brightness of its skin, hold the second one to the first
# one's frame.

LOOK_SIZE = 512
"""Pixels at which `prepare` looks at the skin, and so at which it is looked at here: samples lie half a pixel aside, whatever its size."""


def known_face(pose: HeadPose, skin: Skin, texture: np.ndarray) -> KnownFace:
    """What to keep of a clip.

    Args:
      pose: the clip's poses.
      skin: where its skin was looked at.
      texture: [N] from `align.mean_texture`; points that were never seen (NaN) are left out.
    """
    seen = np.isfinite(texture)
    kept = (pose.shape, pose.weights, skin.points[seen], skin.normals[seen], texture[seen])
    return KnownFace(*(np.asarray(array, np.float32) for array in kept))


def pose_known(face: KnownFace, landmarks: np.ndarray, frames: Iterable[np.ndarray], size: int, trust: np.ndarray) -> HeadPose:
    """Poses of a clip in the head frame of the clip that `face` is from.

    Args:
      face: the person.
      landmarks: [T, 478, 3] pixels of a size x size crop.
      frames: T pictures, uint8 [size, size, 3] RGB; read once.
      size: pixels.
      trust: [T] 0..1, weight of each frame.
    """
    landmarks = landmarks * np.float32(LOOK_SIZE / size)
    pictures = (cv2.resize(frame, (LOOK_SIZE, LOOK_SIZE), interpolation=cv2.INTER_LINEAR) for frame in frames)
    pose = poses_of_known(landmarks, face.rigid_points, face.rigid_weights, LOOK_SIZE, trust)
    skin = Skin(face.skin_points.astype(np.float64), face.skin_normals.astype(np.float64))
    texture = sample_texture(pictures, skin, pose.rotation, pose.translation, LOOK_SIZE)
    return align_texture([lambda: texture], landmarks, pose, trust, LOOK_SIZE, known=face.skin_texture)
