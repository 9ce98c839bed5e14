"""A subject's head and torso as one picture per frame: what inference and evaluation render with."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy_grid
from geneface_kernels.frame_rendering import FrameRender, sufficient_budget
from ml_collections import ConfigDict

from geneface_jax.data.conditions import normalise_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.errors import InputError
from geneface_jax.inference.resize import resize
from geneface_jax.io import checkpoints
from geneface_jax.models.build import build_head, build_torso
from geneface_jax.models.head import Head
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.head import head_samples, render_heads
from geneface_jax.rendering.settings import MarchSettings
from geneface_jax.rendering.torso import render_torso

CPU_BATCH, ACCELERATOR_BATCH = 1, 8
"""Frames per call. On a CPU a frame fills the machine, and more of them at once only leave its caches."""


@dataclasses.dataclass
class SubjectRenderer:
    """Trained networks of one person, ready to render.

    Attributes:
      subject: the dataset (a light one is enough).
      head, head_params, occupied, march, head_config: the head stage.
      torso, torso_params: the torso stage; None renders the head over the bare background.
    """

    subject: Subject
    head: Head
    head_params: Any
    occupied: jax.Array
    march: MarchSettings
    head_config: ConfigDict
    torso: Torso | None
    torso_params: Any

    @classmethod
    def load(cls, subject_dir: str | Path, *, step: int | None = None, torso: bool = True) -> SubjectRenderer:
        """Reads `SUBJECT/{dataset,head,torso}`.

        Args:
          subject_dir: the subject folder.
          step: head checkpoint; the newest when None.
          torso: False leaves the torso out (evaluation of the head with the true torso behind it).

        Raises:
          InputError: a stage is missing, or the head was trained for another dataset.
        """
        folder = Path(subject_dir)
        subject = Subject.load(folder / "dataset")
        checkpoint = checkpoints.load(folder / "head", step)
        config = checkpoint.config
        if config.model.codes != subject.n_train:
            raise InputError(
                f"the head in {folder / 'head'} was trained on {config.model.codes} frames but {folder / 'dataset'} has {subject.n_train} "
                "training frames; train the head again on this dataset, or bring back the dataset it was trained on"
            )
        torso_model, torso_params = None, None
        if torso:
            torso_checkpoint = checkpoints.load(folder / "torso")
            torso_model = build_torso(torso_checkpoint.config.model)
            torso_params = jax.tree.map(jnp.asarray, torso_checkpoint.state["params"])
        grid = jnp.asarray(checkpoint.state["occupancy"]["grid"])
        return cls(
            subject=subject,
            head=build_head(config.model),
            head_params=jax.tree.map(jnp.asarray, checkpoint.state["params"]),
            occupied=occupancy_grid.occupied(grid, config.march.density_threshold),
            march=MarchSettings.from_config(config.march),
            head_config=config,
            torso=torso_model,
            torso_params=torso_params,
        )

    def render(
        self,
        motion: np.ndarray,
        cameras: np.ndarray,
        eye_openness: np.ndarray,
        *,
        background: np.ndarray | None = None,
        end_threshold: float = 1e-2,
        size: int | None = None,
        batch: int | None = None,
        single_pass: bool | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields frames in order. At most two batches are in memory: while one is handed out, the next is being rendered.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalised.
          cameras: [T, 4, 4] camera to world (dataset convention).
          eye_openness: [T].
          background: uint8 [H, W, 3] for all frames or [T, H, W, 3]; the subject's own when None. Without a torso network it must
            already hold the torso.
          end_threshold: transmittance that ends a ray; higher is faster and rougher.
          size: pixels per side to render at, the rays through them and not a resampled picture (the background is resampled); the size
            the person was trained at when None.
          batch: frames per call; what suits the device when None.
          single_pass: evaluate all samples of a batch at once instead of in rounds (see `rendering.frame`); what suits the device when
            None.

        Yields:
          uint8 [size, size, 3].
        """
        subject = self.subject
        size = size or subject.size
        on_cpu = jax.default_backend() == "cpu"
        batch = batch or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH)
        heads = _HeadBatches(self, size, end_threshold, single_pass=not on_cpu if single_pass is None else single_pass)
        condition = windows(normalise_motion(motion, subject.motion_mean, subject.motion_std), self.head_config.model.condition_window)
        eye_openness = np.asarray(eye_openness, np.float32)
        poses = scene_pose(cameras)
        behind = self._behind(poses, subject.background if background is None else np.asarray(background), size)
        pending = None
        for first in range(0, len(condition), batch):
            # The last batch is filled up with its last frame, so that it has the shape of the others.
            chosen = np.minimum(np.arange(first, first + batch), len(condition) - 1)
            real = min(batch, len(condition) - first)
            pictures = list(itertools.islice(behind, real))
            ready = heads.start(poses[chosen], jnp.asarray(condition[chosen]), jnp.asarray(eye_openness[chosen]))
            if pending is not None:
                yield from heads.finish(*pending)
            pending = ready, pictures
        if pending is not None:
            yield from heads.finish(*pending)

    def _behind(self, poses: jax.Array, backgrounds: np.ndarray, size: int) -> Iterator[jax.Array]:
        """Yields what is behind the head in each frame, [size * size, 3] in [0, 1]: torso over background."""
        still = _flat(backgrounds, size) if backgrounds.ndim == 3 else None
        host_poses = np.asarray(poses)
        painted = None
        for i in range(len(host_poses)):
            if still is not None and painted is not None and (self.torso is None or np.array_equal(host_poses[i], host_poses[i - 1])):
                yield painted
                continue
            painted = still if still is not None else _flat(backgrounds[i], size)
            if self.torso is not None:
                painted, _ = render_torso(self.torso, self.torso_params, poses[i], painted, size=(size, size))
            yield painted


