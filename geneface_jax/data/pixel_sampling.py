"""Pixel sampling of the field stages: training frames, pixels inside regions, boxes and patches.

All draws take a generator that the stages make from (seed, step), so that a resumed run draws the same batches.
"""

import dataclasses

import numpy as np
from scipy import ndimage


def over(rgba: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Alpha compositing: uint8 [T, H, W, 4] over uint8 [H, W, 3] -> uint8 [T, H, W, 3], frame by frame to bound memory."""
    out = np.empty(rgba.shape[:-1] + (3,), np.uint8)
    for i, frame in enumerate(rgba):
        alpha = frame[..., 3:].astype(np.float32) / 255.0
        out[i] = np.round(frame[..., :3] * alpha + background * (1.0 - alpha)).astype(np.uint8)
    return out


@dataclasses.dataclass(frozen=True)
class Region:
    """A share of each frame's pixels that is drawn from a box.

    Attributes:
      share: fraction of the pixels, in [0, 1].
      boxes: [T, 4] int32 x0, y0, x1, y1.
    """

    share: float
    boxes: np.ndarray


def draw_pixels(rng: np.random.Generator, frames: np.ndarray, rays: int, size: tuple[int, int], regions: list[Region]) -> np.ndarray:
    """Draws pixels with replacement: each region's share from its box, the rest from the full picture.

    Args:
      rng: source of randomness.
      frames: [G] frame numbers.
      rays: R, pixels per frame.
      size: (height, width).

    Returns:
      [G, R, 2] int32 (row, column).
    """
    height, width = size
    whole = np.broadcast_to(np.array([0, 0, width, height]), (len(frames), 4))
    counts = [int(region.share * rays) for region in regions]
    # Shuffled, so that an exhausted sample budget drops rays of all regions alike.
    kind = rng.permutation(np.repeat(np.arange(len(regions) + 1), [*counts, max(rays - sum(counts), 0)])[:rays])
    box = np.stack([*(region.boxes[frames] for region in regions), whole], axis=1)[:, kind]
    u = rng.random((len(frames), rays, 2))
    column = box[..., 0] + np.floor(u[..., 0] * np.maximum(box[..., 2] - box[..., 0], 1))
    row = box[..., 1] + np.floor(u[..., 1] * np.maximum(box[..., 3] - box[..., 1], 1))
    return np.stack([np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], axis=-1).astype(np.int32)


def draw_frames(
    rng: np.random.Generator, candidates: np.ndarray, groups: int, rare: np.ndarray | None = None, rare_share: float = 0.0
) -> np.ndarray:
    """[G] frame numbers, without replacement if there are enough candidates.

    Args:
      rng: source of randomness.
      candidates: [n] frame numbers.
      groups: G.
      rare: [m] frame numbers from which `rare_share` * G of the G frames are drawn (on average, if that is not an integer); None or
        empty draws all from `candidates`.
    """
    if rare is None or not len(rare) or not rare_share:
        return rng.choice(candidates, groups, replace=groups > len(candidates)).astype(np.int32)
    share = rare_share * groups
    few = int(share) + int(rng.random() < share % 1.0)
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
    """Square patches around the centers of boxes, moved inwards where they would leave the picture.

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


# -------- AD-NeRF's sampling: pixels of one frame without replacement, most of them in a box


def draw_box_pixels(rng: np.random.Generator, box: np.ndarray, share: float, rays: int, size: tuple[int, int]) -> np.ndarray:
    """Draws pixels inside and outside a box, both without replacement.

    If one side has too few pixels the other makes up for it; if the picture has too few, some pixels are drawn twice.

    Args:
      rng: source of randomness.
      box: [4] x0, y0, x1, y1 inside the picture, x1 and y1 exclusive.
      share: fraction of the pixels inside the box, in [0, 1].
      rays: R, number of pixels.
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


# -------- Neck boxes: the region where head and torso meet, which training samples more densely

STRIDE = 4
"""Masks are sampled at every STRIDE-th pixel: boxes need not be exact, and a video has thousands of frames."""


def neck_boxes(head_masks: np.ndarray, torso_alpha: np.ndarray, reach: float) -> np.ndarray:
    """The box around all pixels that are near both the head and the visible part of the torso.

    Args:
      head_masks: uint8 [T, H, W], 255 = head.
      torso_alpha: uint8 [T, H, W], opacity of the torso picture, whose neck continues behind the head.
      reach: distance in pixels that counts as near.

    Returns:
      [T, 4] int32 x0, y0, x1, y1; the full picture for frames where the two do not meet.
    """
    count, height, width = head_masks.shape
    boxes = np.tile(np.array([0, 0, width, height], np.int32), (count, 1))
    side = 2 * int(np.ceil(reach / STRIDE)) + 1
    for i in range(count):
        on_head = head_masks[i, ::STRIDE, ::STRIDE] >= 128
        visible_torso = (torso_alpha[i, ::STRIDE, ::STRIDE] >= 128) & ~on_head
        both = ndimage.maximum_filter(on_head, side) & ndimage.maximum_filter(visible_torso, side)
        rows, columns = np.nonzero(both)
        if len(rows):
            first, last = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            boxes[i] = np.minimum(np.array([*first, *last]) * STRIDE, [width, height, width, height])
    return boxes
