"""Pictures of a dataset for its report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from data_tools.segmentation.parts import colour_parts, label_parts


def contact_sheet(folder: Path, landmarks: np.ndarray, columns: int = 6, cell: int = 256) -> np.ndarray:
    """Rows of evenly spaced frames: with landmarks, with the head mask's outline, and the torso image on grey.

    Args:
      folder: dataset with `frames/`, `head/`, `torso/`.
      landmarks: [T, 68, 2] pixels.
      columns: frames shown.
      cell: pixels of one picture.

    Returns:
      uint8 [3 * cell, columns * cell, 3] BGR.
    """
    rows: list[list[np.ndarray]] = [[], [], []]
    for index in _shown(len(landmarks), columns):
        frame, head, torso = read_pictures(folder, index)
        small = cv2.resize(frame, (cell, cell), interpolation=cv2.INTER_AREA)
        dotted, outlined = small.copy(), small.copy()
        for x, y in landmarks[index] * (cell / frame.shape[0]):
            cv2.circle(dotted, (round(float(x) * 8), round(float(y) * 8)), 10, (80, 255, 80), -1, cv2.LINE_AA, 3)
        solid = (cv2.resize(head, (cell, cell), interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
        cv2.drawContours(outlined, cv2.findContours(solid, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, (60, 220, 255), 1, cv2.LINE_AA)
        alpha = torso[..., 3:] / 255.0
        body = cv2.resize((torso[..., :3] * alpha + 128.0 * (1.0 - alpha)).astype(np.uint8), (cell, cell), interpolation=cv2.INTER_AREA)
        for row, picture in zip(rows, (dotted, outlined, body), strict=True):
            row.append(picture)
    return np.vstack([np.hstack(row) for row in rows])


def parts_sheet(folder: Path, mesh: np.ndarray, columns: int = 5, cell: int = 256) -> np.ndarray:
    """The background, and evenly spaced frames tinted by their parts (face, hair, neck, clothes).

    Args:
      folder: dataset with pictures.
      mesh: [T, 478, 3] pixels.
      columns: frames shown.
      cell: pixels of one picture.

    Returns:
      uint8 [cell, (columns + 1) * cell, 3] BGR.
    """
    pictures = [cv2.imread(str(folder / "background.png"))]
    for index in _shown(len(mesh), columns):
        frame, head, torso = read_pictures(folder, index)
        rgb = np.ascontiguousarray(frame[..., ::-1])
        labels = label_parts(rgb, mesh[index], head / 255.0, torso[..., 3] / 255.0)
        pictures.append(colour_parts(rgb, labels)[..., ::-1])
    return np.hstack([cv2.resize(picture, (cell, cell), interpolation=cv2.INTER_AREA) for picture in pictures])


def read_pictures(folder: Path, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame uint8 [H, W, 3] BGR, head mask uint8 [H, W] and torso uint8 [H, W, 4] BGRA of a dataset.

    Raises:
      OSError: a picture is missing or damaged.
    """
    names = (f"frames/{index:06d}.jpg", f"head/{index:06d}.png", f"torso/{index:06d}.png")
    modes = (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED)
    pictures = [cv2.imread(str(folder / name), mode) for name, mode in zip(names, modes, strict=True)]
    if any(picture is None for picture in pictures):
        raise OSError(f"a picture of frame {index} in {folder} is missing or damaged")
    return pictures[0], pictures[1], pictures[2]


def _shown(n_frames: int, columns: int) -> list[int]:
    return [int(index) for index in np.linspace(0, n_frames - 1, columns).round()]
