"""Renderer of a person: head, torso, background and super-resolution, one picture per frame."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy as occupancy_grid
from geneface_kernels.frame_rendering import FrameRender, sufficient_budget
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject, require_same_camera, require_same_dataset, require_same_frames, trained_on
from geneface_jax.inference.controls import in_precision
from geneface_jax.inference.pictures import resize, straight_rgba, without_background
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import TORSO_OF, SubjectParts
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import scene_pose
from geneface_jax.rendering.field import MarchSettings, head_samples, render_heads, render_torso, torso_conditions
from geneface_jax.typing import Array, Bool, Float, Float32, UInt8

# -------- Super-resolution of a composite rendered at half size


class SuperResolver:
    """A trained super-resolution network, with noise off: the original draws new noise for every frame, which flickers.

    Attributes:
      size: pixels per side of the input; the output has twice as many.
    """

    def __init__(self, network: SuperResolution, variables: Any):
        self._network, self._variables = network, variables
        self.size = network.size

    def in_precision(self, precision: str) -> "SuperResolver":
        """The same network with weights in another precision; see `controls.in_precision`."""
        return SuperResolver(self._network, in_precision(self._variables, precision))

    def __call__(self, rgb: Float[Array, "N 3"]) -> Float[Array, "S S 3"]:
        """N = size * size pixels in [0, 1] -> twice the size, not clipped."""
        return _super_resolve(self._network, self._variables, rgb)


@functools.partial(jax.jit, static_argnames=("network",))
def _super_resolve(network: SuperResolution, variables: Any, rgb: jax.Array) -> jax.Array:
    return network.apply(variables, rgb.reshape(1, network.size, network.size, 3))[0]


# -------- Layer behind the head: the torso over the background


class TorsoLayer:
    """Renders the torso (None for the bare background) over a background, at one size; caches the last result.

    `conditions` are those of `rendering.torso.torso_conditions`; `backgrounds` is one picture for all frames or one per frame.
    """

    def __init__(
        self,
        torso: Torso | None,
        params: Any,
        conditions: Float[Array, "T C"] | None,
        backgrounds: UInt8[np.ndarray, "*frames H W 3"],
        size: int,
    ):
        self._torso, self._params, self._conditions = torso, params, conditions
        self._backgrounds, self._size = backgrounds, size
        self._still = flat_picture(backgrounds, size) if backgrounds.ndim == 3 else None
        self._last: tuple[np.ndarray, tuple[jax.Array, jax.Array]] | None = None

    def render(self, frame: int, rgb: Float[Array, "N 3"], alpha: Float[Array, " N"]) -> tuple[Float[Array, "N 3"], Float[Array, " N"]]:
        """The torso over the background in [0, 1], and its opacity; a head-aware torso uses the head's premultiplied `rgb` and `alpha`."""
        background = self._still if self._still is not None else flat_picture(self._backgrounds[frame], self._size)
        if self._torso is None:
            return background, jnp.zeros_like(alpha)
        condition = self._conditions[frame]
        same = self._last is not None and np.array_equal(self._last[0], condition)
        if self._still is not None and not self._torso.head_aware and same:
            return self._last[1]
        head = jnp.concatenate([rgb, alpha[:, None]], axis=-1) if self._torso.head_aware else None
        rendered = render_torso(self._torso, self._params, jnp.asarray(condition), background, size=(self._size, self._size), head=head)
        self._last = condition, rendered
        return rendered


def flat_picture(picture: UInt8[np.ndarray, "H W 3"], size: int) -> Float32[jax.Array, "N 3"]:
    """The picture at `size`, in [0, 1], N = size * size."""
    return jnp.asarray(resize(picture, size, size).reshape(-1, 3).astype(np.float32) / 255.0)


# -------- Renderer of head and torso, or of their super-resolution variants

CPU_BATCH, ACCELERATOR_BATCH = 1, 8
"""Frames per call. On a CPU one frame uses all cores, and larger batches only exceed its caches."""


