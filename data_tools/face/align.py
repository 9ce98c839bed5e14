"""Photometric pose refinement on the skin texture, and pose estimation of a second clip in the head frame of the first clip."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from data_tools.face.pose import HeadPose, PoseSettings, mean_mesh, pose_jacobian, poses_of_known, refit
from data_tools.landmarks68 import RIGID_SKIN, KnownFace, canonical_face

# -------- Photometric refinement (Lucas-Kanade on the skin of forehead, nose and upper cheeks)
#
# Landmarks drift when light or expression changes. Each frame is therefore aligned with the clip's mean texture, jointly with the landmarks
# and the prior on acceleration, by the smoother of `face.pose`. Each frame is read once: brightness and its derivative by pose are sampled
# at the landmark poses; all later steps are linear in them.
#
# Measured on the avatar at 512x512 against the truth: error of the rigid points 0.82 -> 0.68 px, second differences of that error 0.14 ->
# 0.08 px. With 300 independent samples instead of 100 the lighting begins to turn the head (0.80 px).


@dataclasses.dataclass(frozen=True)
class AlignSettings:
    """Noise model of the texture.

    Attributes:
      sigma: gray levels, standard deviation of the skin's brightness for reasons other than pose.
      independent_samples: number of independent brightness samples that a frame is worth.
      samples_per_triangle: sample points per mesh triangle.
      blur: pixels, Gaussian blur before sampling (widens the range of the linearization, removes compression noise).
      rounds: alternations of poses and mean texture.
    """

    sigma: float = 4.0
    independent_samples: float = 100.0
    samples_per_triangle: int = 8
    blur: float = 1.0
    rounds: int = 5


@dataclasses.dataclass(frozen=True)
class Skin:
    """Sample points on the skin: `points` [N, 3] dm in the canonical head frame, with unit `normals` [N, 3]."""

    points: np.ndarray
    normals: np.ndarray


@dataclasses.dataclass(frozen=True)
class Texture:
    """Texture samples: `value` [T, N] gray levels at the poses `state` [T, 6], `slope` [T, N, 6] by pose, `seen` [T, N] 0 or 1."""

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
    reference: np.ndarray | None = None,
) -> HeadPose:
    """Refines a clip's poses.

    Args:
      chunks: functions that return the samples of consecutive frames (`sample_texture`), T frames in all; each is called several times, so
        that a long clip's samples can stay in files.
      landmarks: [T, 478, 3] pixels.
      pose: from `solve_poses` on the same landmarks.
      trust: [T] 0..1, weight of each frame.
      size: pixels.
      n_train: the mean texture is taken over the first n_train frames.
      settings, pose_settings: noise models; None means the defaults.
      reference: [N] gray levels, the mean texture of another clip, used instead of the clip's own.

    Returns:
      HeadPose with the same shape, refined rotation and translation, and new errors.
    """
    settings, pose_settings = settings or AlignSettings(), pose_settings or PoseSettings()
    refined = pose
    for _ in range(settings.rounds):
        state = pose_state(refined)
        mean = mean_texture(chunks, state, trust, n_train) if reference is None else reference
        extra = _texture_term(chunks, state, trust, mean, settings)
        refined = refit(refined, landmarks, size, trust, extra, pose_settings)
    return refined


def pose_state(pose: HeadPose) -> np.ndarray:
    """[T, 6]: rotation vectors and translations of a clip's poses."""
    return np.concatenate([Rotation.from_matrix(pose.rotation).as_rotvec(), pose.translation], 1)


