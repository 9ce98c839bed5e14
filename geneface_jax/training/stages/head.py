"""The head stage: a person's landmark-conditioned radiance field (GeneFace's `lm3d_radnerf`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from geneface_kernels import occupancy_grid
from ml_collections import ConfigDict

from geneface_jax.data.conditions import normalise_motion, windows
from geneface_jax.data.pixels import Region, draw_frames, draw_pixels, in_boxes, over
from geneface_jax.data.subject import Subject
from geneface_jax.errors import InputError
from geneface_jax.models.build import build_head
from geneface_jax.models.head import Head
from geneface_jax.rendering.cameras import pixel_rays, scene_pose, to_scene
from geneface_jax.rendering.head import render_head
from geneface_jax.rendering.settings import MarchSettings
from geneface_jax.rendering.silhouette import carve, in_front_of_face
from geneface_jax.rendering.train_rays import render_groups
from geneface_jax.training import devices
from geneface_jax.training.field_losses import ambient_outside_face, masked_mean, opacity_entropy, psnr
from geneface_jax.training.field_optimizer import field_optimizer
from geneface_jax.training.stage import Evaluation, Metrics, State

CARVE_FRAMES = 60
"""Training frames whose masks carve the occupancy grid, spread over the video."""


class HeadStage:
    """See `training.stage.Stage`."""

    unit = "rays"
    best = ("val/psnr_face_box", "max")

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = Subject.load(config.data.subject)
        subject = self.subject
        config.model.codes = subject.n_train
        self.model = build_head(config.model)
        self.march = MarchSettings.from_config(config.march)
        self.items_per_step = config.data.groups * config.data.rays
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        self.condition_windows = windows(
            normalise_motion(subject.motion, subject.motion_mean, subject.motion_std), config.model.condition_window
        )
        self.poses = np.asarray(scene_pose(subject.cameras))
        self.intrinsics = np.asarray(subject.intrinsics, np.float32)
        self._train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._pictures: tuple[np.ndarray, np.ndarray] | None = None

    def _load_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """(frames, torso over background) of the training split, uint8 [T, H, W, 3] each, decoded once."""
        if self._pictures is None:
            frames = self.subject.load_all("frames", self.subject.train)
            behind = over(self.subject.load_all("torso", self.subject.train), self.subject.background)
            self._pictures = frames, behind
        return self._pictures

    def init(self, rng: jax.Array) -> State:
        """First state: parameters, Adam moments, and the occupancy grid carved by the head masks."""
        window = jnp.asarray(self.condition_windows[:1])
        params = self.model.init(rng, window, jnp.zeros(1), jnp.zeros((8, 3)), method=Head.initialise)["params"]
        resolution = self.config.march.grid_resolution
        chosen = np.unique(np.linspace(0, self.subject.n_train - 1, CARVE_FRAMES).astype(int))
        bound = self.config.model.bound
        seen = carve(self.subject.head_masks(chosen), self.poses[chosen], self.intrinsics, resolution, bound)
        if self.config.march.front_margin > 0:
            face = to_scene(self.subject.mean_face + self.subject.motion_mean / 10.0)
            seen &= ~in_front_of_face(face, resolution, bound, self.config.march.front_margin)
        if not seen.any():
            raise InputError(
                f"no head is visible in {self.subject.folder / 'head'}: the head masks are empty or the cameras look past them; "
                "run `geneface prepare` again and look at its report"
            )
        return {
            "params": params,
            "opt_state": self.optimizer.init(params),
            "occupancy": {"grid": jnp.where(jnp.asarray(seen), 0.0, -1.0)},
        }

    def data(self) -> Any:
        """Per-frame conditions and cameras, small enough for every device."""
        return {
            "windows": jnp.asarray(self.condition_windows[: self.subject.n_train]),
            "eye_openness": jnp.asarray(self.subject.eye_openness[: self.subject.n_train]),
            "poses": jnp.asarray(self.poses[: self.subject.n_train]),
            "frames": jnp.asarray(self._train_frames),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame: more pixels where people look."""
        data = self.config.data
        frames_rgb, behind = self._load_pictures()
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self._train_frames, data.groups)
        regions = [Region(data.face_share, self.subject.face_box), Region(data.lip_share, self.subject.lip_box)]
        pixels = draw_pixels(rng, frames, data.rays, frames_rgb.shape[1:3], regions)
        row, column = pixels[..., 0], pixels[..., 1]
        return {
            "frame": frames,
            "pixels": pixels,
            "target": frames_rgb[frames[:, None], row, column],
            "behind": behind[frames[:, None], row, column],
            "in_face": in_boxes(pixels, self.subject.face_box[frames]),
        }

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """Occupancy update every few steps, then one Adam step on random rays."""
        grid_rng, noise_rng = jax.random.split(rng)
        grid = jax.lax.cond(
            step % self.config.march.update_every == 0,
            lambda: self._updated_grid(state["params"], state["occupancy"]["grid"], data, grid_rng),
            lambda: state["occupancy"]["grid"],
        )
        occupied = occupancy_grid.occupied(grid, self.config.march.density_threshold)
        groups = devices.global_indices(batch["frame"].shape[0])
        rays = batch["pixels"].shape[1]
        noise = jax.vmap(lambda g: jax.random.uniform(jax.random.fold_in(noise_rng, g), (rays,)))(groups)
        target = batch["target"].astype(jnp.float32) / 255.0
        behind = batch["behind"].astype(jnp.float32) / 255.0
        ambient_weight = self.config.loss.ambient * jnp.minimum(step / self.config.train.steps, 1.0)

        def loss(params):
            out = self._render(params, data, batch, noise, occupied)
            composite = out.composite
            rgb = composite.rgb.reshape(target.shape) + (1.0 - composite.alpha.reshape(target.shape[:2]))[..., None] * behind
            # A ray that ran out of sample budget shows less than the field holds: it says nothing about the pixel.
            complete = out.complete.astype(jnp.float32)
            in_face = batch["in_face"].reshape(-1).astype(jnp.float32)
            mse = masked_mean(jnp.mean((rgb - target) ** 2, axis=-1).reshape(-1), complete)
            entropy = masked_mean(opacity_entropy(composite.alpha), complete)
            ambient = masked_mean(ambient_outside_face(composite.ambient, in_face), complete)
            total = mse + self.config.loss.entropy * entropy + ambient_weight * ambient
            return total, {
                "loss": total,
                "mse": mse,
                "entropy": entropy,
                "ambient": ambient,
                "samples_per_ray": out.samples / noise.size,
                "rays_out_of_budget": 1.0 - jnp.mean(complete),
            }

        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics = devices.mean((grads, metrics))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {
            **metrics,
            "psnr": psnr(metrics["mse"]),
            "occupancy": jnp.mean(occupied),
            "grad_norm": optax.tree.norm(grads),
        }
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state, "occupancy": {"grid": grid}}, metrics

    def _render(self, params, data, batch, noise, occupied):
        variables = {"params": params}
        frame = batch["frame"]
        condition = self.model.apply(variables, data["windows"][frame], data["eye_openness"][frame], method=Head.condition)
        code = self.model.apply(variables, frame, method=Head.code)
        rays_o, rays_d = pixel_rays(data["poses"][frame], jnp.asarray(self.intrinsics), batch["pixels"][..., 0], batch["pixels"][..., 1])

        def field(x, d, group):
            return self.model.apply(variables, x, d, condition, code, group)

        return render_groups(field, rays_o, rays_d, noise, occupied, self.march)

    def _updated_grid(self, params, grid, data, rng):
        """Densities of all cells that a camera saw, under the condition of one random frame, folded into the running grid."""
        pick_rng, jitter_rng = jax.random.split(rng)
        resolution, bound = grid.shape[0], self.config.model.bound
        frame = jax.random.choice(pick_rng, data["frames"])[None]
        condition = self.model.apply({"params": params}, data["windows"][frame], data["eye_openness"][frame], method=Head.condition)
        centres = occupancy_grid.cell_centres(resolution, bound)
        points = centres + jax.random.uniform(jitter_rng, centres.shape, minval=-1.0, maxval=1.0) * (bound / resolution)
        block = 4 * resolution * resolution
        live = (grid >= 0).reshape(-1, block)

        def density(args):
            x, any_live = args
            zero = jnp.zeros(block)
            return jax.lax.cond(any_live, lambda: self.model.apply({"params": params}, x, condition, method=Head.density)[0], lambda: zero)

        fresh = jax.lax.map(density, (points.reshape(-1, block, 3), live.any(axis=1)))
        return occupancy_grid.update(grid, fresh.reshape(grid.shape), self.config.march.decay)

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Renders held-out frames by the head protocol: their own landmarks, pose and eyes; torso and background true; code 0."""
        del data, step
        subject = self.subject
        chosen = np.unique(np.linspace(subject.n_train, subject.n_frames - 1, self.config.data.eval_frames).astype(int))
        chosen = chosen[chosen < subject.n_frames]
        truth = subject.frames(chosen).astype(np.float32) / 255.0
        behind = over(subject.torso(chosen), subject.background).astype(np.float32) / 255.0
        occupied = occupancy_grid.occupied(state["occupancy"]["grid"], self.config.march.density_threshold)
        errors, rows = [], []
        for i, frame in enumerate(chosen):
            out = render_head(
                self.model,
                state["params"],
                occupied,
                jnp.asarray(self.poses[frame]),
                jnp.asarray(self.intrinsics),
                jnp.asarray(self.condition_windows[frame]),
                jnp.asarray(subject.eye_openness[frame]),
                1e-4,
                settings=self.march,
                size=truth.shape[1:3],
            )
            rgb = np.asarray(out.rgb).reshape(truth[i].shape)
            alpha = np.asarray(out.alpha).reshape(truth.shape[1:3])[..., None]
            ours = np.clip(rgb + (1.0 - alpha) * behind[i], 0.0, 1.0)
            x0, y0, x1, y1 = subject.face_box[frame]
            errors.append(float(np.mean((ours[y0:y1, x0:x1] - truth[i, y0:y1, x0:x1]) ** 2)))
            rows.append(_comparison(truth[i], ours, np.asarray(out.depth).reshape(truth.shape[1:3]), alpha[..., 0]))
        scalars = {"val/psnr_face_box": float(np.mean([-10.0 * np.log10(max(e, 1e-10)) for e in errors]))}
        return Evaluation(scalars, images={"val/truth_ours_difference_depth": np.concatenate(rows[:4])})


def _comparison(truth: np.ndarray, ours: np.ndarray, depth: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 [H, 4W, 3]: truth | ours | difference (x4) | depth (near is bright)."""
    solid = alpha > 0.5
    near, far = np.percentile((depth / np.maximum(alpha, 1e-3))[solid], [1, 99]) if solid.any() else (0.0, 1.0)
    bright = np.where(solid, 1.0 - np.clip((depth / np.maximum(alpha, 1e-3) - near) / max(far - near, 1e-3), 0, 1), 0.0)
    panels = [truth, ours, np.clip(np.abs(ours - truth) * 4.0, 0, 1), np.repeat(bright[..., None], 3, axis=-1)]
    return np.round(np.concatenate(panels, axis=1) * 255.0).astype(np.uint8)


def make(config: ConfigDict) -> HeadStage:
    """The stage of a config with `stage = "head"`."""
    return HeadStage(config)
