"""Base of the field stages: cameras and pose refinement, occupancy grid updates, training rays, validation frames, a frozen head."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from geneface_kernels import occupancy as occupancy_grid
from geneface_kernels.occupancy import cell_points, update_density
from ml_collections import ConfigDict
from scipy import ndimage

from data_tools.errors import InputError
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.pixel_sampling import over
from geneface_jax.data.subject import Subject, record_camera, record_dataset, require_same_camera, require_same_frames
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import head_fingerprint
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import EXACT, pixel_rays, pose_vector, scene_pose, to_scene
from geneface_jax.rendering.field import MarchSettings, TrainRender, carve, in_front_of_face, render_groups, render_head, render_rays
from geneface_jax.training import devices
from geneface_jax.training.field_losses import late_loss, psnr, ramp
from geneface_jax.training.optimizers import field_optimizer
from geneface_jax.training.stage import Phase, Stage
from geneface_jax.typing import Metrics, State

# -------- Base of the stages that train a head: cameras and pose refinement, occupancy grid updates, training rays, validation frames

# -------- Training frames and validation frames of a dataset


def training_frames(subject: Subject) -> np.ndarray:
    """[U] int32 numbers of the training frames whose tracking is not interpolated."""
    return np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)


def heldout_frames(subject: Subject, count: int) -> np.ndarray:
    """Up to `count` held-out frame numbers, evenly spread and always the same; empty if the dataset holds none out."""
    chosen = np.unique(np.linspace(subject.n_train, subject.n_frames - 1, count).astype(int))
    return chosen[(chosen >= subject.n_train) & (chosen < subject.n_frames)]


def comparison(truth: np.ndarray, ours: np.ndarray, depth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Validation image, uint8 [H, 4 W, 3]: truth | ours | difference (x4) | depth (near is bright).

    Args:
      truth, ours: [H, W, 3] in [0, 1].
      depth: [H, W] along the ray, weighted by opacity; alpha: [H, W].
    """
    solid = alpha > 0.5
    along = depth / np.maximum(alpha, 1e-3)
    near, far = np.percentile(along[solid], [1, 99]) if solid.any() else (0.0, 1.0)
    bright = np.where(solid, 1.0 - np.clip((along - near) / max(far - near, 1e-3), 0, 1), 0.0)
    return to_uint8(np.concatenate([truth, ours, difference(ours, truth), np.repeat(bright[..., None], 3, axis=-1)], axis=1))


