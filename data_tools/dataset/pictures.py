"""Frames, head masks and torso images: the second pass over the cropped clip."""

from __future__ import annotations

import collections
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from data_tools.dataset.workspace import write_bytes
from data_tools.segmentation.components import detached
from data_tools.segmentation.head_torso import WORK_SIZE, head_region
from data_tools.segmentation.matte import refine, smooth_in_time
from data_tools.torso.paint import torso_image

KINDS = {"frames": "jpg", "head": "png", "torso": "png"}

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 3]

JAW_CORNERS = (58, 288)
"""Mesh points of the jaw's corners; the neck is looked for between them."""


NOSE_TIP = 4


def make_pictures(frame: np.ndarray, landmarks: np.ndarray, confidence: np.ndarray, background: np.ndarray) -> dict[str, np.ndarray]:
    """The three pictures of one frame.

    Args:
      frame: uint8 [H, W, 3], H = W.
      landmarks: [478, 2+] pixels.
      confidence: [256, 256] float32 person confidence.
      background: uint8 [H, W, 3].

    Returns:
      `frames` uint8 [H, W, 3] the person over the background, `head` uint8 [H, W], `torso` uint8 [H, W, 4].
    """
    size = frame.shape[0]
    small = landmarks * (WORK_SIZE / size)
    face = (float(small[NOSE_TIP, 0]), float(small[NOSE_TIP, 1]))
    confidence = np.where(detached(confidence, face), np.float32(0.0), confidence)
    region = head_region(small)
    # A shoulder that reaches above the border is not joined to the face: it stays with the torso.
    region = np.where(detached(confidence * region, face), np.float32(0.0), region)
    person = refine(confidence, frame)
    above_jaw = cv2.resize(region, (size, size), interpolation=cv2.INTER_LINEAR)
    alpha = person[..., None]
    composite = np.round(alpha * frame + (1.0 - alpha) * background).astype(np.uint8)
    head = np.round(255.0 * person * above_jaw).astype(np.uint8)
    left, right = (float(landmarks[corner, 0]) for corner in JAW_CORNERS)
    return {"frames": composite, "head": head, "torso": torso_image(composite, person, above_jaw, (left, right))}


def save_pictures(folder: Path, index: int, pictures: dict[str, np.ndarray]) -> None:
    """Writes frame `index` as `<kind>/%06d.<suffix>` under `folder`."""
    for kind, suffix in KINDS.items():
        picture = pictures[kind]
        if picture.ndim == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
        data = cv2.imencode(f".{suffix}", picture, _JPEG if suffix == "jpg" else _PNG)[1]
        write_bytes(folder / kind / f"{index:06d}.{suffix}", data.tobytes())


def make_all(folder: Path, stream, landmarks: np.ndarray, confidence: np.ndarray, background: np.ndarray, workers: int = 1) -> None:
    """Makes and writes the pictures of a clip; those that are there already are left.

    Args:
      folder: gets `frames/`, `head/` and `torso/`.
      stream: iterator of the clip's frames, uint8 [H, W, 3].
      landmarks: [T, 478, 2+] pixels. confidence: [T, 256, 256] uint8. background: uint8 [H, W, 3].
      workers: threads.
    """
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)

    def make(index: int, frame: np.ndarray) -> None:
        save_pictures(folder, index, make_pictures(frame, landmarks[index], smooth_in_time(confidence, index), background))

    with ThreadPoolExecutor(workers) as pool:
        jobs: collections.deque = collections.deque()
        for index, frame in zip(range(len(landmarks)), stream, strict=False):
            if all((folder / kind / f"{index:06d}.{suffix}").exists() for kind, suffix in KINDS.items()):
                continue
            jobs.append(pool.submit(make, index, frame))
            if len(jobs) > 2 * workers:
                jobs.popleft().result()
        for job in jobs:
            job.result()
