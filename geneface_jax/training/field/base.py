"""Base of the stages that train a head: cameras and pose refinement, occupancy grid updates, training rays, validation frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from geneface_kernels.occupancy import cell_points, update_density
from ml_collections import ConfigDict
from scipy import ndimage

from data_tools.errors import InputError
from geneface_jax.data.compatibility import record_camera
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays, pose_vector, scene_pose, to_scene
from geneface_jax.rendering.field import MarchSettings, TrainRender, carve, in_front_of_face, render_groups, render_head
from geneface_jax.training import devices
from geneface_jax.training.optimizers import field_optimizer
from geneface_jax.typing import Metrics, State

# ----------------------------------------------------------------------------------------------------
# What training judges itself by: a few held-out frames, always the same, and how they are shown.


def heldout_frames(subject: Subject, count: int) -> np.ndarray:
    """Up to `count` held-out frame numbers, evenly spread; empty when the dataset holds none out."""
    chosen = np.unique(np.linspace(subject.n_train, subject.n_frames - 1, count).astype(int))
    return chosen[(chosen >= subject.n_train) & (chosen < subject.n_frames)]


def comparison(truth: np.ndarray, ours: np.ndarray, depth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """truth | ours | difference (x4) | depth (near is bright), side by side.

    Args:
      truth, ours: [H, W, 3] in [0, 1].
      depth: [H, W] along the ray, weighted by opacity; alpha: [H, W].

    Returns:
      uint8 [H, 4 W, 3].
    """
    solid = alpha > 0.5
    along = depth / np.maximum(alpha, 1e-3)
    near, far = np.percentile(along[solid], [1, 99]) if solid.any() else (0.0, 1.0)
    bright = np.where(solid, 1.0 - np.clip((along - near) / max(far - near, 1e-3), 0, 1), 0.0)
    panels = [truth, ours, np.clip(np.abs(ours - truth) * 4.0, 0, 1), np.repeat(bright[..., None], 3, axis=-1)]
    return np.round(np.concatenate(panels, axis=1) * 255.0).astype(np.uint8)


def psnr_in_box(ours: np.ndarray, truth: np.ndarray, box: np.ndarray) -> float:
    """PSNR in dB of [H, W, 3] pictures in [0, 1] inside a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    error = float(np.mean((ours[y0:y1, x0:x1] - truth[y0:y1, x0:x1]) ** 2))
    return float(-10.0 * np.log10(max(error, 1e-10)))


# ----------------------------------------------------------------------------------------------------
# Small corrections of the training cameras, learnt together with the field (BARF, Lin et al. 2021, for cameras that are nearly right).
#
# A tracker's noise moves the head against its pixels by a fraction of a pixel, and a field that must explain all frames with it blurs hair
# and teeth. Held-out frames keep their tracked cameras, so the corrections must not carry the scene away from them: whatever part of them
# is an affine function of the slow tracked pose (a shift of the scene, a turn, a stretch of the head's movement) is projected out. Slow,
# because the noise to be corrected is part of the tracked pose itself: where a head hardly moves it would be most of it.

SLOW = 25
"""Frames (one second) over which tracked poses are averaged: long against a tracker's noise, short against a head's movement."""


