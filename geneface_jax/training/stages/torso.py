"""The torso stage: the person's neck and shoulders as a 2D field bent by the head's pose (GeneFace's `lm3d_radnerf_torso`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from geneface_jax.data.pixels import Region, draw_frames, draw_pixels, over
from geneface_jax.data.subject import Subject
from geneface_jax.errors import InputError
from geneface_jax.models.build import build_torso
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import image_coords, pose_vector, scene_pose
from geneface_jax.rendering.torso import render_torso
from geneface_jax.training import devices
from geneface_jax.training.field_losses import opacity_entropy, psnr
from geneface_jax.training.field_optimizer import field_optimizer
from geneface_jax.training.stage import Evaluation, Metrics, State


class TorsoStage:
    """See `training.stage.Stage`."""

    unit = "pixels"
    best = ("val/psnr_torso", "max")

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = Subject.load(config.data.subject)
        config.model.codes = self.subject.n_train
        self.model = build_torso(config.model)
        self.items_per_step = config.data.groups * config.data.rays
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        self.poses = np.asarray(scene_pose(self.subject.cameras))
        self._train_frames = np.flatnonzero(~self.subject.interpolated[: self.subject.n_train]).astype(np.int32)
        self._pictures: tuple[np.ndarray, Region] | None = None

    def _load_pictures(self) -> tuple[np.ndarray, Region]:
        """(torso over background uint8 [T, H, W, 3], box where any torso is) of the training split."""
        if self._pictures is None:
            torso = self.subject.load_all("torso", self.subject.train)
            rows, columns = np.nonzero(torso[..., 3].max(axis=0) > 0)
            if not len(rows):
                raise InputError(
                    f"{self.subject.folder / 'torso'} shows no torso in any frame: the crop may be too tight; "
                    "run `geneface prepare` again on a video that shows the shoulders, or render with --bg and no torso"
                )
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.int32)
            region = Region(self.config.data.torso_share, np.broadcast_to(box, (self.subject.n_train, 4)))
            self._pictures = over(torso, self.subject.background), region
        return self._pictures

    def init(self, rng: jax.Array) -> State:
        """First parameters and Adam moments."""
        params = self.model.init(rng, jnp.zeros((8, 2)), jnp.zeros((1, 6)), method=Torso.initialise)["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def data(self) -> Any:
        """Cameras and the background, for every device."""
        return {
            "poses": jnp.asarray(pose_vector(jnp.asarray(self.poses[: self.subject.n_train]))),
            "coords": jnp.asarray(image_coords(self.subject.size, self.subject.size)),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame."""
        data = self.config.data
        pictures, region = self._load_pictures()
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self._train_frames, data.groups)
        pixels = draw_pixels(rng, frames, data.rays, pictures.shape[1:3], [region])
        row, column = pixels[..., 0], pixels[..., 1]
        return {
            "frame": frames,
            "pixels": pixels,
            "target": pictures[frames[:, None], row, column],
            "behind": self.subject.background[row, column],
        }

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step; the head takes no part in this loss (the original's `torso_train_mode: 1`)."""
        del rng, step
        target = batch["target"].reshape(-1, 3).astype(jnp.float32) / 255.0
        behind = batch["behind"].reshape(-1, 3).astype(jnp.float32) / 255.0
        rays = batch["pixels"].shape[1]
        group = jnp.repeat(jnp.arange(len(batch["frame"])), rays)
        flat = (batch["pixels"][..., 0] * self.subject.size + batch["pixels"][..., 1]).reshape(-1)

        def loss(params):
            variables = {"params": params}
            code = self.model.apply(variables, batch["frame"], method=Torso.code)
            pose = data["poses"][batch["frame"]]
            sample = self.model.apply(variables, data["coords"][flat], pose, code, group)
            rgb = sample.rgb * sample.alpha[:, None] + behind * (1.0 - sample.alpha[:, None])
            mse = jnp.mean((rgb - target) ** 2)
            entropy = jnp.mean(opacity_entropy(sample.alpha))
            total = mse + self.config.loss.entropy * entropy
            return total, {"loss": total, "mse": mse, "entropy": entropy, "deformation": jnp.mean(jnp.abs(sample.deformation))}

        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics = devices.mean((grads, metrics))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "grad_norm": optax.tree.norm(grads)}
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, metrics

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out torso pictures under their own head poses, code 0."""
        del data, step
        subject = self.subject
        chosen = np.unique(np.linspace(subject.n_train, subject.n_frames - 1, self.config.data.eval_frames).astype(int))
        chosen = chosen[chosen < subject.n_frames]
        rgba = subject.torso(chosen)
        truth = over(rgba, subject.background).astype(np.float32) / 255.0
        background = jnp.asarray(subject.background.reshape(-1, 3).astype(np.float32) / 255.0)
        values, rows = [], []
        for i, frame in enumerate(chosen):
            rgb, _ = render_torso(self.model, state["params"], jnp.asarray(self.poses[frame]), background, size=truth.shape[1:3])
            ours = np.clip(np.asarray(rgb).reshape(truth[i].shape), 0.0, 1.0)
            mask = rgba[i, ..., 3] > 127
            mse = float(np.mean((ours[mask] - truth[i][mask]) ** 2)) if mask.any() else 0.0
            values.append(-10.0 * np.log10(max(mse, 1e-10)))
            rows.append(np.concatenate([truth[i], ours, np.clip(np.abs(ours - truth[i]) * 4.0, 0, 1)], axis=1))
        image = np.round(np.concatenate(rows[:4]) * 255.0).astype(np.uint8)
        return Evaluation({"val/psnr_torso": float(np.mean(values))}, images={"val/truth_ours_difference": image})


def make(config: ConfigDict) -> TorsoStage:
    """The stage of a config with `stage = "torso"`."""
    return TorsoStage(config)