def difference(ours: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Four times the absolute difference of pictures in [0, 1], clipped to [0, 1]."""
    return np.clip(np.abs(ours - truth) * 4.0, 0, 1)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, rounded."""
    return np.round(picture * 255.0).astype(np.uint8)


def psnr_in_box(ours: np.ndarray, truth: np.ndarray, box: np.ndarray) -> float:
    """PSNR in dB of [H, W, 3] pictures in [0, 1] inside a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    return float(psnr(float(np.mean((ours[y0:y1, x0:x1] - truth[y0:y1, x0:x1]) ** 2))))


# -------- Pose refinement: small corrections of the training cameras, learned together with the field (BARF, Lin et al. 2021)
#
# The tracker's noise moves the head against its pixels by a fraction of a pixel, which blurs hair and teeth. Held-out frames keep their
# tracked cameras, so the corrections must not move the scene as a whole (the gauge freedom): their part that is an affine function of the
# slow tracked pose is projected out. Slow, because the noise to be corrected is part of the tracked pose itself: for a head that hardly
# moves it would be most of it.

SLOW = 25
"""Frames (one second) over which tracked poses are averaged: long compared to tracker noise, short compared to head movement."""


def affine_basis(poses: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the affine functions of the slow tracked poses over the frames that are trained on.

    Args:
      poses: [T, 4, 4] scene poses.
      used: [U] numbers of the frames that are trained on; the rows of the others are zero.

    Returns:
      [T, 7] float32; columns beyond the rank (1 for a head that never moves) are zero.
    """
    vectors = np.asarray(pose_vector(jnp.asarray(poses)), np.float64)
    vectors = ndimage.uniform_filter1d(vectors, SLOW, axis=0, mode="nearest")[used]
    deviation = vectors.std(axis=0)
    moving = (vectors - vectors.mean(axis=0)) / np.where(deviation > 1e-6, deviation, np.inf)
    left, strength, _ = np.linalg.svd(np.concatenate([np.ones((len(used), 1)), moving], axis=1), full_matrices=False)
    basis = np.zeros((len(poses), 7), np.float32)
    kept = left * (strength > 1e-4 * strength[0])
    basis[used, : kept.shape[1]] = kept
    return basis


def without_gauge(corrections: jax.Array, basis: jax.Array) -> jax.Array:
    """Corrections [T, 6] minus their affine part in the slow tracked poses (`affine_basis`), so also zero-mean."""
    return corrections - jnp.matmul(basis, jnp.matmul(basis.T, corrections, precision=EXACT), precision=EXACT)


def corrected(poses: jax.Array, corrections: jax.Array) -> jax.Array:
    """Scene poses [..., 4, 4], rotated and translated about the scene's origin, the head's center, by corrections [..., 6]: rotation vector
    in radians, translation in scene units."""
    turn = rotation(corrections[..., :3])
    moved = jnp.einsum("...ij,...jk->...ik", turn, poses[..., :3, :], precision=EXACT)
    moved = moved.at[..., 3].add(corrections[..., 3:])
    return jnp.concatenate([moved, poses[..., 3:, :]], axis=-2)


def rotation(vector: jax.Array) -> jax.Array:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] in radians (Rodrigues), smooth at zero."""
    square = jnp.sum(vector**2, axis=-1)[..., None, None]
    angle = jnp.sqrt(jnp.maximum(square, 1e-12))
    small = square < 1e-8
    sine = jnp.where(small, 1.0 - square / 6.0, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - square / 24.0, (1.0 - jnp.cos(angle)) / angle**2)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)
    return jnp.eye(3) + sine * cross + cosine * jnp.matmul(cross, cross, precision=EXACT)


# -------- Occupancy grid during training: carved by the head masks at the start, then updated from the field's densities

CARVE_FRAMES = 60
"""Number of training frames whose masks carve the occupancy grid, evenly spread."""


def init_occupancy(subject: Subject, poses: np.ndarray, march: ConfigDict, bound: float) -> jax.Array:
    """Initial grid [R, R, R], carved by the head masks of some frames: 0 where the head may be, -1 where it can't be.

    `poses` [T, 4, 4] are scene poses, `march` is `config.march`, `bound` the scene's half extent. Raises InputError if no frame shows a
    head.
    """
    chosen = np.unique(np.linspace(0, subject.n_train - 1, CARVE_FRAMES).astype(int))
    seen = carve(subject.head_masks(chosen), poses[chosen], np.asarray(subject.intrinsics), march.grid_resolution, bound)
    if march.front_margin > 0:
        face = to_scene(subject.mean_face + subject.motion_mean / 10.0)
        seen &= ~in_front_of_face(face, march.grid_resolution, bound, march.front_margin)
    if not seen.any():
        raise InputError(
            f"{subject.folder / 'head'} shows no head, so the masks are empty or the cameras look past them: run `geneface prepare` again "
            "and look at its report."
        )
    return jnp.where(jnp.asarray(seen), 0.0, -1.0)


def refresh_occupancy(
    model: Head, params: Any, grid: jax.Array, window: jax.Array, eye_openness: jax.Array, rng: jax.Array, decay: float
) -> jax.Array:
    """Updates the grid with the field's densities under the condition of one frame.

    Args:
      model, params: the head.
      grid: [R, R, R]; cells below 0 are not evaluated.
      window: [1, W, 204] normalized motion of one frame; eye_openness: [1].
      rng: for the position of each sample point in its cell.
      decay: factor of a cell's old density; the cell gets the larger of that and the new density.
    """
    resolution = grid.shape[0]
    condition = model.apply({"params": params}, window, eye_openness, method=Head.condition)
    points = cell_points(jax.random.uniform(rng, (1, *grid.shape, 3)), model.bound)
    # In slabs: those without a cell that can be occupied are skipped, and memory stays small.
    block = 4 * resolution * resolution
    live = (grid >= 0).reshape(-1, block)

    def density(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, any_live = args
        evaluated = lambda: model.apply({"params": params}, x, condition, method=Head.density)[0]  # noqa: E731
        return jax.lax.cond(any_live, evaluated, lambda: jnp.zeros(block))

    densities = jax.lax.map(density, (points.reshape(-1, block, 3), live.any(axis=1)))
    return update_density(grid, densities.reshape(grid.shape), decay)


# -------- Base class of the head stages

TRAINABLE = ("params", "poses")
"""Collections of the state that the optimizer updates."""

SMALL_HEAD = 0.15
"""Share of the picture below which a head has too few pixels to become sharp."""


class HeadField(Stage):
    """Base of the stages that train a head. Collections of the state: `params` (an EMA if the config asks for one), `opt_state`,
    `occupancy`, and with pose refinement `poses`: `corrections` [n_train, 6]."""

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.subject = subject = Subject.load(config.data.subject)
        config.model.codes = subject.n_train
        record_camera(config, subject.size, subject.intrinsics._asdict())
        record_dataset(config, subject.fingerprint)
        model = config.model
        self.model = Head.from_config(model)
        self.march = MarchSettings.from_config(config.march)
        refinement = config.pose_refinement
        self.optimizer = field_optimizer(config.optimizer, config.train.steps, {"corrections": refinement.lr} if refinement.lr else None)
        motion = normalize_motion(subject.motion, subject.motion_mean, subject.motion_std)
        self.condition_windows = windows(motion, model.condition_window, model.get("condition_frames", 1))
        self.poses = np.asarray(scene_pose(subject.cameras))
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self.train_frames = training_frames(subject)
        self._head_size_checked = False

    def phases(self) -> list[Phase]:
        """Start of the pose refinement, and start and full weight of the distortion, where the config has them."""
        refinement, distortion, steps = self.config.pose_refinement, self.config.distortion, self.config.train.steps
        start = refinement.start
        found = [Phase("pose_refinement.start", start, start, steps, steps // 2, "pose refinement")] if refinement.lr else []
        if distortion.weight:
            found += late_loss("distortion.", "distortion loss, so its head stays fog", distortion.start, distortion.ramp, steps)
        return found

    def distortion_weight(self, step: jax.Array) -> jax.Array:
        """[] weight of the rays' distortion in this step: it rises late in training, when the shape is known."""
        distortion = self.config.distortion
        return distortion.weight * ramp(step, distortion.start, distortion.ramp)

    def jitter(self, step: jax.Array) -> jax.Array:
        """[] share of a step by which the samples of training rays are moved; it falls as the weight of the distortion rises.

        The samples of all frames lie in the same planes, one step apart, without it: at inference they do.
        """
        distortion = self.config.distortion
        return 1.0 - (1.0 - distortion.jitter) * ramp(step, distortion.start, distortion.ramp)

    def load_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """(frames, torso over background) of the training split, uint8 [T, H, W, 3] each."""
        frames = self.subject.load_all("frames", self.subject.train)
        return frames, over(self.subject.load_all("torso", self.subject.train), self.subject.background)

    def initial_head(self, rng: jax.Array) -> Any:
        """Initial parameters of the head's network."""
        window = jnp.asarray(self.condition_windows[:1])
        return self.model.init(rng, window, jnp.zeros(1), jnp.zeros((8, 3)), method=Head.initialize)["params"]

    def initial_state(self, params: Any) -> State:
        """Initial state for these parameters: optimizer, corrections, and the occupancy grid carved by the head masks."""
        state: State = {"params": params}
        if self.config.pose_refinement.lr:
            state["poses"] = {"corrections": jnp.zeros((self.subject.n_train, 6))}
        state["opt_state"] = self.optimizer.init(trainable(state))
        state["occupancy"] = {"grid": init_occupancy(self.subject, self.poses, self.config.march, self.config.model.bound)}
        return state

    def frame_data(self) -> dict[str, jax.Array]:
        """Per-frame conditions and cameras of the training split, for every device."""
        count = self.subject.n_train
        return {
            "windows": jnp.asarray(self.condition_windows[:count]),
            "eye_openness": jnp.asarray(self.subject.eye_openness[:count]),
            "poses": jnp.asarray(self.poses[:count]),
            "pose_basis": jnp.asarray(affine_basis(self.poses[:count], self.train_frames)),
            "frames": jnp.asarray(self.train_frames),
        }

    def frame_poses(self, trained: Any, data: Any, frame: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scene poses [G, 4, 4] of training frames including their learned corrections, and the mean square [] of those."""
        tracked = data["poses"][frame]
        if "poses" not in trained:
            return tracked, jnp.zeros(())
        # Until the field shows a head, the gradients of the cameras are noise.
        started = (step >= self.config.pose_refinement.start).astype(jnp.float32)
        correction = started * without_gauge(trained["poses"]["corrections"], data["pose_basis"])[frame]
        return corrected(tracked, correction), jnp.mean(jnp.sum(correction**2, axis=-1))

    def render(
        self,
        params: Any,
        poses: jax.Array,
        data: Any,
        frame: jax.Array,
        pixels: jax.Array,
        intrinsics: np.ndarray,
        noise: jax.Array,
        occupied: jax.Array,
    ) -> TrainRender:
        """Marches the rays of pixels [G, R, 2] (row, column) of frames [G] seen from poses [G, 4, 4], jittered by noise [G, R]."""
        variables = {"params": params}
        condition = self.model.apply(variables, data["windows"][frame], data["eye_openness"][frame], method=Head.condition)
        code = self.model.apply(variables, frame, method=Head.code)
        rays_o, rays_d = pixel_rays(poses, jnp.asarray(intrinsics), pixels[..., 0], pixels[..., 1])

        def field(x, d, group):
            return self.model.apply(variables, x, d, condition, code, group)

        return render_groups(field, rays_o, rays_d, noise, occupied, self.march)

    def maybe_refresh_occupancy(
        self, params: Any, grid: jax.Array, data: Any, rng: jax.Array, step: jax.Array, frozen: jax.Array
    ) -> jax.Array:
        """The occupancy grid for this step: updated every few steps under the condition of a random frame, unless `frozen` [] bool."""
        pick_rng, jitter_rng = jax.random.split(rng)
        frame = jax.random.choice(pick_rng, data["frames"])[None]
        window, eyes = data["windows"][frame], data["eye_openness"][frame]
        return jax.lax.cond(
            (step % self.config.march.update_every == 0) & ~frozen,
            lambda: refresh_occupancy(self.model, params, grid, window, eyes, jitter_rng, self.config.march.decay),
            lambda: grid,
        )

    def apply_gradients(self, state: State, grads: Any, metrics: Metrics, collections: State) -> tuple[State, Metrics]:
        """One optimizer update; `collections` are the other new collections of the state. Adds `grad_norm` to the metrics."""
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], trainable(state))
        trained = optax.apply_updates(trainable(state), updates)
        return {**state, **trained, "opt_state": opt_state, **collections}, {**metrics, "grad_norm": optax.tree.norm(grads)}

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Warns once of a head that fills little of the picture. Raises InputError if the occupancy grid is empty: no ray has a sample
        then, and nothing can be learned anymore."""
        if means.get("occupancy") == 0.0:
            raise InputError(
                "The occupancy grid is empty, so the head is invisible and can't learn: start again in another work folder with a smaller "
                "--config.optimizer.lr, another --config.seed, or a smaller --config.march.density_threshold."
            )
        if self._head_size_checked:
            return []
        self._head_size_checked = True
        share = self.head_share()
        if share >= SMALL_HEAD:
            return []
        return [
            f"the head fills only {100 * share:.0f} % of the picture (15 % or more is usual) and will look soft: "
            "prepare the video again with a closer crop, or film nearer"
        ]

    def head_share(self) -> float:
        """Mean share 0..1 of the picture that the head covers, over some training frames."""
        chosen = np.unique(np.linspace(0, self.subject.n_train - 1, 10).astype(int))
        return float(np.mean(self.subject.head_masks(chosen)) / 255.0)

    def heldout_picture(
        self, params: Any, occupied: jax.Array, frame: int, background: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The head of a held-out frame by the head protocol, over `background` [H, W, 3] and at its size: picture [H, W, 3] in [0, 1],
        depth and alpha [H, W]."""
        size = background.shape[:2]
        out = render_head(
            self.model,
            params,
            occupied,
            jnp.asarray(self.poses[frame]),
            jnp.asarray(self.intrinsics * (size[0] / self.subject.size)),
            jnp.asarray(self.condition_windows[frame]),
            jnp.asarray(self.subject.eye_openness[frame]),
            1e-4,
            settings=self.march,
            size=size,
        )
        alpha = np.asarray(out.alpha).reshape(size)
        picture = np.asarray(out.rgb).reshape(background.shape) + (1.0 - alpha)[..., None] * background
        return np.clip(picture, 0.0, 1.0), np.asarray(out.depth).reshape(size), alpha


def trainable(state: State) -> State:
    """The collections of a state that the optimizer updates."""
    return {name: state[name] for name in TRAINABLE if name in state}


def noise_per_group(rng: jax.Array, groups: int, rays: int) -> jax.Array:
    """[G, R] in [0, 1), independent of the number of devices over which the groups are spread; inside a mapped step."""
    return jax.vmap(lambda g: jax.random.uniform(jax.random.fold_in(rng, g), (rays,)))(devices.global_indices(groups))


# -------- Frozen head: a trained head that a torso stage renders and never updates

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