def affine_basis(poses: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the affine functions of the slow tracked poses over the frames that are trained on.

    Args:
      poses: [T, 4, 4] scene poses.
      used: [U] numbers of the frames that are trained on; the rows of the others are zero.

    Returns:
      [T, 7] float32; columns beyond the rank (a head that never moves leaves 1) are zero.
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
    """Corrections [T, 6] less their affine part in the slow tracked poses (`affine_basis`); mean-free among others."""
    return corrections - basis @ (basis.T @ corrections)


def corrected(poses: jax.Array, corrections: jax.Array) -> jax.Array:
    """Turns and moves cameras about the scene's origin, the head's centre.

    Args:
      poses: [..., 4, 4] scene poses.
      corrections: [..., 6]: rotation vector in radians, translation in scene units.

    Returns:
      [..., 4, 4]; the poses themselves where the corrections are zero.
    """
    turn = rotation(corrections[..., :3])
    moved = jnp.einsum("...ij,...jk->...ik", turn, poses[..., :3, :])
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
    return jnp.eye(3) + sine * cross + cosine * (cross @ cross)


# ----------------------------------------------------------------------------------------------------
# The head's occupancy grid while it is trained: carved by the masks at the start, followed by the field afterwards.

CARVE_FRAMES = 60
"""Training frames whose masks carve the occupancy grid, spread over the video."""


def init_occupancy(subject: Subject, poses: np.ndarray, march: ConfigDict, bound: float) -> jax.Array:
    """The first grid [R, R, R]: 0 where the head may be, -1 where it can't.

    Args:
      subject: a full dataset.
      poses: [T, 4, 4] scene poses of its frames.
      march: `config.march`: `grid_resolution`, `front_margin`.
      bound: scene half extent.

    Raises:
      InputError: no frame shows a head.
    """
    chosen = np.unique(np.linspace(0, subject.n_train - 1, CARVE_FRAMES).astype(int))
    seen = carve(subject.head_masks(chosen), poses[chosen], np.asarray(subject.intrinsics), march.grid_resolution, bound)
    if march.front_margin > 0:
        face = to_scene(subject.mean_face + subject.motion_mean / 10.0)
        seen &= ~in_front_of_face(face, march.grid_resolution, bound, march.front_margin)
    if not seen.any():
        raise InputError(
            f"no head is visible in {subject.folder / 'head'}: the head masks are empty or the cameras look past them; "
            "run `geneface prepare` again and look at its report"
        )
    return jnp.where(jnp.asarray(seen), 0.0, -1.0)


def refresh_occupancy(
    model: Head, params: Any, grid: jax.Array, window: jax.Array, eye_openness: jax.Array, rng: jax.Array, decay: float
) -> jax.Array:
    """The grid with the field's densities under one frame's condition folded in.

    Args:
      model, params: the head.
      grid: [R, R, R]; cells below 0 are never asked.
      window: [1, W, 204] normalised motion of one frame; eye_openness: [1].
      rng: where in its cell each point lies.
      decay: what is left of a cell's density when the field no longer has it.
    """
    resolution = grid.shape[0]
    condition = model.apply({"params": params}, window, eye_openness, method=Head.condition)
    points = cell_points(jax.random.uniform(rng, (1, *grid.shape, 3)), model.bound)
    # In slabs, so that the slabs without a living cell cost nothing and memory stays small.
    block = 4 * resolution * resolution
    live = (grid >= 0).reshape(-1, block)

    def density(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, any_live = args
        asked = lambda: model.apply({"params": params}, x, condition, method=Head.density)[0]  # noqa: E731
        return jax.lax.cond(any_live, asked, lambda: jnp.zeros(block))

    fresh = jax.lax.map(density, (points.reshape(-1, block, 3), live.any(axis=1)))
    return update_density(grid, fresh.reshape(grid.shape), decay)


# ----------------------------------------------------------------------------------------------------
# What all stages that train a head do alike: read the person, march rays, follow the occupancy, update, render held-out frames.

TRAINABLE = ("params", "poses")
"""Collections of the state that the optimiser moves."""

SMALL_HEAD = 0.15
"""Share of the picture below which a head has too few pixels to become sharp."""


class HeadField:
    """A person's head in training. Its part of the state: `params` (averaged where the config says so), `opt_state`, `occupancy`, and
    with pose refinement `poses`: `corrections` [n_train, 6] (`training.field.base`)."""

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = Subject.load(config.data.subject)
        subject, model = self.subject, config.model
        model.codes = subject.n_train
        record_camera(config, subject.size, subject.intrinsics._asdict())
        self.model = Head.from_config(model)
        self.march = MarchSettings.from_config(config.march)
        refinement = config.pose_refinement
        self.optimizer = field_optimizer(config.optimizer, config.train.steps, {"corrections": refinement.lr} if refinement.lr else None)
        motion = normalize_motion(subject.motion, subject.motion_mean, subject.motion_std)
        self.condition_windows = windows(motion, model.condition_window, model.get("condition_frames", 1))
        self.poses = np.asarray(scene_pose(subject.cameras))
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self.train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._warned = False

    def initial_head(self, rng: jax.Array) -> Any:
        """First parameters of the head's network."""
        window = jnp.asarray(self.condition_windows[:1])
        return self.model.init(rng, window, jnp.zeros(1), jnp.zeros((8, 3)), method=Head.initialize)["params"]

    def initial_state(self, params: Any) -> State:
        """The first state around parameters: optimiser, corrections, and the occupancy grid carved by the head masks."""
        state: State = {"params": params}
        if self.config.pose_refinement.lr:
            state["poses"] = {"corrections": jnp.zeros((self.subject.n_train, 6))}
        state["opt_state"] = self.optimizer.init(trainable(state))
        state["occupancy"] = {"grid": init_occupancy(self.subject, self.poses, self.config.march, self.config.model.bound)}
        return state

    def frame_data(self) -> dict[str, jax.Array]:
        """Per-frame conditions and cameras of the training split, small enough for every device."""
        count = self.subject.n_train
        return {
            "windows": jnp.asarray(self.condition_windows[:count]),
            "eye_openness": jnp.asarray(self.subject.eye_openness[:count]),
            "poses": jnp.asarray(self.poses[:count]),
            "pose_basis": jnp.asarray(affine_basis(self.poses[:count], self.train_frames)),
            "frames": jnp.asarray(self.train_frames),
        }

    def frame_poses(self, trained: Any, data: Any, frame: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scene poses [G, 4, 4] of training frames with what was learnt about them, and the mean square [] of their corrections."""
        tracked = data["poses"][frame]
        if "poses" not in trained:
            return tracked, jnp.zeros(())
        # Until the field shows a head, its gradients on the cameras are noise.
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

    def followed_grid(self, params: Any, grid: jax.Array, data: Any, rng: jax.Array, step: jax.Array, frozen: jax.Array) -> jax.Array:
        """The occupancy grid for this step: refreshed every few steps under the condition of a random frame, unless `frozen` [] bool."""
        pick_rng, jitter_rng = jax.random.split(rng)
        frame = jax.random.choice(pick_rng, data["frames"])[None]
        window, eyes = data["windows"][frame], data["eye_openness"][frame]
        return jax.lax.cond(
            (step % self.config.march.update_every == 0) & ~frozen,
            lambda: refresh_occupancy(self.model, params, grid, window, eyes, jitter_rng, self.config.march.decay),
            lambda: grid,
        )

    def updated(self, state: State, grads: Any, metrics: Metrics, rest: State) -> tuple[State, Metrics]:
        """One update of everything learnt; `rest` are the collections of the new state that the step made itself."""
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], trainable(state))
        trained = optax.apply_updates(trainable(state), updates)
        return {**state, **trained, "opt_state": opt_state, **rest}, {**metrics, "grad_norm": optax.tree.norm(grads)}

    def remarks(self, means: Mapping[str, float]) -> list[str]:
        """Warns once of a head that fills little of the picture.

        Raises:
          InputError: no cell of the occupancy grid is left, so no ray has a sample and nothing will be learnt any more.
        """
        if means.get("occupancy") == 0.0:
            raise InputError(
                "the occupancy grid is empty, so the head is invisible and can't learn: begin anew in another work folder with a smaller "
                "--config.optimizer.lr, another --config.seed, or a smaller --config.march.density_threshold"
            )
        if self._warned:
            return []
        self._warned = True
        share = self.head_share()
        if share >= SMALL_HEAD:
            return []
        return [
            f"the head fills only {100 * share:.0f} % of the picture (15 % or more is usual): it will look soft; "
            "prepare the video again with a closer crop, or film nearer"
        ]

    def head_share(self) -> float:
        """Mean share 0..1 of the picture that the head covers, over some training frames."""
        chosen = np.unique(np.linspace(0, self.subject.n_train - 1, 10).astype(int))
        return float(np.mean(self.subject.head_masks(chosen)) / 255.0)

    def heldout_picture(
        self, params: Any, occupied: jax.Array, frame: int, behind: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The head of a held-out frame by the head protocol, over `behind` [H, W, 3] and at its size.

        Returns:
          (picture [H, W, 3] in [0, 1], depth [H, W], alpha [H, W]).
        """
        size = behind.shape[:2]
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
        picture = np.asarray(out.rgb).reshape(behind.shape) + (1.0 - alpha)[..., None] * behind
        return np.clip(picture, 0.0, 1.0), np.asarray(out.depth).reshape(size), alpha


def trainable(state: State) -> State:
    """The collections of a state that the optimiser moves."""
    return {name: state[name] for name in TRAINABLE if name in state}


def noise_per_group(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """[G, R] in [0, 1), the same for a frame's group on however many devices the groups are spread; inside a mapped step."""
    groups, rays = shape
    return jax.vmap(lambda g: jax.random.uniform(jax.random.fold_in(rng, g), (rays,)))(devices.global_indices(groups))
