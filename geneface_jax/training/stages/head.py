"""The head stage: a person's landmark-conditioned radiance field (GeneFace's `lm3d_radnerf`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy
from ml_collections import ConfigDict

from geneface_jax.data.motion import eye_boxes, shut_frames, shut_share
from geneface_jax.data.pixel_sampling import Region, draw_frames, draw_pixels, in_boxes, over
from geneface_jax.training import devices
from geneface_jax.training.field.base import HeadField, comparison, heldout_frames, learnt_part, noise_per_group, psnr_in_box
from geneface_jax.training.field.losses import LipPatches, ambient_outside_face, masked_mean, opacity_entropy, psnr
from geneface_jax.training.optimizers import iterate
from geneface_jax.training.stage import Evaluation, Metrics, State


class HeadStage(HeadField):
    """See `training.stage.Stage`, and `HeadField` for the state."""

    unit = "rays"
    best = ("val/psnr_face_box", "max")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        self.items_per_step = config.data.groups * config.data.rays
        self.lips = LipPatches(config.lips, config.train.steps, self.subject, config.data.rays)
        self._pictures: tuple[np.ndarray, np.ndarray] | None = None
        subject, data = self.subject, config.data
        self._regions = [Region(data.face_share, subject.face_box), Region(data.lip_share, subject.lip_box)]
        self._regions += [Region(data.eye_share / 2, boxes) for boxes in eye_boxes(subject.landmarks_2d, subject.size)]
        self._shut = shut_frames(subject.eye_openness, self.train_frames)
        self._shut_share = shut_share(data.shut_share, self._shut, self.train_frames)

    def _load_pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """(frames, torso over background) of the training split, uint8 [T, H, W, 3] each, decoded once."""
        if self._pictures is None:
            frames = self.subject.load_all("frames", self.subject.train)
            behind = over(self.subject.load_all("torso", self.subject.train), self.subject.background)
            self._pictures = frames, behind
        return self._pictures

    def init(self, rng: jax.Array) -> State:
        """First state: parameters, Adam moments, and the occupancy grid carved by the head masks."""
        return self.initial_state(self.initial_head(rng))

    def data(self) -> Any:
        """Per-frame conditions and cameras, and LPIPS's weights where the lips need them."""
        return {**self.frame_data(), "lpips": self.lips.weights()}

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame: more pixels where people look, and in lip steps a patch of lips first."""
        data = self.config.data
        frames_rgb, behind = self._load_pictures()
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self.train_frames, data.groups, self._shut, self._shut_share)
        pixels = draw_pixels(rng, frames, data.rays, frames_rgb.shape[1:3], self._regions)
        pixels = self.lips.replace(step, frames, pixels)
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
        learnt = iterate(learnt_part(state), state["opt_state"])
        grid = self.followed_grid(learnt["params"], state["occupancy"]["grid"], data, grid_rng, step, self.lips.phase(step))
        occupied = occupancy.occupied(grid, self.config.march.density_threshold)
        noise = noise_per_group(noise_rng, batch["pixels"].shape[:2])
        target = batch["target"].astype(jnp.float32) / 255.0
        behind = batch["behind"].astype(jnp.float32) / 255.0
        ambient_weight = self.config.loss.ambient * jnp.minimum(step / self.config.train.steps, 1.0)

        def loss(learnt: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            poses, correction = self.frame_poses(learnt, data, batch["frame"], step)
            out = self.render(learnt["params"], poses, data, batch["frame"], batch["pixels"], self.intrinsics, noise, occupied)
            composite = out.composite
            rgb = composite.rgb.reshape(target.shape) + (1.0 - composite.alpha.reshape(target.shape[:2]))[..., None] * behind
            # A ray that ran out of sample budget shows less than the field holds: it says nothing about the pixel.
            complete = out.complete.astype(jnp.float32)
            in_face = batch["in_face"].reshape(-1).astype(jnp.float32)
            mse = masked_mean(jnp.mean((rgb - target) ** 2, axis=-1).reshape(-1), complete)
            entropy = masked_mean(opacity_entropy(composite.alpha), complete)
            ambient = masked_mean(ambient_outside_face(composite.ambient, in_face), complete)
            lip_loss, lip_metrics = self.lips.loss(step, rgb, target, data["lpips"])
            total = mse + self.config.loss.entropy * entropy + ambient_weight * ambient + lip_loss
            total += self.config.pose_refinement.weight * correction
            return total, {
                "loss": total,
                "mse": mse,
                "entropy": entropy,
                "ambient": ambient,
                "samples_per_ray": out.samples / noise.size,
                "rays_out_of_budget": 1.0 - jnp.mean(complete),
                **lip_metrics,
                **({"pose_correction": jnp.sqrt(correction)} if "poses" in learnt else {}),
            }

        grads, metrics = devices.mean(jax.grad(loss, has_aux=True)(learnt))
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "occupancy": jnp.mean(occupied)}
        return self.updated(state, grads, metrics, {"occupancy": {"grid": grid}})

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Renders held-out frames by the head protocol: their own landmarks, pose and eyes; torso and background true; code 0."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        truth = subject.frames(chosen).astype(np.float32) / 255.0
        behind = over(subject.torso(chosen), subject.background).astype(np.float32) / 255.0
        occupied = occupancy.occupied(state["occupancy"]["grid"], self.config.march.density_threshold)
        face, lips, rows = [], [], []
        for i, frame in enumerate(chosen):
            ours, depth, alpha = self.heldout_picture(state["params"], occupied, frame, behind[i])
            face.append(psnr_in_box(ours, truth[i], subject.face_box[frame]))
            lips.append(psnr_in_box(ours, truth[i], subject.lip_box[frame]))
            rows.append(comparison(truth[i], ours, depth, alpha))
        scalars = {"val/psnr_face_box": float(np.mean(face)), "val/psnr_lip_box": float(np.mean(lips))}
        return Evaluation(scalars, images={"val/truth_ours_difference_depth": np.concatenate(rows[:4])})


def make(config: ConfigDict) -> HeadStage:
    """The stage of a config with `stage = "head"`."""
    return HeadStage(config)
