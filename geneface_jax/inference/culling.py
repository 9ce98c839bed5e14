"""Baking: which cells of a head, and which pixels of a torso, ever show in a picture; rendering skips all others (`geneface bake`).

The occupancy grid of the training keeps every cell whose density was above a threshold, at a coarse resolution. Most of them lie in
front of the surface, where fog costs samples, or behind it, where nothing is seen. Baking renders the training frames, and more with
turned heads and wider mouths, and keeps the cells that add to a pixel. The result is stored beside the head as `cull.npz`; nothing
needs it.
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from data_tools.command_line import bar
from data_tools.errors import InputError
from data_tools.io import hold
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.inference import motion_filters
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io import checkpoints, cull
from geneface_jax.io.configs import require_not_installed
from geneface_jax.io.cull import Cull
from geneface_jax.io.person_folder import find_parts
from geneface_jax.io.weights import head_fingerprint, params_fingerprint
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.contributions import add_seen_cells, turned
from geneface_jax.rendering.field import render_torso, torso_conditions
from geneface_jax.typing import Bool

RESOLUTION = 256
"""Cells per side of the culled grid: a third of a sample's step."""

FRAMES = 400
"""Pictures that are rendered; every second one has a pose and a mouth beyond the training video's."""

RAYS = 128
"""Pixels per side of these pictures: rays fall on another place of a pixel in each of them."""

THRESHOLD = 5e-4
"""Weight of a sample in a pixel below which its cell may be skipped: an eighth of a level."""

TURN = 14.0
"""Degrees by which heads are turned beyond the training frames' poses, about every axis."""

WIDEST = 1.0
"""`--mouth-amp` of the widest mouths."""

TORSO_FRAMES = 60
"""Training frames from which the torso's pixels are collected."""

TORSO_LEVEL = 1.0 / 255
"""Opacity below which the torso is not seen in a picture of 8 bits."""

TORSO_MARGIN = 3 / 256
"""Reach around the torso's pixels, in fractions of the picture, for the frames between."""

SOLID = 1e-3
"""Transmittance of a ray that meets something solid."""


@dataclasses.dataclass(frozen=True)
class Baked:
    """Result of `bake`.

    Attributes:
      path: the file.
      kept: share of the head's occupied volume that is kept, 0..1.
      ended: share of the solid rays that end within the sample limit, without the cull.
    """

    path: Path
    kept: float
    ended: float

    @property
    def is_fog(self) -> bool:
        """Whether most rays find no surface within the sample limit."""
        return self.ended < 0.5

    @property
    def findings(self) -> list[str]:
        """What is kept, and for a head of fog the way out."""
        found = [f"{100 * self.kept:.0f} % of the head's occupied volume is kept"]
        if self.is_fog:
            found.append(
                f"the head is still fog, which is slow to render (only {100 * self.ended:.0f} % of its solid rays end within the sample "
                "limit): train it further, or again with a larger --config.distortion.weight (configs/head.py)"
            )
        return found


def bake(subject_dir: str | Path, *, progress: bool = False) -> Baked:
    """Writes `cull.npz` beside the newest head of a subject (`head/`, or `head_sr/` where that is used).

    Args:
      subject_dir: folder with a dataset (a light one is enough), a head, and usually a torso.
      progress: whether to draw a progress bar.

    Raises:
      InputError: there is no such head, it is a vanilla NeRF, it belongs to an installation or is in training, or as
        `SubjectRenderer.load`.
    """
    parts = find_parts(subject_dir, need_torso=False, need_speech=False)
    require_not_installed(parts.folder, "copy that folder and bake the copy")
    if parts.head == "nerf_head":
        raise InputError(f"{parts.folder} has a vanilla NeRF, which has no occupancy grid to cull: `geneface bake` is for the others.")
    with hold(parts.folder / parts.head, "geneface bake"):
        renderer = SubjectRenderer.load(parts.folder, torso=parts.torso is not None, stage=parts.head, culled=False)
        cells, ended = seen_cells(renderer, progress=progress)
        torso_pixels = None if renderer.torso is None else _torso_pixels(renderer)
        path = Cull(renderer.head_fingerprint, renderer.torso_fingerprint, cells, torso_pixels).save(parts.folder / parts.head)
    return Baked(path, float(cells.mean()) / float(np.mean(renderer.occupied)), ended)


