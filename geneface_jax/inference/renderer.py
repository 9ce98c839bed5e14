"""Renderer of a person: head, torso, background and super-resolution as one picture per frame."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy as occupancy_grid
from geneface_kernels.frame_rendering import FrameRender, sufficient_budget
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import require_same_camera, require_same_frames
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.inference.controls import in_precision
from geneface_jax.inference.pictures import resize, straight_rgba, without_background
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import TORSO_OF, SubjectParts
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.field import MarchSettings, head_samples, render_heads
from geneface_jax.rendering.torso import render_torso, torso_conditions

# ----------------------------------------------------------------------------------------------------
# Super-resolution at inference: a composite rendered at half size becomes the frame.


class SuperResolver:
    """A trained super-resolution network.

    Noise is off: the original draws a new one in every frame, which flickers.

    Attributes:
      size: pixels per side that it takes; it gives twice as many.
    """

    def __init__(self, network: SuperResolution, variables: Any):
        self._network, self._variables = network, variables
        self.size = network.size

    def in_precision(self, precision: str) -> SuperResolver:
        """The same network kept in another dtype; see `precision.in_precision`."""
        return SuperResolver(self._network, in_precision(self._variables, precision))

    def __call__(self, rgb: jax.Array) -> jax.Array:
        """[size * size, 3] in [0, 1] -> [2 size, 2 size, 3], not clipped."""
        return _super_resolve(self._network, self._variables, rgb)


@functools.partial(jax.jit, static_argnames=("network",))
def _super_resolve(network: SuperResolution, variables: Any, rgb: jax.Array) -> jax.Array:
    return network.apply(variables, rgb.reshape(1, network.size, network.size, 3))[0]


# ----------------------------------------------------------------------------------------------------
# What is behind the head in each frame: the torso over the background.


class TorsoLayer:
    """Paints torso over background at one size, anew only where something changes.

    Args of the constructor:
      torso, params: the network; None leaves the background as it is.
      conditions: [T, 6] or [T, 14] of `rendering.torso.torso_conditions`; unused without a torso.
      backgrounds: uint8 [H, W, 3] for all frames or [T, H, W, 3].
      size: pixels per side.
    """

    def __init__(self, torso: Torso | None, params: Any, conditions: np.ndarray | None, backgrounds: np.ndarray, size: int):
        self._torso, self._params, self._conditions = torso, params, conditions
        self._backgrounds, self._size = backgrounds, size
        self._still = flat_picture(backgrounds, size) if backgrounds.ndim == 3 else None
        self._last: tuple[np.ndarray, tuple[jax.Array, jax.Array]] | None = None

    def paint(self, frame: int, rgb: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is behind the head of a frame.

        Args:
          frame: its number.
          rgb, alpha: [size * size, 3] and [size * size], the head itself (colour times opacity), which a head-aware torso looks at.

        Returns:
          [size * size, 3] in [0, 1], torso over background, and [size * size], the torso's opacity.
        """
        background = self._still if self._still is not None else flat_picture(self._backgrounds[frame], self._size)
        if self._torso is None:
            return background, jnp.zeros_like(alpha)
        condition = self._conditions[frame]
        same = self._last is not None and np.array_equal(self._last[0], condition)
        if self._still is not None and not self._torso.head_aware and same:
            return self._last[1]
        head = jnp.concatenate([rgb, alpha[:, None]], axis=-1) if self._torso.head_aware else None
        painted = render_torso(self._torso, self._params, jnp.asarray(condition), background, size=(self._size, self._size), head=head)
        self._last = condition, painted
        return painted


def flat_picture(picture: np.ndarray, size: int) -> jax.Array:
    """[size * size, 3] in [0, 1] of a uint8 picture of any size."""
    return jnp.asarray(resize(picture, size, size).reshape(-1, 3).astype(np.float32) / 255.0)


# ----------------------------------------------------------------------------------------------------
# A subject's head and torso as one picture per frame: what inference and evaluation render with.

CPU_BATCH, ACCELERATOR_BATCH = 1, 8
"""Frames per call. On a CPU a frame fills the machine, and more of them at once only leave its caches."""


