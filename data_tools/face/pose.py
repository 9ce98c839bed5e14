"""Head pose of every frame and the person's rigid shape from 2D landmarks (bundle adjustment); landmark motion; blinks."""

import dataclasses

import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import percentile_filter
from scipy.signal import find_peaks
from scipy.spatial.transform import Rotation

from data_tools.landmarks68 import LANDMARKS_68, RIGID, canonical_face

# -------- Similarity transform between two point sets


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares similarity transform between corresponding points [..., P, 3], not collinear (Umeyama 1991).

    Returns:
      s [...], R [..., 3, 3], d [..., 3] that minimize |s R source + d - target|^2; R is a rotation, never a reflection.
    """
    center_s, center_t = source.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    a, b = source - center_s, target - center_t
    u, values, vt = np.linalg.svd(np.swapaxes(b, -1, -2) @ a)
    flip = np.ones_like(values)
    flip[..., -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[..., None, :]) @ vt
    scale = (values * flip).sum(-1) / (a**2).sum((-1, -2))
    shift = center_t[..., 0, :] - scale[..., None] * np.einsum("...ij,...j->...i", rotation, center_s[..., 0, :])
    return scale, rotation, shift


# -------- Bundle adjustment
#
# Conventions: the world is the canonical head frame in decimeters (x to the image's right, y up, z to the camera); a pose (rotation R,
# translation t) maps a world point p to the OpenGL camera frame, R p + t, which looks along -z. Pixels: u = cx - f X / Z, v = cy + f Y / Z.
#
# All frames are solved jointly: a maximum a posteriori smoother over the clip, without lag. Landmark noise is shared by all points of a
# frame (the network sees one slightly shifted crop) and does not average out over points, so a frame counts as a few independent points
# only. The prior on the pose's acceleration smooths weakly observed directions (distance) more than well observed ones.

INTERPOLATED_TRUST = 0.05
"""Weight (`trust`) of frames with interpolated landmarks."""


@dataclasses.dataclass(frozen=True)
class PoseSettings:
    """Noise model of the pose estimate; lengths in pixels refer to a 512x512 crop.

    Attributes:
      landmark_sigma: pixels, standard deviation of a landmark.
      independent_points: number of independent points that the landmarks of one frame are worth.
      turn_sigma: radians per frame^2, standard deviation of the head's angular acceleration; 0 disables smoothing.
      shift_sigma: decimeters per frame^2, the same for its position.
      shape_sigma: decimeters, standard deviation of the rigid shape from the average of MediaPipe's 3D points.
      rounds: alternations of pose and shape.
    """

    landmark_sigma: float = 1.0
    independent_points: float = 8.0
    turn_sigma: float = 0.005
    shift_sigma: float = 0.008
    shape_sigma: float = 0.05
    rounds: int = 6


@dataclasses.dataclass(frozen=True)
class HeadPose:
    """Poses of a clip.

    Attributes:
      rotation: [T, 3, 3]; translation: [T, 3] dm: world to camera.
      shape: [P, 3] dm, the person's rigid points (`RIGID`) in the canonical frame; weights: [P] their stability, mean 1.
      unsmoothed_rotation, unsmoothed_translation: the same without the prior on acceleration, for the report.
      error: [T] pixels, root mean square reprojection error of the rigid points.
    """

    rotation: np.ndarray
    translation: np.ndarray
    shape: np.ndarray
    weights: np.ndarray
    unsmoothed_rotation: np.ndarray
    unsmoothed_translation: np.ndarray
    error: np.ndarray


def intrinsics(size: int) -> dict[str, float]:
    """The camera of all datasets: GeneFace's focal length of 1015 px at 224 px, scaled to `size`; principal point in the center."""
    focal = 1015.0 / 112.0 * size / 2.0
    return {"fx": focal, "fy": focal, "cx": size / 2.0, "cy": size / 2.0}


def project(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray, size: int) -> np.ndarray:
    """Projects points [P, 3] or [T, P, 3] dm under poses [T, 3, 3], [T, 3] to [T, P, 2] pixels."""
    return _pixels(_to_camera(points, rotation, translation), size)


