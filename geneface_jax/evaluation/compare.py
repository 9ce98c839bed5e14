"""Comparison of a finished video with the true video, or with its own audio."""

import dataclasses
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.features import FPS
from data_tools.audio.load import load_audio
from data_tools.errors import InputError
from data_tools.video.read import read_video
from geneface_jax.data.motion import mouth_opening
from geneface_jax.evaluation import metrics
from geneface_jax.evaluation.metrics import envelope_correlation, face_hull_mask, from_mediapipe
from geneface_jax.evaluation.scores import PixelScores, landmark_summary, landmark_tracks
from geneface_jax.inference.pictures import resize
from geneface_jax.typing import Float, UInt8

MIN_FRAMES = 5

_LIPS = from_mediapipe(np.arange(478)[:, None])[48:60, 0]
"""MediaPipe numbers of the outer lips."""


def compare_videos(
    video: Path,
    truth: Path,
    *,
    size: int | None = None,
    head_masks: UInt8[np.ndarray, "T H W"] | None = None,
    on_frame: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> dict[str, Any]:
    """Compares two videos frame by frame at 25 frames per second, as decoded (after H.264).

    Regions come from the true video: face hull and mouth from MediaPipe, the head from `head_masks` if given. Frames of the true video
    without a face only count for the whole frame.

    Args:
      video, truth: video files of square pictures; the longer one is cut to the shorter one's length.
      size: H = W of the scored pictures; the true video's when None.
      head_masks: of the true video, 255 = head.
      on_frame: called with (truth, image) for every frame.

    Returns:
      {"pixels", "landmarks", "frames", "frames_left_out", "size"}.

    Raises:
      InputError: a file can't be read, a picture is not square, or fewer than five frames are common.
    """
    scores, count, left_out = PixelScores(), 0, 0
    with landmark_tracks(2) as (of_video, of_truth):
        for image, true_image in zip_longest(read_video(video, FPS), read_video(truth, FPS)):
            if image is None or true_image is None:
                left_out += 1
                continue
            for picture, name in ((image, video), (true_image, truth)):
                if picture.shape[0] != picture.shape[1]:
                    raise InputError(f"{name} is {picture.shape[1]}x{picture.shape[0]}, not square: compare the cropped videos.")
            size = size or true_image.shape[0]
            image, true_image = resize(image, size, size), resize(true_image, size, size)
            of_video.add(image)
            points = of_truth.add(true_image)
            mask = head_masks[count] if head_masks is not None and count < len(head_masks) else None
            scores.add(image, true_image, _regions(points, mask, size))
            if on_frame is not None:
                on_frame(true_image, image)
            count += 1
        if count < MIN_FRAMES:
            raise InputError(f"{video} and {truth} have only {count} frames in common: compare videos of at least {MIN_FRAMES} frames.")
        summary = landmark_summary(of_video, of_truth)
    return {"pixels": scores.summary(), "landmarks": summary, "frames": count, "frames_left_out": left_out, "size": size}


def video_against_audio(video: Path, audio: Path | None = None) -> dict[str, Any]:
    """Correlates the mouth opening in a video (MediaPipe, 25 frames per second) with the loudness of its audio.

    Args:
      video: a video file.
      audio: an audio file; the video's own audio when None.

    Returns:
      the fields of `metrics.EnvelopeCorrelation`, `frames`, and `frames_without_face`.

    Raises:
      InputError: a file can't be read, there is no sound, or no face is found.
    """
    samples = load_audio(audio or video)
    with landmark_tracks(1) as (track,):
        for frame in read_video(video, FPS):
            track.add(frame)
    if not track.found.any():
        raise InputError(f"No face is found in {video}: give a video of one talking face.")
    result = envelope_correlation(mouth_opening(track.landmarks[..., :2]), samples, track.found)
    return {**dataclasses.asdict(result), "frames": len(track.found), "frames_without_face": int((~track.found).sum())}


def load_head_masks(path: Path) -> UInt8[np.ndarray, "T H W"]:
    """Reads `head_mask` (255 = head) from a truth file.

    Args:
      path: npz whose `head_mask` is uint8 [T, H, W], or [T, H, W // 8] packed bits (`numpy.packbits` along the last axis).

    Raises:
      InputError: the file or the array is missing or has another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            mask = archive["head_mask"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f'{path} holds no readable array "head_mask": give the truth.npz of the avatar.') from error
    if mask.ndim == 3 and mask.shape[2] * 8 == mask.shape[1]:
        mask = np.unpackbits(mask, axis=-1) * np.uint8(255)
    if mask.ndim != 3 or mask.shape[1] != mask.shape[2] or mask.dtype != np.uint8:
        raise InputError(
            f'"head_mask" of {path} is {mask.dtype} {list(mask.shape)}, not uint8 [T, H, W]: give the truth.npz of the avatar.'
        )
    return mask


def _regions(
    points: Float[np.ndarray, "478 3"] | None, head_mask: UInt8[np.ndarray, "H W"] | None, size: int
) -> dict[str, np.ndarray | None]:
    """Masks by region in the report's order; None stands for the whole frame."""
    regions: dict[str, np.ndarray | None] = {}
    if points is not None:
        regions["face hull"] = face_hull_mask(points, size)
    if head_mask is not None:
        regions["head"] = metrics.hard_head_mask(resize(head_mask, size, size))
    if points is not None:
        regions["mouth"] = metrics.mouth_mask(_lip_box(points), size)
    return {**regions, "frame": None}


def _lip_box(points: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, " 4"]:
    """Lip box as in a dataset: a square of 1.2 times the outer lips' larger half extent."""
    lips = points[_LIPS, :2]
    low, high = lips.min(0), lips.max(0)
    center, half = (low + high) / 2, 1.2 * (high - low).max() / 2
    return np.concatenate([center - half, center + half])
