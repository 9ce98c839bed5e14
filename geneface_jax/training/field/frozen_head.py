"""Frozen head: a trained head that a torso stage renders and never updates."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy as occupancy_grid
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject, require_same_camera, require_same_frames
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays, scene_pose
from geneface_jax.rendering.field import MarchSettings, render_rays
from geneface_jax.training.field.base import affine_basis, corrected, training_frames, without_gauge

END_THRESHOLD = 1e-3
"""Transmittance at which a ray ends."""

SHARED = ("codes", "blink_channels", "bound")
"""Keys of a head's `config.model` that its torso records, as it must agree with them."""


class FrozenHead:
    """The head's checkpoint in a work folder, checked against the dataset `subject` that it is used with.

    Raises InputError if there is no checkpoint, its occupancy grid is empty, or it was trained on another dataset or camera.

    Attributes:
      record: saved in the config of the stage that uses the head: `step`, `fingerprint`, and the values of `SHARED`.
    """

    def __init__(self, workdir: str | Path, subject: Subject):
        checkpoint = checkpoints.load(workdir)
        config, state = checkpoint.config, checkpoint.state
        name = f"the head in {workdir}"
        require_same_frames(name, config, subject)
        require_same_camera(name, config, subject)
        params = state["params"].get("head", state["params"])
        self._model = Head.from_config(config.model)
        self._march = MarchSettings.from_config(config.march)
        self._intrinsics = np.asarray(subject.intrinsics, np.float32)
        self._size = subject.size
        motion = normalize_motion(subject.motion, subject.motion_mean, subject.motion_std)
        self._arrays = {
            "params": jax.tree.map(jnp.asarray, params),
            "occupied": _occupied(name, state["occupancy"], config.march.density_threshold),
            "windows": jnp.asarray(windows(motion, config.model.condition_window, config.model.get("condition_frames", 1))),
            "eye_openness": jnp.asarray(subject.eye_openness),
            "poses": jnp.asarray(_poses(subject, state)),
        }
        self.record = ConfigDict({"step": checkpoint.step, "fingerprint": head_fingerprint(params)})
        self.record.update({key: config.model[key] for key in SHARED})

    def arrays(self) -> dict[str, Any]:
        """Arrays that `render` needs, for every device."""
        return self._arrays

    def render(self, arrays: dict[str, Any], frames: jax.Array, pixels: jax.Array, codes: jax.Array | None = None) -> jax.Array:
        """Renders the head at pixels of frames, without gradients.

        Args:
          arrays: result of `arrays`, on this device.
          frames: [G] frame numbers of the dataset.
          pixels: [G, R, 2] (row, column).
          codes: [G] appearance codes; None uses the frames' own, which only training frames have.

        Returns:
          [G, R, 4] premultiplied color and opacity.
        """
        variables = {"params": arrays["params"]}
        window, eyes = arrays["windows"][frames], arrays["eye_openness"][frames]
        condition = self._model.apply(variables, window, eyes, method=Head.condition)
        code = self._model.apply(variables, frames if codes is None else codes, method=Head.code)
        rays_o, rays_d = pixel_rays(arrays["poses"][frames], jnp.asarray(self._intrinsics), pixels[..., 0], pixels[..., 1])

        def field(points: jax.Array, directions: jax.Array, frame: jax.Array):
            return self._model.apply(variables, points, directions, condition, code, frame)

        out = render_rays(field, rays_o, rays_d, arrays["occupied"], self._march, END_THRESHOLD)
        return jax.lax.stop_gradient(jnp.concatenate([out.rgb, out.alpha[..., None]], axis=-1))

    def picture(self, frame: int) -> jax.Array:
        """[H * W, 4] the head of a frame under appearance code 0, as in inference."""
        rows, columns = np.meshgrid(np.arange(self._size), np.arange(self._size), indexing="ij")
        pixels = np.stack([rows.reshape(-1), columns.reshape(-1)], axis=-1)[None]
        return self._picture(self._arrays, jnp.array([frame]), jnp.asarray(pixels))[0]

    @functools.cached_property
    def _picture(self):
        return jax.jit(lambda arrays, frame, pixels: self.render(arrays, frame, pixels, jnp.zeros_like(frame)))


def _poses(subject: Subject, state: dict[str, Any]) -> np.ndarray:
    """[T, 4, 4] scene poses, those of the training frames with the head's learned corrections if it has some."""
    poses = np.array(scene_pose(subject.cameras))
    if "poses" not in state:
        return poses
    count = subject.n_train
    basis = affine_basis(poses[:count], training_frames(subject))
    corrections = without_gauge(jnp.asarray(state["poses"]["corrections"]), jnp.asarray(basis))
    poses[:count] = corrected(jnp.asarray(poses[:count]), corrections)
    return poses


def _occupied(name: str, occupancy: dict[str, Any], threshold: float) -> jax.Array:
    if "occupied" in occupancy:
        occupied = jnp.asarray(occupancy["occupied"], bool)
    else:
        occupied = occupancy_grid.occupied(jnp.asarray(occupancy["grid"]), threshold)
    if not bool(occupied.any()):
        raise InputError(
            f"The occupancy grid of {name} is empty, no cell is above the density threshold: train it for more steps, or again with "
            "another seed."
        )
    return occupied
