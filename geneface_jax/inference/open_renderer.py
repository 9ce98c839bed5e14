"""The renderer of a subject folder, whatever networks it holds: `open_renderer(find_parts(folder))`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np

from geneface_jax.data.subject import Subject
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io.person_folder import SubjectParts


class Renderer(Protocol):
    """What inference and evaluation ask of a person's networks."""

    subject: Subject

    def in_precision(self, precision: str) -> Self:
        """The same with networks kept as `precision.in_precision` says."""

    def render(self, motion: np.ndarray, cameras: np.ndarray, eye_openness: np.ndarray, **options: Any) -> Iterator[np.ndarray]:
        """Yields uint8 [size, size, 3], or with alpha [size, size, 4], in order; arguments as `SubjectRenderer.render`."""


def open_renderer(parts: SubjectParts, *, step: int | None = None, precision: str = "fp32") -> Renderer:
    """Reads the networks that `subject_parts.find_parts` found.

    Args:
      parts: the folder, which head, and which torso or none.
      step: head checkpoint; the newest when None.
      precision: how the networks are kept, one of `precision.PRECISIONS`.

    Raises:
      InputError: a stage is damaged, or the networks and the dataset do not belong together.
    """
    torso = parts.torso is not None
    if parts.head == "nerf_head":
        from geneface_jax.inference.nerf_renderer import NerfRenderer

        return NerfRenderer.load(parts.folder, step=step, torso=torso).in_precision(precision)
    return SubjectRenderer.load(parts.folder, step=step, torso=torso, stage=parts.head).in_precision(precision)
