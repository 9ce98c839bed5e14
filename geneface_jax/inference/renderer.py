"""Renderer of a person: head, torso, background and super-resolution, one picture per frame."""

import dataclasses
import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy as occupancy_grid
from geneface_kernels.frame_rendering import Cells, FrameRender, Occupied, sufficient_budget
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.landmarks68 import EYES, MOUTH
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject, require_same_camera, require_same_dataset, require_same_frames, trained_on
from geneface_jax.inference.controls import in_precision
from geneface_jax.inference.pictures import resize, straight_rgba, without_background
from geneface_jax.io import checkpoints, cull
from geneface_jax.io.cull import Cull
from geneface_jax.io.person_folder import TORSO_OF, SubjectParts
from geneface_jax.io.weights import head_fingerprint, params_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.adaptive import boxes_of, render_heads_adaptively
from geneface_jax.rendering.cameras import project, scene_pose
from geneface_jax.rendering.field import MarchSettings, head_samples, render_heads, render_visible_torso, torso_conditions
from geneface_jax.typing import Array, Bool, Float, Float32, Int, Integer, UInt8

logger = logging.getLogger(__name__)

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
    """Renders the torso (None for the bare background) over a background, at one size, where a head leaves it visible.

    `conditions` are those of `rendering.field.torso_conditions`; `backgrounds` is one picture for all frames or one per frame; `pixels` are
    the numbers of the pixels at which there may be a torso, row by row.
    """

    def __init__(
        self,
        torso: Torso | None,
        params: Any,
        conditions: Float[Array, "T C"] | None,
        backgrounds: UInt8[np.ndarray, "*frames H W 3"],
        size: int,
        pixels: Integer[np.ndarray, " P"],
    ):
        self._torso, self._params, self._conditions = torso, params, conditions
        self._backgrounds, self._size, self._pixels = backgrounds, size, jnp.asarray(pixels, jnp.int32)
        self._still = flat_picture(backgrounds, size) if backgrounds.ndim == 3 else None
        self._last: np.ndarray | None = None
        self._whole: tuple[jax.Array, jax.Array] | None = None

    def render(self, frame: int, head: Float[Array, "N 4"]) -> tuple[Float[Array, "N 3"], Float[Array, " N"]]:
        """The torso over the background in [0, 1], and its opacity, under a head of premultiplied color and opacity.

        Behind an opaque head it is left out. If a head-unaware torso keeps its pose, all of it is rendered once and used again.
        """
        background = self._still if self._still is not None else flat_picture(self._backgrounds[frame], self._size)
        if self._torso is None:
            return background, jnp.zeros(len(head))
        condition = self._conditions[frame]
        same = self._last is not None and np.array_equal(self._last, condition)
        if not (same and self._still is not None and not self._torso.head_aware):
            self._last, self._whole = condition, None
            return self._render(condition, background, head)
        if self._whole is None:
            self._whole = self._render(condition, background, jnp.zeros_like(head))
        return self._whole

    def _render(self, condition: np.ndarray, background: jax.Array, head: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = (self._size, self._size)
        return render_visible_torso(self._torso, self._params, jnp.asarray(condition), background, self._pixels, head, size=size)


def flat_picture(picture: UInt8[np.ndarray, "H W 3"], size: int) -> Float32[jax.Array, "N 3"]:
    """The picture at `size`, in [0, 1], N = size * size."""
    return jnp.asarray(resize(picture, size, size).reshape(-1, 3).astype(np.float32) / 255.0)


# -------- Renderer of head and torso, or of their super-resolution variants

CPU_BATCH, ACCELERATOR_BATCH = 1, 8
"""Frames per call. On a CPU one frame uses all cores, and larger batches only exceed its caches."""

DENSE_PARTS = (MOUTH, slice(EYES.start, EYES.start + 6), slice(EYES.start + 6, EYES.stop))
"""Landmarks of the mouth and of each eye, around which adaptive rays are dense."""

EYE_AND_MOUTH_ROOM = 0.1
"""Room around eyes and mouth in which adaptive rays are dense, as a share of their width."""


@dataclasses.dataclass
class SubjectRenderer:
    """Trained networks of one person.

    Attributes:
      subject: the dataset (a light one is enough).
      head, head_params, occupied, march, head_config: the stage "head" or "head_sr".
      torso, torso_params: the torso stage; None renders the head over the bare background.
      super_resolver: super-resolution of the composite; None renders at full size.
      cull: what rendering may skip (`geneface bake`); None skips nothing.
      head_fingerprint, torso_fingerprint: of the networks, by which a cull is recognized.
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
    cull: Cull | None = None
    head_fingerprint: str = ""
    torso_fingerprint: str = ""

    @classmethod
    def load(
        cls,
        subject_dir: str | Path,
        *,
        step: int | None = None,
        torso: bool = True,
        stage: str = "head",
        subject: Subject | None = None,
        culled: bool = True,
    ) -> "SubjectRenderer":
        """Reads `SUBJECT/{dataset,head,torso}`, or `head_sr` and `torso_sr` (`open_renderer` chooses).

        Args:
          step: head checkpoint; the newest when None.
          torso: False omits the torso (evaluation of the head over the true torso).
          stage: "head" or "head_sr".
          subject: the dataset if it is in memory already.
          culled: False ignores the head's cull.

        Raises:
          InputError: a stage is missing, the head was trained for another dataset or camera or is empty, or torso or cull for another head.
        """
        folder = Path(subject_dir)
        subject = subject or Subject.load(folder / "dataset")
        checkpoint = checkpoints.load(folder / stage, step)
        config, params = checkpoint.config, checkpoint.state["params"]
        name = f"the head in {folder / stage}"
        require_same_frames(name, config, subject)
        require_same_camera(name, config, subject)
        occupied = _occupied(name, checkpoint)
        torso_model, torso_params, torso_fingerprint = None, None, ""
        if torso:
            torso_dir = folder / TORSO_OF[stage]
            torso_checkpoint = checkpoints.load(torso_dir)
            _check_torso(torso_dir, torso_checkpoint.config, name, params)
            require_same_dataset(f"the torso in {torso_dir}", trained_on(torso_checkpoint.config), subject)
            torso_model = Torso.from_config(torso_checkpoint.config.model)
            torso_params = jax.tree.map(jnp.asarray, torso_checkpoint.state["params"])
            torso_fingerprint = params_fingerprint(torso_checkpoint.state["params"])
        fingerprint = head_fingerprint(params)
        found = _load_cull(folder / stage, fingerprint, torso_fingerprint, any_head=step is not None) if culled else None
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
            cull=found,
            head_fingerprint=fingerprint,
            torso_fingerprint=torso_fingerprint,
        )

    @functools.cached_property
    def visited(self) -> Occupied:
        """Cells in which the head is evaluated: the occupied ones, with a cull those of them that show."""
        return self.occupied if self.cull is None else Cells(self.occupied, jnp.asarray(self.cull.words))

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
        rays: str = "trained",
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
          rays: one of `controls.RAYS`.
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
        single_pass = not on_cpu if single_pass is None else single_pass
        adaptive = size % 2 == 0 and rays == "adaptive"
        dense = self._eyes_and_mouth(motion, cameras, size) if adaptive else None
        heads = _HeadBatches(self, size, end_threshold, dense, single_pass=single_pass and not adaptive)
        normalized = normalize_motion(motion, subject.motion_mean, subject.motion_std)
        condition = windows(normalized, model.condition_window, model.get("condition_frames", 1))
        eye_openness = np.asarray(eye_openness, np.float32)
        poses = np.asarray(scene_pose(cameras))
        # Super-resolution was trained on composites only: it gets the person over the subject's background, which is then removed.
        behind_torso = np.zeros_like(subject.background) if transparent and self.super_resolver is None else background
        torso_layer = self._torso_layer(motion, cameras if torso_cameras is None else torso_cameras, behind_torso, size)
        pending = None
        for first in range(0, len(condition), batch):
            # The last batch is padded with its last frame, so that one shape is compiled.
            chosen = np.minimum(np.arange(first, first + batch), len(condition) - 1)
            numbers = range(first, min(first + batch, len(condition)))
            ready = heads.start(chosen, jnp.asarray(poses[chosen]), jnp.asarray(condition[chosen]), jnp.asarray(eye_openness[chosen]))
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
        return TorsoLayer(self.torso, self.torso_params, conditions, pictures, size, self._torso_pixels(size))

    def _torso_pixels(self, size: int) -> Int[np.ndarray, " P"]:
        """Numbers of the pixels at which the torso may show in a picture of `size`."""
        known = None if self.cull is None else self.cull.torso_pixels
        if known is None:
            return np.arange(size * size)
        return np.flatnonzero(known if size == len(known) else resize(known.astype(np.uint8) * 255, size, size) > 0)

    def _eyes_and_mouth(
        self, motion: Float[np.ndarray, " T *point"], cameras: Float[np.ndarray, "T 4 4"], size: int
    ) -> Int[np.ndarray, "T 3 4"]:
        """Boxes around mouth and eyes in pixels of `size`."""
        subject = self.subject
        meters = (np.asarray(motion).reshape(-1, 68, 3) / 10.0 + subject.mean_face) / 10.0
        points = project(meters, np.asarray(cameras), np.asarray(subject.intrinsics) * (size / subject.size))
        return np.stack([boxes_of(points[:, part], EYE_AND_MOUTH_ROOM) for part in DENSE_PARTS], axis=1)

    def _finish(
        self, heads: "_HeadBatches", pending: tuple[Any, range], torso_layer: TorsoLayer, size: int, transparent: bool
    ) -> Iterator[np.ndarray]:
        """Composites the frames of a rendered batch and yields them as `render` does."""
        started, numbers = pending
        out = heads.finish(started)
        for i, number in enumerate(numbers):
            head = _head_picture(out.rgb, out.alpha, i)
            behind_head, torso_alpha = torso_layer.render(number, head)
            picture = _composite(head, behind_head)
            if self.super_resolver is not None:
                picture = self.super_resolver(picture)
            if transparent:
                yield self._with_alpha(picture, 1.0 - (1.0 - head[:, 3]) * (1.0 - torso_alpha), size)
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


def _load_cull(workdir: Path, head: str, torso: str, *, any_head: bool) -> Cull | None:
    """The cull beside a head with these fingerprints; None if there is none, or with `any_head` if it is another head's.

    Raises:
      InputError: it is another head's, or damaged.
    """
    found = cull.read(workdir)
    if found is None:
        return None
    if found.head != head:
        if any_head:
            return None
        raise InputError(f"{workdir / cull.FILE} was baked from another head than the one in {workdir}: {cull.REMEDY}.")
    if torso and found.torso != torso:
        logger.warning("the torso was trained after %s was baked: `geneface bake` makes rendering faster", workdir / cull.FILE)
        return dataclasses.replace(found, torso_pixels=None)
    return found


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
    """Renders batches of heads at one size, and adapts the sample budget of the single pass.

    `dense` [T, K, 4] are the boxes of `render_heads_adaptively`; None renders every ray.
    """

    def __init__(
        self,
        renderer: SubjectRenderer,
        size: int,
        end_threshold: float,
        dense: Int[np.ndarray, "T K 4"] | None = None,
        *,
        single_pass: bool,
    ):
        self._renderer = renderer
        self._size = (size, size)
        self._end_threshold = end_threshold
        self.dense = dense
        self._single_pass = single_pass
        self._intrinsics = jnp.asarray(np.asarray(renderer.subject.intrinsics) * (size / renderer.subject.size), jnp.float32)
        self._budget: int | None = None
        self._occupied = renderer.visited

    def start(
        self, numbers: Int[np.ndarray, " F"], poses: Float[Array, "F 4 4"], windows: Float[Array, "F ..."], eyes: Float[Array, " F"]
    ) -> tuple[Any, FrameRender]:
        """Dispatches a batch of frames `numbers` asynchronously; returns the argument of `finish`."""
        arguments = numbers, poses, windows, eyes
        if self._single_pass and self._budget is None:
            samples = head_samples(self._occupied, poses, self._intrinsics, settings=self._renderer.march, size=self._size)
            self._budget = sufficient_budget(int(samples))
        return arguments, self._render(*arguments)

    def finish(self, started: tuple[Any, FrameRender]) -> FrameRender:
        """The rays of a batch, [F, size * size], without dropped samples."""
        arguments, out = started
        if self._single_pass and int(out.dropped):
            # The head is nearer than in all earlier frames: render the batch again with a larger budget.
            self._budget = max(self._budget or 0, sufficient_budget(int(out.samples)))
            out = self._render(*arguments)
        return out

    def _render(self, numbers: np.ndarray, poses: jax.Array, windows: jax.Array, eyes: jax.Array) -> FrameRender:
        renderer = self._renderer
        settings: dict[str, Any] = {"settings": renderer.march, "size": self._size}
        frames = poses, self._intrinsics, windows, eyes, self._end_threshold
        if self.dense is not None:
            dense = jnp.asarray(self.dense[numbers])
            return render_heads_adaptively(renderer.head, renderer.head_params, self._occupied, *frames, dense, **settings)
        return render_heads(renderer.head, renderer.head_params, self._occupied, *frames, budget=self._budget, **settings)


class FrameBatches:
    """Frames of any number of talks at once, in batches of one shape, so that nothing is compiled after the first: for live sessions.

    Args:
      renderer: the person.
      size: pixels per side, up to the trained size; ignored by super-resolution, which has one size.
      rays, end_threshold: see `SubjectRenderer.render`.
      batch: frames of a batch; chosen by the device when None.

    Attributes:
      reach: frames before and after a frame whose motion it depends on.
      size, batch: as chosen.
    """

    def __init__(
        self, renderer: SubjectRenderer, size: int, *, rays: str = "trained", end_threshold: float = 1e-2, batch: int | None = None
    ):
        model, on_cpu = renderer.head_config.model, jax.default_backend() == "cpu"
        self._renderer, self._window, self._inner = renderer, model.condition_window, model.get("condition_frames", 1)
        self.reach = self._window // 2 + self._inner // 2
        self.batch = batch or (CPU_BATCH if on_cpu else ACCELERATOR_BATCH)
        sr = renderer.super_resolver
        self.size, self._head_size = (size, size) if sr is None else (renderer.subject.size, sr.size)
        self._background = resize(renderer.subject.background, self._head_size, self._head_size)
        self._adaptive = rays == "adaptive" and self._head_size % 2 == 0
        self._heads = _HeadBatches(renderer, self._head_size, end_threshold, single_pass=not on_cpu and not self._adaptive)

    def render(
        self, motions: Float[np.ndarray, "F W 68 3"], cameras: Float[np.ndarray, "F 4 4"], eye_openness: Float[np.ndarray, " F"]
    ) -> list[np.ndarray]:
        """F pictures, 1 to `batch`, uint8 [size, size, 3].

        Args:
          motions: of each frame and its `reach` neighbors to both sides, W = 2 * reach + 1, not normalized.
          cameras: camera to world of each frame (dataset convention).
          eye_openness: of each frame.
        """
        renderer, subject = self._renderer, self._renderer.subject
        normalized = [normalize_motion(motion, subject.motion_mean, subject.motion_std) for motion in motions]
        conditions = np.stack([windows(motion, self._window, self._inner)[self.reach] for motion in normalized])
        motion = motions[:, self.reach]
        # Padded with the last frame, so that one shape is compiled.
        chosen = np.minimum(np.arange(self.batch), len(motions) - 1)
        if self._adaptive:
            self._heads.dense = renderer._eyes_and_mouth(motion, cameras, self._head_size)
        torso = renderer._torso_layer(motion, cameras, self._background, self._head_size)
        poses, eyes = np.asarray(scene_pose(cameras)), np.asarray(eye_openness, np.float32)
        inputs = jnp.asarray(poses[chosen]), jnp.asarray(conditions[chosen]), jnp.asarray(eyes[chosen])
        started = self._heads.start(chosen, *inputs)
        return list(renderer._finish(self._heads, (started, range(len(motions))), torso, self.size, False))


@jax.jit
def _head_picture(rgb: Float[Array, "F N 3"], alpha: Float[Array, "F N"], frame: int | jax.Array) -> Float[Array, "N 4"]:
    """Premultiplied color and opacity of one frame of a batch."""
    return jnp.concatenate([rgb[frame], alpha[frame][:, None]], axis=-1)


@jax.jit
def _composite(head: Float[Array, "N 4"], background: Float[Array, "N 3"]) -> Float[Array, "N 3"]:
    """Alpha compositing of the head (premultiplied color, opacity) over its background, in [0, 1]."""
    return jnp.clip(head[:, :3] + (1.0 - head[:, 3:]) * background, 0.0, 1.0)


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