def camera_matrices(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Poses (dm) -> camera-to-world [T, 4, 4] float32, OpenGL axes, meters."""
    matrices = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrices[:, :3, :3] = rotation.transpose(0, 2, 1)
    matrices[:, :3, 3] = -np.einsum("tji,tj->ti", rotation, translation) / 10.0
    return matrices.astype(np.float32)


def solve_poses(landmarks: np.ndarray, size: int, trust: np.ndarray | None = None, settings: PoseSettings | None = None) -> HeadPose:
    """Poses and rigid shape of a clip.

    Args:
      landmarks: [T, 478, 3] pixels of a size x size crop, z in pixels (only its clip average is used, as a prior of the shape).
      size: pixels.
      trust: [T] 0..1, weight of each frame's landmarks (small where they were interpolated).
      settings: the noise model; None means the default.

    Returns:
      HeadPose with its shape aligned to the canonical face (rotation, scale, position).
    """
    settings = settings or PoseSettings()
    trust = np.ones(len(landmarks)) if trust is None else np.asarray(trust, np.float64)
    seen = np.asarray(landmarks[:, RIGID, :2], np.float64)
    canonical = canonical_face()["vertices"][RIGID].astype(np.float64) / 10.0
    prior = _average_shape(np.asarray(landmarks[:, RIGID], np.float64), canonical)
    sigma = settings.landmark_sigma * size / 512.0
    vectors, translation = _first_guess(seen, prior, size)
    shape, weights = prior, np.ones(len(RIGID))
    for _ in range(settings.rounds):
        vectors, translation = _fit_poses(seen, shape, weights, trust, vectors, translation, size, sigma, settings)
        rotation = Rotation.from_rotvec(vectors).as_matrix()
        shape = _triangulate(seen, rotation, translation, prior, trust, size, sigma, settings.shape_sigma)
        # Unstable points (hair over the forehead, a temple at the outline) get less weight.
        spread = np.sqrt(np.mean((project(shape, rotation, translation, size) - seen) ** 2, axis=(0, 2)))
        weights = 1.0 / (sigma**2 + spread**2)
        weights /= weights.mean()
        shape, rotation, translation = _realign(shape, rotation, translation, canonical)
        vectors = Rotation.from_matrix(rotation).as_rotvec()
    vectors, translation = _fit_poses(seen, shape, weights, trust, vectors, translation, size, sigma, settings)
    rough = _fit_poses(seen, shape, weights, trust, vectors, translation, size, sigma, dataclasses.replace(settings, turn_sigma=0.0))
    return _head_pose(seen, shape, weights, (vectors, translation), rough, size)


def poses_of_known(
    landmarks: np.ndarray,
    shape: np.ndarray,
    weights: np.ndarray,
    size: int,
    trust: np.ndarray | None = None,
    settings: PoseSettings | None = None,
) -> HeadPose:
    """Poses of a clip in the head frame of another clip of the same person, with that clip's rigid shape.

    A shape estimated from a short clip with few head poses would be turned against it by a degree or two.

    Args:
      landmarks: [T, 478, 3] pixels of a size x size crop.
      shape, weights: [P, 3] dm and [P], of the other clip's `HeadPose`.
      size, trust, settings: as in `solve_poses`.
    """
    settings = settings or PoseSettings()
    trust = np.ones(len(landmarks)) if trust is None else np.asarray(trust, np.float64)
    seen, shape, weights = (np.asarray(x, np.float64) for x in (landmarks[:, RIGID, :2], shape, weights))
    sigma = settings.landmark_sigma * size / 512.0
    vectors, translation = _first_guess(seen, shape, size)
    unsmoothed = dataclasses.replace(settings, turn_sigma=0.0)
    rough = _fit_poses(seen, shape, weights, trust, vectors, translation, size, sigma, unsmoothed, steps=20)
    fitted = _fit_poses(seen, shape, weights, trust, rough[0], rough[1], size, sigma, settings)
    return _head_pose(seen, shape, weights, fitted, rough, size)


def refit(pose: HeadPose, landmarks: np.ndarray, size: int, trust: np.ndarray, extra, settings: PoseSettings) -> HeadPose:
    """Refits the poses with the same shape and an extra quadratic term (see `_fit_poses`)."""
    seen = np.asarray(landmarks[:, RIGID, :2], np.float64)
    vectors = Rotation.from_matrix(pose.rotation).as_rotvec()
    sigma = settings.landmark_sigma * size / 512.0
    fitted = _fit_poses(seen, pose.shape, pose.weights, trust, vectors, pose.translation, size, sigma, settings, extra=extra)
    rotation = Rotation.from_rotvec(fitted[0]).as_matrix()
    error = _error(seen, pose.shape, rotation, fitted[1], size)
    return dataclasses.replace(pose, rotation=rotation, translation=fitted[1], error=error)


def _head_pose(seen, shape, weights, fitted, rough, size) -> HeadPose:
    """`HeadPose` of smoothed and unsmoothed (rotation vectors [T, 3], translations [T, 3])."""
    rotation = Rotation.from_rotvec(fitted[0]).as_matrix()
    error = _error(seen, shape, rotation, fitted[1], size)
    return HeadPose(rotation, fitted[1], shape, weights, Rotation.from_rotvec(rough[0]).as_matrix(), rough[1], error)


def _error(seen, shape, rotation, translation, size) -> np.ndarray:
    """[T] root mean square distance in pixels between seen and projected points."""
    return np.sqrt(np.mean(np.sum((project(shape, rotation, translation, size) - seen) ** 2, -1), -1))


def jitter(rotation: np.ndarray, translation: np.ndarray, shape: np.ndarray, size: int) -> float:
    """Mean absolute second difference, in pixels, of the rigid points as the poses project them."""
    pixels = project(shape, rotation, translation, size)
    return float(np.abs(pixels[2:] - 2.0 * pixels[1:-1] + pixels[:-2]).mean())


def _average_shape(landmarks: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    """[T, P, 3] pixel landmarks -> [P, 3] dm: each frame's points aligned to the canonical ones, then their median (two rounds)."""
    points = landmarks * np.array([1.0, -1.0, -1.0])
    average = canonical
    for _ in range(2):
        scale, rotation, shift = similarity(points, np.broadcast_to(average, points.shape))
        moved = scale[:, None, None] * np.einsum("tij,tpj->tpi", rotation, points) + shift[:, None]
        average = np.median(moved, axis=0)
    scale, rotation, shift = similarity(average, canonical)
    return scale * average @ rotation.T + shift


def _first_guess(seen: np.ndarray, shape: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Initial poses: a frontal face at the distance given by its size in the picture."""
    camera = intrinsics(size)
    extent = np.sqrt(((seen - seen.mean(1, keepdims=True)) ** 2).sum(-1).mean(1))
    true_extent = np.sqrt(((shape - shape.mean(0))[:, :2] ** 2).sum(-1).mean())
    distance = camera["fx"] * true_extent / extent
    center = (seen.mean(1) - [camera["cx"], camera["cy"]]) * (distance / camera["fx"])[:, None]
    translation = np.stack([center[:, 0], -center[:, 1], -distance], 1) - shape.mean(0)
    return np.zeros((len(seen), 3)), translation


def _to_camera(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    points = np.broadcast_to(points, (len(rotation), *np.shape(points)[-2:]))
    return points @ rotation.transpose(0, 2, 1) + translation[:, None]


def _pixels(camera_points: np.ndarray, size: int) -> np.ndarray:
    camera = intrinsics(size)
    x, y, z = np.moveaxis(camera_points, -1, 0)
    return np.stack([camera["cx"] - camera["fx"] * x / z, camera["cy"] + camera["fy"] * y / z], -1)


def _pixel_jacobian(camera_points: np.ndarray, size: int) -> np.ndarray:
    """[T, P, 3] camera points -> [T, P, 2, 3] derivative of the pixel."""
    focal = intrinsics(size)["fx"]
    x, y, z = np.moveaxis(camera_points, -1, 0)
    zero = np.zeros_like(x)
    return focal * np.stack([np.stack([-1 / z, zero, x / z**2], -1), np.stack([zero, 1 / z, -y / z**2], -1)], -2)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """[..., 3] -> [..., 3, 3] matrix of the cross product."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def _left_jacobian(vectors: np.ndarray) -> np.ndarray:
    """[T, 3] rotation vectors -> [T, 3, 3] left Jacobian of SO(3)."""
    angle = np.maximum(np.linalg.norm(vectors, axis=-1), 1e-8)[:, None, None]
    k = _cross(vectors)
    return np.eye(3) + (1 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * (k @ k)


def pose_jacobian(points: np.ndarray, vectors: np.ndarray, translation: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """[P, 3] points under poses (rotation vectors [T, 3], translations [T, 3]) -> pixels [T, P, 2] and their derivative [T, P, 2, 6]."""
    camera_points = _to_camera(points, Rotation.from_rotvec(vectors).as_matrix(), translation)
    by_point = _pixel_jacobian(camera_points, size)
    turn = -by_point @ _cross(camera_points - translation[:, None]) @ _left_jacobian(vectors)[:, None]
    return _pixels(camera_points, size), np.concatenate([turn, by_point], -1)


def _fit_poses(seen, shape, weights, trust, vectors, translation, size, sigma, settings, steps=6, extra=None):
    """Gauss-Newton on all frames' (rotation vector, translation) jointly; returns both.

    `extra` adds a quadratic term: (information [T, 6, 6], pull [T, 6] (gradient), state [T, 6] at which the pull was evaluated).
    """
    # All points of a frame together count as `independent_points` measurements.
    scale = trust / sigma**2 * settings.independent_points / len(shape)
    prior = _acceleration_prior(len(seen), settings)
    for _ in range(steps):
        pixels, jacobian = pose_jacobian(shape, vectors, translation, size)
        residual = seen - pixels
        weighted = jacobian * (scale[:, None] * weights)[:, :, None, None]
        information = np.einsum("tpki,tpkj->tij", weighted, jacobian)
        pull = np.einsum("tpki,tpk->ti", weighted, residual)
        state = np.concatenate([vectors, translation], 1)
        if extra is not None:
            information = information + extra[0]
            pull = pull + extra[1] - np.einsum("tij,tj->ti", extra[0], state - extra[2])
        change = _solve_banded(information, pull, state, prior)
        vectors, translation = vectors + change[:, :3], translation + change[:, 3:]
        if np.abs(change).max() < 1e-7:
            break
    return vectors, translation


def _acceleration_prior(n_frames: int, settings: PoseSettings) -> tuple[np.ndarray, np.ndarray]:
    """[6] precision of each pose coordinate's second difference D, and the [3, T] diagonals of D^T D (lower form)."""
    if settings.turn_sigma <= 0 or n_frames < 3:
        return np.zeros(6), np.zeros((3, n_frames))
    precision = np.array([settings.turn_sigma**-2] * 3 + [settings.shift_sigma**-2] * 3)
    kernel = np.array([1.0, -2.0, 1.0])
    diagonals = np.zeros((3, n_frames))
    for offset in range(3):
        for a in range(3 - offset):
            diagonals[offset, a : a + n_frames - 2] += kernel[a] * kernel[a + offset]
    return precision, diagonals


def _solve_banded(information, pull, state, prior) -> np.ndarray:
    """Change of `state` [T, 6] for block-diagonal data terms plus the prior: one symmetric banded solve, frame-major."""
    precision, diagonals = prior
    n_frames = len(state)
    band = np.zeros((13, n_frames, 6))
    for i in range(6):
        for j in range(i + 1):
            band[i - j, :, j] += information[:, i, j]
    gradient = pull.copy()
    for offset in range(3):
        product = diagonals[offset][:, None] * precision
        band[6 * offset] += product
        gradient[: n_frames - offset] -= product[: n_frames - offset] * state[offset:]
        if offset:
            gradient[offset:] -= product[: n_frames - offset] * state[: n_frames - offset]
    band[0] += 1e-9
    return solveh_banded(band.reshape(13, -1), gradient.reshape(-1), lower=True).reshape(n_frames, 6)


def _triangulate(seen, rotation, translation, prior, trust, size, sigma, shape_sigma, steps=2) -> np.ndarray:
    """The [P, 3] shape that fits all frames best under the prior (mean `prior`, standard deviation `shape_sigma`)."""
    shape = prior
    scale = trust / sigma**2
    for _ in range(steps):
        camera_points = _to_camera(shape, rotation, translation)
        jacobian = _pixel_jacobian(camera_points, size) @ rotation[:, None]
        residual = seen - _pixels(camera_points, size)
        # The data term is normalized to 100 frames, so that the prior's weight does not depend on the clip's length.
        information = 100.0 * np.einsum("t,tpki,tpkj->pij", scale, jacobian, jacobian) / scale.sum() / sigma**2
        pull = 100.0 * np.einsum("t,tpki,tpk->pi", scale, jacobian, residual) / scale.sum() / sigma**2
        information += np.eye(3) / shape_sigma**2
        pull += (prior - shape) / shape_sigma**2
        shape = shape + np.linalg.solve(information, pull[..., None])[..., 0]
    return shape


def _realign(shape, rotation, translation, canonical):
    """Transforms the world (scale included) so that the shape is aligned to the canonical one; the projections don't change."""
    scale, turn, shift = similarity(shape, canonical)
    aligned = scale * shape @ turn.T + shift
    new_rotation = rotation @ turn.T
    new_translation = scale * translation - np.einsum("tij,j->ti", new_rotation, shift)
    return aligned, new_rotation, new_translation


# -------- Back-projection of landmarks into the canonical head frame


def canonical_landmarks(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """Landmarks of a clip in the canonical head frame.

    Each pixel is back-projected along its ray to the point's depth: MediaPipe's relative z, mapped to the scale and offset of the person's
    rigid shape. A depth error moves a point along its ray only, so it hardly affects x and y.

    Args:
      landmarks: [T, 478, 3] pixels, z in pixels, smaller is nearer.
      pose: the clip's poses.
      size: pixels of the crop.

    Returns:
      [T, 68, 3] float32, decimeters.
    """
    depths = _Depths(landmarks, pose, size)
    blocks = [_back_project(landmarks[block], LANDMARKS_68, pose, depths, block, size) for block in _blocks(len(landmarks))]
    return np.concatenate(blocks).astype(np.float32)


def mean_mesh(landmarks: np.ndarray, pose: HeadPose, size: int) -> np.ndarray:
    """[T, P, 3] pixels -> [P, 3] float64 dm: the clip's average of all points in the canonical head frame (P >= 468)."""
    depths = _Depths(landmarks, pose, size)
    index, blocks = np.arange(landmarks.shape[1]), _blocks(len(landmarks))
    return sum(_back_project(landmarks[block], index, pose, depths, block, size).sum(0) for block in blocks) / len(landmarks)


BLOCK = 1000
"""Frames back-projected at a time, to bound the memory of double-precision points."""


def _blocks(n_frames: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, n_frames)) for first in range(0, n_frames, BLOCK)]


def _back_project(landmarks: np.ndarray, index: np.ndarray, pose: HeadPose, depths: "_Depths", block: slice, size: int) -> np.ndarray:
    """[B, 478, 3] pixels of the clip's frames `block` -> points `index` [B, P, 3] float64 dm."""
    camera = intrinsics(size)
    points = np.asarray(landmarks[:, index], np.float64)
    depth = depths(points[..., 2], block)
    x = (points[..., 0] - camera["cx"]) * depth / camera["fx"]
    y = -(points[..., 1] - camera["cy"]) * depth / camera["fy"]
    return (np.stack([x, y, -depth], -1) - pose.translation[block, None]) @ pose.rotation[block]


class _Depths:
    """Distance from the camera along its axis, dm, from MediaPipe's z.

    MediaPipe's z is in pixels at the face's own scale. One factor for the clip and one offset per frame convert it to decimeters; they are
    fitted on the rigid points, whose true depth is known.
    """

    def __init__(self, landmarks: np.ndarray, pose: HeadPose, size: int) -> None:
        true_depth = -(pose.shape @ pose.rotation.transpose(0, 2, 1) + pose.translation[:, None])[..., 2]
        self.distance = true_depth.mean(1)
        self.scale = self.distance / intrinsics(size)["fx"]
        rigid = np.asarray(landmarks[:, RIGID, 2], np.float64) * self.scale[:, None]
        self.center = rigid.mean(1)
        centered, target = rigid - self.center[:, None], true_depth - self.distance[:, None]
        self.factor = float((centered * target).sum() / max((centered**2).sum(), 1e-9))

    def __call__(self, z: np.ndarray, block: slice) -> np.ndarray:
        """[B, P] z of the frames `block` -> [B, P] dm."""
        return self.factor * (z * self.scale[block, None] - self.center[block, None]) + self.distance[block, None]


# -------- Blinks

OPEN_SECONDS = 4.0
"""Window of the eyes' normal openness: longer than a blink, shorter than a change of expression."""

CLOSED = 0.45
"""At a blink's peak, openness is below this share of the normal openness."""

DEPTH = 0.25
"""Minimum prominence of a blink, as a share of the normal openness: lowered eyes are not blinks."""

APART_SECONDS = 0.16
"""Minimum time between two blinks."""


def find_blinks(openness: np.ndarray, fps: float) -> np.ndarray:
    """[T] lid gap / eye width (`landmarks68.eye_openness`) -> [n] int frames of the blinks' peaks, increasing."""
    openness = np.asarray(openness, np.float64)
    normal = percentile_filter(openness, 80, size=max(round(OPEN_SECONDS * fps), 1), mode="nearest")
    relative = openness / np.maximum(normal, 1e-6)
    peaks, _ = find_peaks(1.0 - relative, height=1.0 - CLOSED, prominence=DEPTH, distance=max(round(APART_SECONDS * fps), 1))
    return peaks
