"""Held-out frames of a vanilla NeRF against the truth, at a size at which they are quick."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.subject import Subject
from geneface_jax.training.stage import Evaluation
from geneface_jax.training.validation_grid import heldout_frames

SHOWN = 4
"""Frames of a comparison picture."""


def shrink(pictures: np.ndarray, size: int) -> np.ndarray:
    """[..., H, H, C] -> [..., size, size, C] float32, means over squares.

    Raises:
      InputError: `size` is no divisor of H.
    """
    height = pictures.shape[-3]
    if size < 1 or height % size:
        raise InputError(f"config.data.eval_size is {size}, which does not divide the {height} pixels of the dataset; give 0 or a divisor.")
    factor = height // size
    squares = pictures.reshape(*pictures.shape[:-3], size, factor, size, factor, pictures.shape[-1])
    return squares.astype(np.float32).mean(axis=(-4, -2))


def judge(
    subject: Subject,
    count: int,
    size: int,
    truth: Callable[[np.ndarray], np.ndarray],
    render: Callable[[int, int], np.ndarray],
    box: Callable[[int], np.ndarray],
    tag: str,
) -> Evaluation:
    """Renders held-out frames and compares them inside a box.

    Args:
      subject: the dataset.
      count: frames. size: pixels per side, 0 for the dataset's.
      truth: frame numbers [n] -> uint8 [n, H, W, 3].
      render: (frame, size) -> [size, size, 3] in [0, 1].
      box: frame -> x0, y0, x1, y1 in the dataset's pixels.
      tag: name of the figure.
    """
    size = size or subject.size
    chosen = heldout_frames(subject, count)
    if not len(chosen):  # a dataset that holds none out can be trained on, but not judged by
        return Evaluation({})
    expected = shrink(truth(chosen), size) / 255.0
    errors, rows = [], []
    for i, frame in enumerate(chosen):
        ours = np.clip(render(int(frame), size), 0.0, 1.0)
        x0, y0, x1, y1 = (np.asarray(box(int(frame))) * (size / subject.size)).round().astype(int)
        errors.append(np.mean((ours[y0:y1, x0:x1] - expected[i, y0:y1, x0:x1]) ** 2))
        rows.append(np.concatenate([expected[i], ours, np.clip(np.abs(ours - expected[i]) * 4.0, 0, 1)], axis=1))
    picture = np.round(np.concatenate(rows[:SHOWN]) * 255.0).astype(np.uint8)
    value = float(np.mean(-10.0 * np.log10(np.maximum(errors, 1e-10))))
    return Evaluation({tag: value}, images={"val/truth_ours_difference": picture})