class _HeadBatches:
    """Renders batches of heads at one size, and keeps the sample budget of the single pass."""

    def __init__(self, renderer: SubjectRenderer, size: int, end_threshold: float, *, single_pass: bool):
        self._renderer = renderer
        self._size = (size, size)
        self._end_threshold = end_threshold
        self._single_pass = single_pass
        self._intrinsics = jnp.asarray(np.asarray(renderer.subject.intrinsics) * (size / renderer.subject.size), jnp.float32)
        self._budget: int | None = None

    def start(self, poses: jax.Array, windows: jax.Array, eyes: jax.Array) -> tuple[Any, FrameRender]:
        """Sends a batch off without waiting for it; returns what `finish` needs."""
        arguments = poses, windows, eyes
        if self._single_pass and self._budget is None:
            wanted = head_samples(self._renderer.occupied, poses, self._intrinsics, settings=self._renderer.march, size=self._size)
            self._budget = sufficient_budget(int(wanted))
        return arguments, self._render(arguments)

    def finish(self, started: tuple[Any, FrameRender], behind: list[jax.Array]) -> Iterator[np.ndarray]:
        """Yields the first `len(behind)` frames of a batch as uint8 [size, size, 3]."""
        arguments, out = started
        if self._single_pass and int(out.dropped):
            # The head came nearer than in any frame before: this batch is done again with room for it.
            self._budget = max(self._budget or 0, sufficient_budget(int(out.samples)))
            out = self._render(arguments)
        for i, picture in enumerate(behind):
            yield np.asarray(_over(out.rgb[i], out.alpha[i], picture)).reshape(*self._size, 3)

    def _render(self, arguments: tuple[jax.Array, jax.Array, jax.Array]) -> FrameRender:
        poses, windows, eyes = arguments
        renderer = self._renderer
        return render_heads(
            renderer.head,
            renderer.head_params,
            renderer.occupied,
            poses,
            self._intrinsics,
            windows,
            eyes,
            self._end_threshold,
            settings=renderer.march,
            size=self._size,
            budget=self._budget,
        )


@jax.jit
def _over(rgb: jax.Array, alpha: jax.Array, behind: jax.Array) -> jax.Array:
    """[N, 3] uint8: the head over what is behind it, rounded to the nearest level."""
    return jnp.round(jnp.clip(rgb + (1.0 - alpha)[:, None] * behind, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def _flat(picture: np.ndarray, size: int) -> jax.Array:
    return jnp.asarray(resize(picture, size, size).reshape(-1, 3).astype(np.float32) / 255.0)
