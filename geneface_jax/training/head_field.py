"""What all stages that train a head do alike: read the person, march rays, follow the occupancy, update, render held-out frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import record_camera
from geneface_jax.data.motion import normalise_motion, windows
from geneface_jax.data.subject import Subject
from geneface_jax.models.build import build_head
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays, scene_pose
from geneface_jax.rendering.field import MarchSettings, TrainRender, render_groups, render_head
from geneface_jax.training import devices
from geneface_jax.training.field_optimizer import field_optimizer
from geneface_jax.training.occupancy_field import carved_grid, refreshed_grid
from geneface_jax.training.pose_refinement import affine_basis, corrected, without_gauge
from geneface_jax.training.stage import Metrics, State

LEARNT = ("params", "poses")
"""Collections of the state that the optimiser moves."""

SMALL_HEAD = 0.15
"""Share of the picture below which a head has too few pixels to become sharp."""


class HeadField:
    """A person's head in training. Its part of the state: `params` (averaged where the config says so), `opt_state`, `occupancy`, and
    with pose refinement `poses`: `corrections` [n_train, 6] (`training.pose_refinement`)."""

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = Subject.load(config.data.subject)
        subject, model = self.subject, config.model
        model.codes = subject.n_train
        record_camera(config, subject.size, subject.intrinsics._asdict())
        self.model = build_head(model)
        self.march = MarchSettings.from_config(config.march)
        refinement = config.pose_refinement
        self.optimizer = field_optimizer(config.optimizer, config.train.steps, {"corrections": refinement.lr} if refinement.lr else None)
        motion = normalise_motion(subject.motion, subject.motion_mean, subject.motion_std)
        self.condition_windows = windows(motion, model.condition_window, model.get("condition_frames", 1))
        self.poses = np.asarray(scene_pose(subject.cameras))
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self.train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._warned = False

    def initial_head(self, rng: jax.Array) -> Any:
        """First parameters of the head's network."""
        window = jnp.asarray(self.condition_windows[:1])
        return self.model.init(rng, window, jnp.zeros(1), jnp.zeros((8, 3)), method=Head.initialise)["params"]

    def initial_state(self, params: Any) -> State:
        """The first state around parameters: optimiser, corrections, and the occupancy grid carved by the head masks."""
        state: State = {"params": params}
        if self.config.pose_refinement.lr:
            state["poses"] = {"corrections": jnp.zeros((self.subject.n_train, 6))}
        state["opt_state"] = self.optimizer.init(learnt_part(state))
        state["occupancy"] = {"grid": carved_grid(self.subject, self.poses, self.config.march, self.config.model.bound)}
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

    def frame_poses(self, learnt: Any, data: Any, frame: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scene poses [G, 4, 4] of training frames with what was learnt about them, and the mean square [] of their corrections."""
        tracked = data["poses"][frame]
        if "poses" not in learnt:
            return tracked, jnp.zeros(())
        # Until the field shows a head, its gradients on the cameras are noise.
        started = (step >= self.config.pose_refinement.start).astype(jnp.float32)
        correction = started * without_gauge(learnt["poses"]["corrections"], data["pose_basis"])[frame]
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
            lambda: refreshed_grid(self.model, params, grid, window, eyes, jitter_rng, self.config.march.decay),
            lambda: grid,
        )

    def updated(self, state: State, grads: Any, metrics: Metrics, rest: State) -> tuple[State, Metrics]:
        """One update of everything learnt; `rest` are the collections of the new state that the step made itself."""
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], learnt_part(state))
        learnt = optax.apply_updates(learnt_part(state), updates)
        return {**state, **learnt, "opt_state": opt_state, **rest}, {**metrics, "grad_norm": optax.tree.norm(grads)}

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


def learnt_part(state: State) -> State:
    """The collections of a state that the optimiser moves."""
    return {name: state[name] for name in LEARNT if name in state}


def noise_per_group(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """[G, R] in [0, 1), the same for a frame's group on however many devices the groups are spread; inside a mapped step."""
    groups, rays = shape
    return jax.vmap(lambda g: jax.random.uniform(jax.random.fold_in(rng, g), (rays,)))(devices.global_indices(groups))
