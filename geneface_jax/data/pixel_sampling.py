"""Pixel sampling of the field stages: training frames, pixels inside regions, boxes and patches, as pure functions of (seed, step)."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

# ----------------------------------------------------------------------------------------------------
# Training pixels: which frames and which pixels a step looks at. Pure functions of (seed, step), so that a resumed run sees the same.


def over(rgba: np.ndarray, background: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 4] over uint8 [H, W, 3] -> uint8 [T, H, W, 3], frame by frame to bound memory."""
    out = np.empty(rgba.shape[:-1] + (3,), np.uint8)
    for i, frame in enumerate(rgba):
        alpha = frame[..., 3:].astype(np.float32) / 255.0
        out[i] = np.round(frame[..., :3] * alpha + background * (1.0 - alpha)).astype(np.uint8)
    return out


@dataclasses.dataclass(frozen=True)
class Region:
    """A share of each group's pixels that is drawn from a box.

    Attributes:
      share: fraction of the pixels, in [0, 1].
      boxes: [T, 4] int32 x0, y0, x1, y1.
    """

    share: float
    boxes: np.ndarray


def draw_pixels(rng: np.random.Generator, frames: np.ndarray, rays: int, size: tuple[int, int], regions: list[Region]) -> np.ndarray:
    """Draws pixels with replacement: each region's share from its box, the rest from the whole picture.

    Args:
      rng: source of randomness.
      frames: [G] frame numbers.
      rays: R, pixels per frame.
      size: (height, width).

    Returns:
      [G, R, 2] int32 (row, column).
    """
    height, width = size
    boxes = [np.broadcast_to(np.array([0, 0, width, height]), (len(frames), 4))] * rays
    position = 0
    for region in regions:
        count = int(region.share * rays)
        boxes[position : position + count] = [region.boxes[frames]] * count
        position += count
    # Shuffled, so that a sample budget that runs out takes from all regions alike.
    box = np.stack(boxes, axis=1)[:, rng.permutation(rays)]
    u = rng.random((len(frames), rays, 2))
    column = box[..., 0] + np.floor(u[..., 0] * np.maximum(box[..., 2] - box[..., 0], 1))
    row = box[..., 1] + np.floor(u[..., 1] * np.maximum(box[..., 3] - box[..., 1], 1))
    return np.stack([np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], axis=-1).astype(np.int32)


def draw_frames(
    rng: np.random.Generator, candidates: np.ndarray, groups: int, rare: np.ndarray | None = None, rare_share: float = 0.0
) -> np.ndarray:
    """[G] frame numbers, without replacement while there are enough candidates.

    Args:
      rng: source of randomness.
      candidates: [n] frame numbers.
      groups: G.
      rare: [m] frame numbers of which `rare_share` * G (on average, where that is no whole number) are drawn beside those of
        `candidates`; None or empty draws all from `candidates`.
    """
    share = rare_share * groups
    few = int(share) + int(rng.random() < share % 1.0) if rare is not None and len(rare) and share else 0
    drawn = rng.choice(candidates, groups - few, replace=groups - few > len(candidates))
    if few:
        drawn = rng.permutation(np.concatenate([drawn, rng.choice(rare, few, replace=few > len(rare))]))
    return drawn.astype(np.int32)


def in_boxes(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[G, R] bool: pixel (row, column) inside the group's box [G, 4]."""
    row, column = pixels[..., 0], pixels[..., 1]
    x0, y0, x1, y1 = (boxes[:, i : i + 1] for i in range(4))
    return (column >= x0) & (column < x1) & (row >= y0) & (row < y1)


def patch_pixels(boxes: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """Square patches about the centres of boxes, moved inwards where they would leave the picture.

    Args:
      boxes: [G, 4] x0, y0, x1, y1 in pixels.
      side: P, side of a patch in pixels, at most the picture's.
      size: (height, width).

    Returns:
      [G, P * P, 2] int32 (row, column), row by row.
    """
    boxes = np.asarray(boxes)
    first_row = np.clip((boxes[:, 1] + boxes[:, 3] - side) // 2, 0, size[0] - side)
    first_column = np.clip((boxes[:, 0] + boxes[:, 2] - side) // 2, 0, size[1] - side)
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    corner = np.stack([first_row, first_column], axis=-1)
    return (corner[:, None] + np.stack([rows.reshape(-1), columns.reshape(-1)], axis=-1)).astype(np.int32)


# ----------------------------------------------------------------------------------------------------
# Pixels of one frame, most of them in a box, none of them twice (AD-NeRF's sampling).


def draw_box_pixels(rng: np.random.Generator, box: np.ndarray, share: float, rays: int, size: tuple[int, int]) -> np.ndarray:
    """Draws pixels inside and outside a box, both without replacement.

    Where one side has too few pixels the other one fills up; where the whole picture has, some are drawn again.

    Args:
      rng: source of randomness.
      box: [4] x0, y0, x1, y1, the ends exclusive, inside the picture.
      share: part of the pixels that lie inside, in [0, 1].
      rays: R, how many pixels.
      size: (height, width).

    Returns:
      [R, 2] int32 (row, column), in random order.
    """
    height, width = size
    x0, y0, x1, y1 = (int(edge) for edge in box)
    inside = np.zeros((height, width), bool)
    inside[y0:y1, x0:x1] = True
    inner, outer = np.flatnonzero(inside), np.flatnonzero(~inside)
    from_inner = min(round(share * rays), len(inner))
    from_inner = max(from_inner, min(rays - len(outer), len(inner)))
    chosen = [rng.choice(inner, from_inner, replace=False), rng.choice(outer, min(rays - from_inner, len(outer)), replace=False)]
    missing = rays - sum(map(len, chosen))
    chosen.append(rng.integers(0, height * width, missing))
    return np.stack(np.divmod(rng.permutation(np.concatenate(chosen)), width), axis=-1).astype(np.int32)


# ----------------------------------------------------------------------------------------------------
# Where head and torso meet in a frame, roughly: the box that training looks at more often.

STRIDE = 4
"""Masks are looked at on every so manieth pixel: a box need not be exact, and a video has thousands of frames."""


def neck_boxes(head_masks: np.ndarray, torso_alpha: np.ndarray, reach: float) -> np.ndarray:
    """The box around all pixels that are near both the head and what shows of the torso.

    Args:
      head_masks: uint8 [T, H, W], 255 = head.
      torso_alpha: uint8 [T, H, W], opacity of the torso picture, whose neck goes on behind the head.
      reach: pixels that count as near.

    Returns:
      [T, 4] int32 x0, y0, x1, y1; the whole picture for a frame where the two do not meet.
    """
    count, height, width = head_masks.shape
    boxes = np.tile(np.array([0, 0, width, height], np.int32), (count, 1))
    side = 2 * int(np.ceil(reach / STRIDE)) + 1
    for i in range(count):
        on_head = head_masks[i, ::STRIDE, ::STRIDE] >= 128
        shown = (torso_alpha[i, ::STRIDE, ::STRIDE] >= 128) & ~on_head
        both = ndimage.maximum_filter(on_head, side) & ndimage.maximum_filter(shown, side)
        rows, columns = np.nonzero(both)
        if len(rows):
            first, last = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            boxes[i] = np.minimum(np.array([*first, *last]) * STRIDE, [width, height, width, height])
    return boxes