@dataclasses.dataclass
class SubjectRenderer:
    """Trained networks of one person, ready to render.

    Attributes:
      subject: the dataset (a light one is enough).
      head, head_params, occupied, march, head_config: the stage "head" or "head_sr".
      torso, torso_params: the torso stage; None renders the head over the bare background.
      enlarger: super-resolution of the composite; None renders at full size.
    """

    subject: Subject
    head: Head
    head_params: Any
    occupied: jax.Array
    march: MarchSettings
    head_config: ConfigDict
    torso: Torso | None
    torso_params: Any
    enlarger: SuperResolver | None = None

    @classmethod
    def load(cls, subject_dir: str | Path, *, step: int | None = None, torso: bool = True, stage: str = "head") -> SubjectRenderer:
        """Reads `SUBJECT/{dataset,head,torso}`, or `head_sr` and `torso_sr`; `open_renderer` chooses.

        Args:
          subject_dir: the subject folder.
          step: head checkpoint; the newest when None.
          torso: False leaves the torso out (evaluation of the head with the true torso behind it).
          stage: "head" or "head_sr".

        Raises:
          InputError: a stage is missing, the head was trained for another dataset or camera or is empty, or the torso for another head.
        """
        folder = Path(subject_dir)
        subject = Subject.load(folder / "dataset")
        checkpoint = checkpoints.load(folder / stage, step)
        config, params = checkpoint.config, checkpoint.state["params"]
        name = f"the head in {folder / stage}"
        require_same_frames(name, config, subject)
        require_same_camera(name, config, subject)
        occupied = _occupied(name, checkpoint)
        torso_model, torso_params = None, None
        if torso:
            torso_dir = folder / TORSO_OF[stage]
            torso_checkpoint = checkpoints.load(torso_dir)
            _check_torso(torso_dir, torso_checkpoint.config, name, params)
            torso_model = Torso.from_config(torso_checkpoint.config.model)
            torso_params = jax.tree.map(jnp.asarray, torso_checkpoint.state["params"])
        return cls(
            subject=subject,
            head=Head.from_config(config.model),
            head_params=jax.tree.map(jnp.asarray, params["head"] if stage == "head_sr" else params),
            occupied=occupied,
            march=MarchSettings.from_config(config.march),
            head_config=config,
            torso=torso_model,
            torso_params=torso_params,
            enlarger=_load_super_resolver(name, checkpoint, subject) if stage == "head_sr" else None,
        )

    def in_precision(self, precision: str) -> SubjectRenderer:
        """The same person with networks kept in another dtype; see `precision.in_precision`."""
        return dataclasses.replace(
            self,
            head_params=in_precision(self.head_params, precision),
            torso_params=in_precision(self.torso_params, precision),
            enlarger=None if self.enlarger is None else self.enlarger.in_precision(precision),
        )

    def render(
        self,
        motion: np.ndarray,
        cameras: np.ndarray,
        eye_openness: np.ndarray,
        *,
        background: np.ndarray | None = None,
        torso_cameras: np.ndarray | None = None,
        end_threshold: float = 1e-2,
        size: int | None = None,
        batch: int | None = None,
        single_pass: bool | None = None,
        transparent: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yields frames in order. At most two batches are in memory: while one is handed out, the next is being rendered.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalised.
          cameras: [T, 4, 4] camera to world (dataset convention).
          eye_openness: [T].
          background: uint8 [H, W, 3] for all frames or [T, H, W, 3]; the subject's own when None. Without a torso network it must
            already hold the torso.
          torso_cameras: [T, 4, 4] what the torso follows where the head is seen from elsewhere (`--orbit`); `cameras` when None.
          end_threshold: transmittance that ends a ray; higher is faster and rougher.
          size: pixels per side to render at, the rays through them and not a resampled picture (the background is resampled); the size
            the person was trained at when None.
          batch: frames per call; what suits the device when None.
          single_pass: evaluate all samples of a batch at once instead of in rounds (see `rendering.field`); what suits the device when
            None.
          transparent: head and torso with the alpha channel that they have together, before no background.

        Yields:
          uint8 [size, size, 3], or [size, size, 4] RGBA (alpha not multiplied into the colours) when transparent.
        """
        subject, model = self.subject, self.head_config.model
        wanted = size or subject.size
        size = wanted if self.enlarger is None else self.enlarger.size
        on_cpu = jax.default_backend() == "cpu"
        batch = batch or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH)
        heads = _HeadBatches(self, size, end_threshold, single_pass=not on_cpu if single_pass is None else single_pass)
        normalized = normalize_motion(motion, subject.motion_mean, subject.motion_std)
        condition = windows(normalized, model.condition_window, model.get("condition_frames", 1))
        eye_openness = np.asarray(eye_openness, np.float32)
        poses = scene_pose(cameras)
        # An enlarger has only seen people before a background: its own is put behind, and taken away from what it made.
        behind = np.zeros_like(subject.background) if transparent and self.enlarger is None else background
        backdrop = self._backdrop(motion, cameras if torso_cameras is None else torso_cameras, behind, size)
        pending = None
        for first in range(0, len(condition), batch):
            # The last batch is filled up with its last frame, so that it has the shape of the others.
            chosen = np.minimum(np.arange(first, first + batch), len(condition) - 1)
            numbers = range(first, min(first + batch, len(condition)))
            ready = heads.start(poses[chosen], jnp.asarray(condition[chosen]), jnp.asarray(eye_openness[chosen]))
            if pending is not None:
                yield from self._finish(heads, pending, backdrop, wanted, transparent)
            pending = ready, numbers
        if pending is not None:
            yield from self._finish(heads, pending, backdrop, wanted, transparent)

    def _backdrop(self, motion: np.ndarray, cameras: np.ndarray, background: np.ndarray | None, size: int) -> TorsoLayer:
        subject, conditions = self.subject, None
        if self.torso is not None:
            intrinsics = np.asarray(subject.intrinsics)
            conditions = torso_conditions(self.torso.condition, cameras, motion, subject.mean_face, intrinsics, subject.size)
        pictures = subject.background if background is None else np.asarray(background)
        return TorsoLayer(self.torso, self.torso_params, conditions, pictures, size)

    def _finish(
        self, heads: _HeadBatches, pending: tuple[Any, range], backdrop: TorsoLayer, size: int, transparent: bool
    ) -> Iterator[np.ndarray]:
        """Yields a batch as `render` does."""
        started, numbers = pending
        out = heads.finish(started)
        for i, number in enumerate(numbers):
            behind, torso_alpha = backdrop.paint(number, out.rgb[i], out.alpha[i])
            picture = _over(out.rgb[i], out.alpha[i], behind)
            if self.enlarger is not None:
                picture = self.enlarger(picture)
            if transparent:
                yield self._with_alpha(picture, 1.0 - (1.0 - out.alpha[i]) * (1.0 - torso_alpha), size)
                continue
            pixels = np.asarray(_levels(picture))
            side = math.isqrt(pixels.size // 3)
            yield resize(pixels.reshape(side, side, 3), size, size)

    def _with_alpha(self, picture: jax.Array, alpha: jax.Array, size: int) -> np.ndarray:
        """uint8 [size, size, 4] of a frame and its opacity [n * n], which is half as fine where an enlarger made the frame."""
        color, opacity = np.asarray(picture, np.float32), np.asarray(alpha, np.float32)
        side, fine = math.isqrt(opacity.size), math.isqrt(color.size // 3)
        color, opacity = color.reshape(fine, fine, 3), opacity.reshape(side, side)
        if self.enlarger is not None:
            opacity = np.asarray(jax.image.resize(opacity, (fine, fine), "linear"))
            own = resize(self.subject.background, fine, fine).astype(np.float32) / 255.0
            color = without_background(np.clip(color, 0.0, 1.0), opacity, own)
        return straight_rgba(color, opacity, size)


def _occupied(name: str, checkpoint: checkpoints.Checkpoint) -> jax.Array:
    """[X, X, X] bool cells that rays visit: those that the checkpoint names, or those of its density grid that are dense enough."""
    occupancy = checkpoint.state["occupancy"]
    if "occupied" in occupancy:
        occupied = jnp.asarray(occupancy["occupied"], bool)
    else:
        occupied = occupancy_grid.occupied(jnp.asarray(occupancy["grid"]), checkpoint.config.march.density_threshold)
    if not bool(occupied.any()):
        raise InputError(
            f"{name} is empty: its occupancy grid has no cell above the density threshold, so every picture would be the background; its "
            "training collapsed or has hardly begun: train on, take another checkpoint, or train again with another --config.seed"
        )
    return occupied


def _check_torso(torso_dir: Path, config: ConfigDict, head_name: str, head_params: Any) -> None:
    """A torso is fitted to one head's outline and, if it is head-aware, to its colours."""
    recorded = config.get("head", ConfigDict()).get("fingerprint")
    if recorded is not None and recorded != head_fingerprint(head_params):
        raise InputError(
            f"the torso in {torso_dir} was trained with another head than {head_name}; bring that head back, or train the torso again"
        )


def _load_super_resolver(name: str, checkpoint: checkpoints.Checkpoint, subject: Subject) -> SuperResolver:
    network = SuperResolution(checkpoint.config.super_resolution.size, tuple(checkpoint.config.super_resolution.features))
    if subject.size != 2 * network.size:
        raise InputError(
            f"{name} makes frames of {2 * network.size} pixels but {subject.folder} has frames of {subject.size}; bring back the dataset "
            "it was trained on, or prepare the video again with that --size"
        )
    variables = {"params": checkpoint.state["params"]["super_resolution"], "constants": checkpoint.state["constants"]}
    return SuperResolver(network, jax.tree.map(jnp.asarray, variables))


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

    def finish(self, started: tuple[Any, FrameRender]) -> FrameRender:
        """The rays of a batch, [F, size * size], all of them rendered."""
        arguments, out = started
        if self._single_pass and int(out.dropped):
            # The head came nearer than in any frame before: this batch is done again with room for it.
            self._budget = max(self._budget or 0, sufficient_budget(int(out.samples)))
            out = self._render(arguments)
        return out

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
    """[N, 3] in [0, 1]: the head over what is behind it."""
    return jnp.clip(rgb + (1.0 - alpha)[:, None] * behind, 0.0, 1.0)


@jax.jit
def _levels(picture: jax.Array) -> jax.Array:
    """uint8, rounded to the nearest level."""
    return jnp.round(jnp.clip(picture, 0.0, 1.0) * 255.0).astype(jnp.uint8)


# ----------------------------------------------------------------------------------------------------
# The renderer of a subject folder, whatever networks it holds: `open_renderer(find_parts(folder))`.


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