@dataclasses.dataclass
class SubjectRenderer:
    """Trained networks of one person.

    Attributes:
      subject: the dataset (a light one is enough).
      head, head_params, occupied, march, head_config: the stage "head" or "head_sr".
      torso, torso_params: the torso stage; None renders the head over the bare background.
      super_resolver: super-resolution of the composite; None renders at full size.
    """

    subject: Subject
    head: Head
    head_params: Any
    occupied: Bool[Array, "R R R"]
    march: MarchSettings
    head_config: ConfigDict
    torso: Torso | None
    torso_params: Any
    super_resolver: SuperResolver | None = None

    @classmethod
    def load(
        cls,
        subject_dir: str | Path,
        *,
        step: int | None = None,
        torso: bool = True,
        stage: str = "head",
        subject: Subject | None = None,
    ) -> "SubjectRenderer":
        """Reads `SUBJECT/{dataset,head,torso}`, or `head_sr` and `torso_sr` (`open_renderer` chooses).

        Args:
          step: head checkpoint; the newest when None.
          torso: False omits the torso (evaluation of the head over the true torso).
          stage: "head" or "head_sr".
          subject: the dataset if it is in memory already.

        Raises:
          InputError: a stage is missing, the head was trained for another dataset or camera or is empty, or the torso for another head.
        """
        folder = Path(subject_dir)
        subject = subject or Subject.load(folder / "dataset")
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
            require_same_dataset(f"the torso in {torso_dir}", trained_on(torso_checkpoint.config), subject)
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
            super_resolver=_load_super_resolver(name, checkpoint, subject) if stage == "head_sr" else None,
        )

    def in_precision(self, precision: str) -> "SubjectRenderer":
        """The same person with weights in another precision; see `controls.in_precision`."""
        return dataclasses.replace(
            self,
            head_params=in_precision(self.head_params, precision),
            torso_params=in_precision(self.torso_params, precision),
            super_resolver=None if self.super_resolver is None else self.super_resolver.in_precision(precision),
        )

    def render(
        self,
        motion: Float[np.ndarray, " T *point"],
        cameras: Float[np.ndarray, "T 4 4"],
        eye_openness: Float[np.ndarray, " T"],
        *,
        background: UInt8[np.ndarray, "*frames H W 3"] | None = None,
        torso_cameras: Float[np.ndarray, "T 4 4"] | None = None,
        end_threshold: float = 1e-2,
        size: int | None = None,
        batch: int | None = None,
        single_pass: bool | None = None,
        transparent: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yields frames in order. At most two batches are in memory: while one is yielded, the next is being rendered.

        Args:
          motion: [T, 68, 3] or [T, 204], not normalized.
          cameras: camera to world (dataset convention).
          eye_openness: of every frame.
          background: for all frames or one per frame; the subject's own when None. Without a torso network it must contain the torso.
          torso_cameras: poses of the torso if they differ from the head's (`--orbit`); `cameras` when None.
          end_threshold: transmittance that ends a ray; higher is faster and less accurate.
          size: pixels per side to render at, with rays through these pixels (only the background is resampled); as trained when None.
          batch: frames per call; chosen by the device when None.
          single_pass: evaluate all samples of a batch at once instead of in rounds (see `rendering.field`); chosen by the device when
            None.
          transparent: head and torso with their common alpha channel, without background.

        Yields:
          uint8 [size, size, 3], or [size, size, 4] straight RGBA when transparent.
        """
        subject, model = self.subject, self.head_config.model
        output_size = size or subject.size
        size = output_size if self.super_resolver is None else self.super_resolver.size
        on_cpu = jax.default_backend() == "cpu"
        batch = batch or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH)
        heads = _HeadBatches(self, size, end_threshold, single_pass=not on_cpu if single_pass is None else single_pass)
        normalized = normalize_motion(motion, subject.motion_mean, subject.motion_std)
        condition = windows(normalized, model.condition_window, model.get("condition_frames", 1))
        eye_openness = np.asarray(eye_openness, np.float32)
        poses = scene_pose(cameras)
        # Super-resolution was trained on composites only: it gets the person over the subject's background, which is then removed.
        behind_torso = np.zeros_like(subject.background) if transparent and self.super_resolver is None else background
        torso_layer = self._torso_layer(motion, cameras if torso_cameras is None else torso_cameras, behind_torso, size)
        pending = None
        for first in range(0, len(condition), batch):
            # The last batch is padded with its last frame, so that one shape is compiled.
            chosen = np.minimum(np.arange(first, first + batch), len(condition) - 1)
            numbers = range(first, min(first + batch, len(condition)))
            ready = heads.start(poses[chosen], jnp.asarray(condition[chosen]), jnp.asarray(eye_openness[chosen]))
            if pending is not None:
                yield from self._finish(heads, pending, torso_layer, output_size, transparent)
            pending = ready, numbers
        if pending is not None:
            yield from self._finish(heads, pending, torso_layer, output_size, transparent)

    def _torso_layer(
        self,
        motion: Float[np.ndarray, " T *point"],
        cameras: Float[np.ndarray, "T 4 4"],
        background: UInt8[np.ndarray, "*frames H W 3"] | None,
        size: int,
    ) -> TorsoLayer:
        subject, conditions = self.subject, None
        if self.torso is not None:
            intrinsics = np.asarray(subject.intrinsics)
            conditions = torso_conditions(self.torso.condition, cameras, motion, subject.mean_face, intrinsics, subject.size)
        pictures = subject.background if background is None else np.asarray(background)
        return TorsoLayer(self.torso, self.torso_params, conditions, pictures, size)

    def _finish(
        self, heads: "_HeadBatches", pending: tuple[Any, range], torso_layer: TorsoLayer, size: int, transparent: bool
    ) -> Iterator[np.ndarray]:
        """Composites the frames of a rendered batch and yields them as `render` does."""
        started, numbers = pending
        out = heads.finish(started)
        for i, number in enumerate(numbers):
            behind_head, torso_alpha = torso_layer.render(number, out.rgb[i], out.alpha[i])
            picture = _composite(out.rgb[i], out.alpha[i], behind_head)
            if self.super_resolver is not None:
                picture = self.super_resolver(picture)
            if transparent:
                yield self._with_alpha(picture, 1.0 - (1.0 - out.alpha[i]) * (1.0 - torso_alpha), size)
                continue
            pixels = np.asarray(_to_uint8(picture))
            side = math.isqrt(pixels.size // 3)
            yield resize(pixels.reshape(side, side, 3), size, size)

    def _with_alpha(self, picture: Float[Array, "*pixels 3"], alpha: Float[Array, " N"], size: int) -> UInt8[np.ndarray, "S S 4"]:
        """RGBA of a frame and its opacity; with super-resolution the frame has twice the opacity's size."""
        color, opacity = np.asarray(picture, np.float32), np.asarray(alpha, np.float32)
        alpha_side, side = math.isqrt(opacity.size), math.isqrt(color.size // 3)
        color, opacity = color.reshape(side, side, 3), opacity.reshape(alpha_side, alpha_side)
        if self.super_resolver is not None:
            opacity = np.asarray(jax.image.resize(opacity, (side, side), "linear"))
            background = resize(self.subject.background, side, side).astype(np.float32) / 255.0
            color = without_background(np.clip(color, 0.0, 1.0), opacity, background)
        return straight_rgba(color, opacity, size)


def _occupied(name: str, checkpoint: checkpoints.Checkpoint) -> Bool[jax.Array, "R R R"]:
    """Occupied cells: the checkpoint's bit field, or the cells of its density grid above the threshold."""
    occupancy = checkpoint.state["occupancy"]
    if "occupied" in occupancy:
        occupied = jnp.asarray(occupancy["occupied"], bool)
    else:
        occupied = occupancy_grid.occupied(jnp.asarray(occupancy["grid"]), checkpoint.config.march.density_threshold)
    if not bool(occupied.any()):
        raise InputError(
            f"The occupancy grid of {name} is empty (no cell above the density threshold), because its training collapsed or has hardly "
            "begun: continue training, use another checkpoint, or train again with another --config.seed."
        )
    return occupied


def _check_torso(torso_dir: Path, config: ConfigDict, head_name: str, head_params: Any) -> None:
    """Refuses another head than the torso was trained with: a torso fits one head's outline and, if head-aware, its colors."""
    recorded = config.get("head", ConfigDict()).get("fingerprint")
    if recorded is not None and recorded != head_fingerprint(head_params):
        raise InputError(
            f"The torso in {torso_dir} was trained with another head than {head_name}: restore that head, or train the torso again."
        )


def _load_super_resolver(name: str, checkpoint: checkpoints.Checkpoint, subject: Subject) -> SuperResolver:
    network = SuperResolution(checkpoint.config.super_resolution.size, tuple(checkpoint.config.super_resolution.features))
    if subject.size != 2 * network.size:
        raise InputError(
            f"The super-resolution of {name} makes frames of {2 * network.size} pixels, but {subject.folder} has frames of {subject.size}: "
            "restore the dataset it was trained on, or prepare the video again with that --size."
        )
    variables = {"params": checkpoint.state["params"]["super_resolution"], "constants": checkpoint.state["constants"]}
    return SuperResolver(network, jax.tree.map(jnp.asarray, variables))


class _HeadBatches:
    """Renders batches of heads at one size, and adapts the sample budget of the single pass."""

    def __init__(self, renderer: SubjectRenderer, size: int, end_threshold: float, *, single_pass: bool):
        self._renderer = renderer
        self._size = (size, size)
        self._end_threshold = end_threshold
        self._single_pass = single_pass
        self._intrinsics = jnp.asarray(np.asarray(renderer.subject.intrinsics) * (size / renderer.subject.size), jnp.float32)
        self._budget: int | None = None

    def start(self, poses: Float[Array, "F 4 4"], windows: Float[Array, "F ..."], eyes: Float[Array, " F"]) -> tuple[Any, FrameRender]:
        """Dispatches a batch asynchronously; returns the argument of `finish`."""
        arguments = poses, windows, eyes
        if self._single_pass and self._budget is None:
            samples = head_samples(self._renderer.occupied, poses, self._intrinsics, settings=self._renderer.march, size=self._size)
            self._budget = sufficient_budget(int(samples))
        return arguments, self._render(arguments)

    def finish(self, started: tuple[Any, FrameRender]) -> FrameRender:
        """The rays of a batch, [F, size * size], without dropped samples."""
        arguments, out = started
        if self._single_pass and int(out.dropped):
            # The head is nearer than in all earlier frames: render the batch again with a larger budget.
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
def _composite(rgb: Float[Array, "N 3"], alpha: Float[Array, " N"], background: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Alpha compositing of the head (premultiplied color) over its background, in [0, 1]."""
    return jnp.clip(rgb + (1.0 - alpha)[:, None] * background, 0.0, 1.0)


@jax.jit
def _to_uint8(picture: Float[Array, "*pixels 3"]) -> UInt8[Array, "*pixels 3"]:
    return jnp.round(jnp.clip(picture, 0.0, 1.0) * 255.0).astype(jnp.uint8)


# -------- The renderer of a subject folder with any kind of networks: `open_renderer(find_parts(folder))`


@runtime_checkable
class Renderer(Protocol):
    """Interface of the renderers for inference and evaluation."""

    subject: Subject

    def in_precision(self, precision: str) -> "Renderer":
        """The same with weights in another precision; see `controls.in_precision`."""

    def render(
        self,
        motion: Float[np.ndarray, " T *point"],
        cameras: Float[np.ndarray, "T 4 4"],
        eye_openness: Float[np.ndarray, " T"],
        **options: Any,
    ) -> Iterator[np.ndarray]:
        """Yields uint8 [size, size, 3], or with alpha [size, size, 4], in order; arguments as `SubjectRenderer.render`."""


def open_renderer(parts: SubjectParts, *, step: int | None = None, precision: str = "fp32", subject: Subject | None = None) -> Renderer:
    """Reads the networks that `person_folder.find_parts` found, with the newest head checkpoint if `step` is None.

    `subject` is the dataset if it is in memory already.

    Raises:
      InputError: a stage is damaged, or the networks and the dataset do not belong together.
    """
    torso = parts.torso is not None
    if parts.head == "nerf_head":
        from geneface_jax.inference.nerf_renderer import NerfRenderer

        return NerfRenderer.load(parts.folder, step=step, torso=torso, subject=subject).in_precision(precision)
    return SubjectRenderer.load(parts.folder, step=step, torso=torso, stage=parts.head, subject=subject).in_precision(precision)