def is_baked(subject_dir: str | Path) -> bool:
    """Whether the newest head of a subject has a cull that was made of it and of the newest torso; False for a damaged one.

    Raises:
      InputError: there is no head, or a checkpoint is damaged.
    """
    parts = find_parts(subject_dir, need_torso=False, need_speech=False)
    try:
        found = cull.read(parts.folder / parts.head)
    except InputError:
        return False
    if found is None:
        return False
    head = checkpoints.load(parts.folder / parts.head).state["params"]
    torso = None if parts.torso is None else checkpoints.load(parts.folder / parts.torso).state["params"]
    return (found.head, found.torso) == (head_fingerprint(head), "" if torso is None else params_fingerprint(torso))


def seen_cells(renderer: SubjectRenderer, frames: int = FRAMES, *, progress: bool = False) -> tuple[Bool[np.ndarray, "R R R"], float]:
    """Cells of the head that add to a picture, and the share of solid rays that end within the sample limit."""
    subject, rng = renderer.subject, np.random.default_rng(0)
    size = RAYS
    intrinsics = jnp.asarray(np.asarray(subject.intrinsics) * (size / subject.size), jnp.float32)
    chosen = np.linspace(0, subject.n_train - 1, frames).astype(int)
    motion = subject.motion.reshape(-1, 204)
    wide = motion_filters.mouth_amplitude(motion, subject.motion_mean, WIDEST)
    model = renderer.head_config.model
    condition, wide_condition = (
        windows(normalize_motion(m, subject.motion_mean, subject.motion_std), model.condition_window, model.get("condition_frames", 1))
        for m in (motion, wide)
    )
    poses, seen = np.asarray(scene_pose(subject.cameras)), jnp.zeros(RESOLUTION**3, bool)
    ended, solid = 0, 0
    with bar(total=frames, unit="frame", desc="baking", leave=False, disable=not progress) as drawn:
        for number, frame in enumerate(chosen):
            beyond = number % 2
            pose = turned(poses[frame], rng.uniform(-TURN, TURN, 3)) if beyond else poses[frame]
            eyes = rng.choice(subject.eye_openness[: subject.n_train]) if beyond else subject.eye_openness[frame]
            seen, rays = add_seen_cells(
                renderer.head,
                renderer.head_params,
                seen,
                renderer.occupied,
                jnp.asarray(pose, jnp.float32),
                intrinsics,
                jnp.asarray((wide_condition if beyond else condition)[frame]),
                jnp.asarray(eyes, jnp.float32),
                jnp.asarray(rng.random(3), jnp.float32),
                THRESHOLD,
                settings=renderer.march,
                size=size,
                resolution=RESOLUTION,
            )
            is_solid = np.asarray(rays.transmittance) < SOLID
            solid += int(is_solid.sum())
            ended += int((np.asarray(rays.at_cap)[is_solid] < 1e-2).sum())
            drawn.update()
    return _with_margin(np.asarray(seen).reshape((RESOLUTION,) * 3), np.asarray(renderer.occupied)), ended / max(solid, 1)


def _with_margin(seen: Bool[np.ndarray, "R R R"], occupied: Bool[np.ndarray, "Q Q Q"]) -> Bool[np.ndarray, "R R R"]:
    """The cells and their six neighbors, as far as they are occupied.

    Without neighbors, 0.3 % of the pixels of a new pose changed by more than two levels of opacity, in spots of up to 14 pixels; with them
    0.006 %, in spots of two, for a twentieth more samples.
    """
    near = np.arange(len(seen)) * len(occupied) // len(seen)
    return ndimage.binary_dilation(seen) & occupied[np.ix_(near, near, near)]


def _torso_pixels(renderer: SubjectRenderer) -> Bool[np.ndarray, "S S"]:
    """Pixels at which the torso shows in a training frame, with a margin."""
    subject, size = renderer.subject, renderer.subject.size
    assert renderer.torso is not None
    conditions = torso_conditions(
        renderer.torso.condition, subject.cameras, subject.motion, subject.mean_face, np.asarray(subject.intrinsics), size
    )
    seen = np.zeros(size * size, bool)
    background = jnp.zeros((size * size, 3))
    head = jnp.zeros((size * size, 4)) if renderer.torso.head_aware else None
    for frame in np.unique(np.linspace(0, subject.n_train - 1, TORSO_FRAMES).astype(int)):
        _, alpha = render_torso(
            renderer.torso, renderer.torso_params, jnp.asarray(conditions[frame]), background, size=(size, size), head=head
        )
        seen |= np.asarray(alpha) > TORSO_LEVEL
    reach = 1 + round(TORSO_MARGIN * size)
    return ndimage.binary_dilation(seen.reshape(size, size), iterations=reach)