def skin_of(landmarks: np.ndarray, pose: HeadPose, size: int, settings: AlignSettings | None = None) -> Skin:
    """Random sample points on the rigid skin of a clip's average face; `landmarks` [T, 478, 3] pixels of a size x size crop."""
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
    """Samples brightness, and its derivative by pose, at the skin's points.

    Args:
      stream: frames, uint8 [size, size, 3], as many as there are poses.
      skin: the sample points.
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
        # Sobel over 8 is the derivative in gray levels per pixel.
        planes = np.dstack([gray, cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=0.125)])
        positions = (pixels - [x0, y0]).astype(np.float32)
        sampled = cv2.remap(planes, positions[None], None, cv2.INTER_LINEAR)[0]
        value[t] = sampled[:, 0]
        slope[t] = np.einsum("nk,nki->ni", sampled[:, 1:], jacobian)
        inside = ((pixels > 1) & (pixels < size - 2)).all(-1)
        # Patches at grazing angles are stretched and near the outline: the normal must be within 60 degrees of the camera's axis.
        seen[t] = inside & ((skin.normals @ rotation[t].T)[:, 2] > 0.5)
    return Texture(value, slope, seen, np.concatenate([vectors, translation], 1))


def skin_brightness(texture: Texture) -> np.ndarray:
    """[T] mean gray level of the skin that faces the camera."""
    return (texture.value * texture.seen).sum(1) / np.maximum(texture.seen.sum(1), 1)


def mean_texture(chunks: Sequence[Callable[[], Texture]], state: np.ndarray, trust: np.ndarray, n_train: int) -> np.ndarray:
    """[N] gray levels: the mean over the first n_train frames, at the poses `state` [T, 6]; NaN where a point never faced the camera."""
    total, total_weight = 0.0, 0.0
    for first, texture in _with_first_frame(chunks):
        count = min(len(texture.value), n_train - first)
        if count > 0:
            weight = texture.seen[:count] * trust[first : first + count, None]
            total = total + (_values_at(texture, state[first:])[:count] * weight).sum(0)
            total_weight = total_weight + weight.sum(0)
    return np.where(total_weight > 0, total / np.maximum(total_weight, 1e-6), np.nan)


def _texture_term(chunks: Sequence[Callable[[], Texture]], state: np.ndarray, trust: np.ndarray, mean: np.ndarray, settings: AlignSettings):
    """The texture's quadratic term at `state`: information [T, 6, 6], pull [T, 6] (gradient), and the state itself."""
    valid, mean = np.isfinite(mean), np.nan_to_num(mean)
    information, pull = np.zeros((len(state), 6, 6)), np.zeros((len(state), 6))
    for first, texture in _with_first_frame(chunks):
        values = _values_at(texture, state[first:])
        for t in range(len(values)):
            use = texture.seen[t] * valid
            slope, residual = texture.slope[t].astype(np.float64), (mean - values[t]).astype(np.float64)
            # Exposure may change: gain and offset of the frame's brightness are projected out of residual and slope.
            free = np.stack([values[t], np.ones_like(mean)], 1) * np.sqrt(use)[:, None]
            basis = np.linalg.qr(free)[0]
            residual, slope = residual * np.sqrt(use), slope * np.sqrt(use)[:, None]
            residual, slope = residual - basis @ (basis.T @ residual), slope - basis @ (basis.T @ slope)
            # Cauchy weights: robust against highlights and hair.
            weight = 1.0 / (1.0 + (residual / (1.5 * settings.sigma)) ** 2)
            weight *= trust[first + t] * settings.independent_samples / max(use.sum(), 1.0) / settings.sigma**2
            information[first + t] = slope.T @ (slope * weight[:, None])
            pull[first + t] = slope.T @ (residual * weight)
    return information, pull, state


def _with_first_frame(chunks: Sequence[Callable[[], Texture]]):
    """Yields (index of its first frame, samples) of every chunk."""
    first = 0
    for load in chunks:
        texture = load()
        yield first, texture
        first += len(texture.value)


def _values_at(texture: Texture, state: np.ndarray) -> np.ndarray:
    """[T, N] the samples' values, extrapolated linearly from their own poses to `state` [>= T, 6]."""
    step = (state[: len(texture.value)] - texture.state).astype(np.float32)
    return texture.value + np.einsum("tni,ti->tn", texture.slope.astype(np.float32), step)


# -------- Poses of a second clip in the head frame of a first clip of the same person
#
# A short clip shows few head poses, which biases its rigid shape and turns its head frame by a degree or two. The rigid shape and the mean
# skin texture of the first clip hold the second clip to the first one's frame.

TEXTURE_SIZE = 512
"""Picture side at which the skin texture is sampled. Fixed, because samples of pictures of another size are shifted by half a pixel."""


def known_face(pose: HeadPose, skin: Skin, texture: np.ndarray) -> KnownFace:
    """The face of a clip, to pose other clips with; points whose `texture` [N] (`mean_texture`) is NaN, never visible, are left out."""
    seen = np.isfinite(texture)
    arrays = (pose.shape, pose.weights, skin.points[seen], skin.normals[seen], texture[seen])
    return KnownFace(*(np.asarray(array, np.float32) for array in arrays))


def pose_known(face: KnownFace, landmarks: np.ndarray, frames: Iterable[np.ndarray], size: int, trust: np.ndarray) -> HeadPose:
    """Poses of a clip in the head frame of the clip that `face` was made from.

    Args:
      face: the person.
      landmarks: [T, 478, 3] pixels of a size x size crop.
      frames: T pictures, uint8 [size, size, 3] RGB; read once.
      size: pixels.
      trust: [T] 0..1, weight of each frame.
    """
    landmarks = landmarks * np.float32(TEXTURE_SIZE / size)
    pictures = (cv2.resize(frame, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_LINEAR) for frame in frames)
    pose = poses_of_known(landmarks, face.rigid_points, face.rigid_weights, TEXTURE_SIZE, trust)
    skin = Skin(face.skin_points.astype(np.float64), face.skin_normals.astype(np.float64))
    texture = sample_texture(pictures, skin, pose.rotation, pose.translation, TEXTURE_SIZE)
    return align_texture([lambda: texture], landmarks, pose, trust, TEXTURE_SIZE, reference=face.skin_texture)
