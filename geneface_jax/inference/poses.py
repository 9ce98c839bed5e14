"""Which head pose every output frame has: the training video's own, played back and forth so that the audio may be longer."""

from __future__ import annotations

import numpy as np

from data_tools.errors import InputError
from geneface_jax.inference.controls import frame_range


def mirrored_indices(length: int, n: int) -> np.ndarray:
    """[n] int64 indices that run 0 .. length-1 and back again for ever; the turning frames are shown once, so that no frame stands still.

    Args:
      length: number of source frames, at least 1.
      n: number of output frames.
    """
    if length < 1:
        raise ValueError("a loop needs at least one frame")
    if length == 1:
        return np.zeros(n, np.int64)
    period = 2 * length - 2
    phase = np.arange(n) % period
    return np.minimum(phase, period - phase)


def track_indices(cameras: np.ndarray, n: int, mode: str) -> np.ndarray:
    """[n] int64: the source frame whose pose each output frame takes.

    Args:
      cameras: [T, 4, 4] camera-to-world.
      n: number of output frames.
      mode: "video" (all T frames, back and forth), "still" (the one frame nearest to the mean pose) or "A-B" (frames A .. B-1, back and
        forth).

    Raises:
      InputError: the range lies outside the video.
    """
    if mode == "video":
        return mirrored_indices(len(cameras), n)
    if mode == "still":
        return np.full(n, _most_typical(cameras), np.int64)
    start, stop = frame_range(mode)
    if stop > len(cameras):
        raise InputError(f"--pose is {mode} but the training video has {len(cameras)} frames; give a range inside 0-{len(cameras)}")
    return start + mirrored_indices(stop - start, n)


def smooth_cameras(cameras: np.ndarray, window: int = 7) -> np.ndarray:
    """Moving average of a camera path: mean translation and chordal mean rotation over `window` frames.

    The chordal mean is the rotation nearest (in the Frobenius norm) to the average of the window's matrices, the same that
    `scipy.spatial.transform.Rotation.mean` gives; here for all windows at once. The path's ends are repeated outwards.

    Args:
      cameras: [T, 4, 4].
      window: odd number of frames; 1 changes nothing.

    Returns:
      [T, 4, 4], same dtype.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the smoothing window is {window}; give an odd number of frames")
    if window == 1 or len(cameras) == 0:
        return cameras.copy()
    padded = np.pad(cameras.astype(np.float64), ((window // 2, window // 2), (0, 0), (0, 0)), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0).mean(-1)
    u, _, vt = np.linalg.svd(mean[:, :3, :3])
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # a rotation, never a reflection
    mean[:, :3, :3] = u @ vt
    return mean.astype(cameras.dtype)


def pose_track(cameras: np.ndarray, n: int, mode: str = "video", smooth: int = 7) -> np.ndarray:
    """Camera path of the output: `track_indices` looked up and smoothed, turning points included.

    Args:
      cameras: [T, 4, 4] camera-to-world of the source video.
      n: number of output frames; may exceed T.
      mode: see `track_indices`.
      smooth: window in frames, odd; 1 = none.

    Returns:
      [n, 4, 4], same dtype.
    """
    return smooth_cameras(cameras[track_indices(cameras, n, mode)], smooth)


def orbit(cameras: np.ndarray, degrees: float) -> np.ndarray:
    """Swings the camera around the head: once to the one side, to the other and back over the clip, like a sine.

    The axis is the vertical one of the canonical head frame (y of the world), through its origin between the ears, so the head stays where
    it is in the picture and turns. First its left cheek comes into view (the camera moves to the picture's right), then its right one.

    Args:
      cameras: [n, 4, 4] camera-to-world of the output; the swing is added to it.
      degrees: largest angle to each side, 0 or more.

    Returns:
      [n, 4, 4], same dtype; the first frame is as it was.
    """
    angle = np.radians(degrees) * np.sin(2.0 * np.pi * np.arange(len(cameras)) / max(len(cameras), 1))
    swing = np.zeros((len(cameras), 4, 4))
    swing[:, 0, 0] = swing[:, 2, 2] = np.cos(angle)
    swing[:, 0, 2], swing[:, 2, 0] = np.sin(angle), -np.sin(angle)
    swing[:, 1, 1] = swing[:, 3, 3] = 1.0
    return (swing @ cameras.astype(np.float64)).astype(cameras.dtype)


def _most_typical(cameras: np.ndarray) -> int:
    flat = cameras[:, :3].reshape(len(cameras), 12).astype(np.float64)
    spread = flat.std(0) + 1e-9  # rotation entries and metres made comparable
    return int(np.argmin((((flat - flat.mean(0)) / spread) ** 2).sum(1)))
