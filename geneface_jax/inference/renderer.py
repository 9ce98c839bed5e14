"""A subject's head and torso as one picture per frame: what inference and evaluation render with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy_grid
from ml_collections import ConfigDict

from geneface_jax.data.conditions import normalise_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.models.build import build_head, build_torso
from geneface_jax.models.head import Head
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.head import render_head
from geneface_jax.rendering.settings import MarchSettings
from geneface_jax.rendering.torso import render_torso


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
    ) -> Iterator[np.ndarray]:
        """Yields frames as they are rendered.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalised.
          cameras: [T, 4, 4] camera to world (dataset convention).
          eye_openness: [T].
          background: uint8 [H, W, 3] for all frames or [T, H, W, 3]; the subject's own when None. Without a torso network it must
            already hold the torso.
          end_threshold: transmittance that ends a ray; higher is faster and rougher.

        Yields:
          uint8 [H, W, 3].
        """
        subject = self.subject
        size = (subject.size, subject.size)
        condition = windows(normalise_motion(motion, subject.motion_mean, subject.motion_std), self.head_config.model.condition_window)
        poses = scene_pose(cameras)
        intrinsics = jnp.asarray(subject.intrinsics, jnp.float32)
        backgrounds = subject.background if background is None else np.asarray(background)
        still = _flat(backgrounds) if backgrounds.ndim == 3 else None
        for i in range(len(condition)):
            behind = still if still is not None else _flat(backgrounds[i])
            if self.torso is not None:
                behind, _ = render_torso(self.torso, self.torso_params, poses[i], behind, size=size)
            out = render_head(
                self.head,
                self.head_params,
                self.occupied,
                poses[i],
                intrinsics,
                jnp.asarray(condition[i]),
                jnp.asarray(eye_openness[i], jnp.float32),
                end_threshold,
                settings=self.march,
                size=size,
            )
            yield _to_uint8(_over(out.rgb, out.alpha, behind), size)


@jax.jit
def _over(rgb: jax.Array, alpha: jax.Array, behind: jax.Array) -> jax.Array:
    """[N, 3] uint8: the head over what is behind it, rounded to the nearest level."""
    return jnp.round(jnp.clip(rgb + (1.0 - alpha)[:, None] * behind, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def _flat(picture: np.ndarray) -> jax.Array:
    return jnp.asarray(picture.reshape(-1, 3).astype(np.float32) / 255.0)


def _to_uint8(pixels: jax.Array, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(pixels).reshape(*size, 3)
