"""Head pose path of the output: the training video's poses played back and forth, smoothing, camera orbit."""

import numpy as np

from data_tools.errors import InputError
from geneface_jax.inference.controls import frame_range
from geneface_jax.typing import Float, Int


def mirrored_indices(length: int, n: int) -> Int[np.ndarray, " n"]:
    """Indices that run 0 .. length-1 (length >= 1) and back repeatedly; the turning frames appear once, so that no frame is repeated."""
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if length == 1:
        return np.zeros(n, np.int64)
    period = 2 * length - 2
    phase = np.arange(n) % period
    return np.minimum(phase, period - phase)


def track_indices(cameras: Float[np.ndarray, "T 4 4"], n: int, mode: str) -> Int[np.ndarray, " n"]:
    """The source frame whose pose each output frame takes.

    Args:
      cameras: camera to world.
      n: number of output frames.
      mode: "video" (all T frames, back and forth), "still" (the frame nearest to the mean pose) or "A-B" (frames A .. B-1, back and forth).

    Raises:
      InputError: the range lies outside the video.
    """
    if mode == "video":
        return mirrored_indices(len(cameras), n)
    if mode == "still":
        return np.full(n, _most_typical(cameras), np.int64)
    start, stop = frame_range(mode)
    if stop > len(cameras):
        raise InputError(f"--pose is {mode}, but the training video has {len(cameras)} frames: give a range inside 0-{len(cameras)}.")
    return start + mirrored_indices(stop - start, n)


def smooth_cameras(cameras: Float[np.ndarray, "T 4 4"], window: int = 7) -> Float[np.ndarray, "T 4 4"]:
    """Moving average of a camera path: mean translation and chordal mean rotation over an odd number of frames; 1 changes nothing.

    The chordal mean is the rotation nearest (in the Frobenius norm) to the average of the window's matrices, as in
    `scipy.spatial.transform.Rotation.mean`, here for all windows at once. The path's end poses are repeated; the dtype is kept.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be an odd number of frames, got {window}")
    if window == 1 or len(cameras) == 0:
        return cameras.copy()
    padded = np.pad(cameras.astype(np.float64), ((window // 2, window // 2), (0, 0), (0, 0)), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0).mean(-1)
    u, _, vt = np.linalg.svd(mean[:, :3, :3])
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # excludes reflections
    mean[:, :3, :3] = u @ vt
    return mean.astype(cameras.dtype)


def pose_track(cameras: Float[np.ndarray, "T 4 4"], n: int, mode: str = "video", smooth: int = 7) -> Float[np.ndarray, "n 4 4"]:
    """Camera path of `n` output frames (may exceed T): the poses of `track_indices`, smoothed over `smooth` frames (odd; 1 = none)."""
    return smooth_cameras(cameras[track_indices(cameras, n, mode)], smooth)


def orbit(cameras: Float[np.ndarray, "n 4 4"], degrees: float) -> Float[np.ndarray, "n 4 4"]:
    """Rotates the camera around the head by one period of a sine over the clip, up to `degrees` (>= 0) to each side.

    The axis is y of the canonical head frame, through its origin between the ears, so the head keeps its place in the picture. The left
    cheek comes into view first (the camera moves to the picture's right). The first frame is unchanged, and the dtype is kept.
    """
    angle = np.radians(degrees) * np.sin(2.0 * np.pi * np.arange(len(cameras)) / max(len(cameras), 1))
    swing = np.zeros((len(cameras), 4, 4))
    swing[:, 0, 0] = swing[:, 2, 2] = np.cos(angle)
    swing[:, 0, 2], swing[:, 2, 0] = np.sin(angle), -np.sin(angle)
    swing[:, 1, 1] = swing[:, 3, 3] = 1.0
    return (swing @ cameras.astype(np.float64)).astype(cameras.dtype)


def _most_typical(cameras: Float[np.ndarray, "T 4 4"]) -> int:
    flat = cameras[:, :3].reshape(len(cameras), 12).astype(np.float64)
    spread = flat.std(0) + 1e-9  # makes rotation entries and meters comparable
    return int(np.argmin((((flat - flat.mean(0)) / spread) ** 2).sum(1)))
