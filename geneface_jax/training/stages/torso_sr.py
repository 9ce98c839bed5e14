"""The torso under super-resolution (GeneFace++'s `lm3d_radnerf_torso_sr`): whole frames at half size, judged before and after doubling.

The network that doubles, and the head where it takes part, are those of a trained `head_sr`, and stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import record_camera
from geneface_jax.data.pixel_sampling import draw_frames, over
from geneface_jax.data.subject import Subject
from geneface_jax.io import checkpoints
from geneface_jax.models.build import build_torso
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import image_coords
from geneface_jax.rendering.torso import render_torso, torso_conditions
from geneface_jax.training import devices
from geneface_jax.training.field.base import heldout_frames
from geneface_jax.training.field.frozen_head import FrozenHead
from geneface_jax.training.field.losses import opacity_entropy, psnr
from geneface_jax.training.field.super_resolution import PictureLpips, build_super_resolution, halved
from geneface_jax.training.optimizers import field_optimizer, iterate
from geneface_jax.training.stage import Evaluation, Metrics, State


class TorsoSrStage:
    """See `training.stage.Stage`."""

    unit = "pixels"
    best = ("val/psnr_torso", "max")

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = subject = Subject.load(config.data.subject)
        config.model.codes = subject.n_train
        record_camera(config, subject.size, subject.intrinsics._asdict())
        folder = Path(config.data.head) if config.data.head else subject.folder.parent / "head_sr"
        self.network, self._network_variables = _trained_network(folder, subject)
        self.head = FrozenHead(folder, subject) if config.loss.composite or config.model.head_aware else None
        if self.head is not None:
            with config.unlocked():
                config.head = self.head.record
        self.perceptual = PictureLpips(config)
        self.small = self.network.size
        self.model = build_torso(config.model)
        self.items_per_step = config.data.groups * self.small**2
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        self.conditions = torso_conditions(
            config.model.condition, subject.cameras, subject.motion, subject.mean_face, np.asarray(subject.intrinsics), subject.size
        )
        self._train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._background = halved(subject.background[None])[0]
        self._pictures: dict[str, np.ndarray] | None = None

    def _load_pictures(self) -> dict[str, np.ndarray]:
        """The training split, uint8, decoded once: torso over background at both sizes, its opacity and (for the composite) the frames at
        the small one."""
        if self._pictures is None:
            rgba = self.subject.load_all("torso", self.subject.train)
            large = over(rgba, self.subject.background)
            self._pictures = {"large": large, "small": halved(large)}
            if self.config.loss.composite:
                self._pictures["opacity"] = halved(rgba[..., 3:])
                self._pictures["frames"] = halved(self.subject.load_all("frames", self.subject.train))
        return self._pictures

    def init(self, rng: jax.Array) -> State:
        """First parameters and Adam moments."""
        params = self.model.init(rng, jnp.zeros((8, 2)), method=Torso.initialise)["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def data(self) -> Any:
        """What bends the torso in each training frame, the network that doubles, and the head, for every device."""
        return {
            "conditions": jnp.asarray(self.conditions[: self.subject.n_train]),
            "coords": jnp.asarray(image_coords(self.small, self.small)),
            "network": self._network_variables,
            "head": {} if self.head is None else self.head.arrays(),
            "lpips": self.perceptual.weights(),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G whole frames."""
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self._train_frames, self.config.data.groups)
        return {"frame": frames, **{name: pictures[frames] for name, pictures in self._load_pictures().items()}}

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step."""
        del rng
        weights, frame = self.config.loss, batch["frame"]
        truth = {name: batch[name].astype(jnp.float32) / 255.0 for name in batch if name != "frame"}
        background = jnp.asarray(self._background, jnp.float32).reshape(-1, 3) / 255.0
        count, pixels = len(frame), self.small**2
        group = jnp.repeat(jnp.arange(count), pixels)
        coords = jnp.tile(data["coords"], (count, 1))
        front = None if self.head is None else self.head.look(data["head"], frame, self._pixels(count)).reshape(-1, 4)

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            variables = {"params": params}
            code = self.model.apply(variables, frame, method=Torso.code)
            sample = self.model.apply(variables, coords, data["conditions"][frame], code, group, front)
            alpha = sample.alpha[:, None]
            rgb = sample.rgb * alpha + jnp.tile(background, (count, 1)) * (1.0 - alpha)
            small = rgb.reshape(truth["small"].shape)
            large = self.network.apply(data["network"], small)
            metrics = {"mse": jnp.mean((small - truth["small"]) ** 2), "sr_mse": jnp.mean((large - truth["large"]) ** 2)}
            metrics |= {"entropy": jnp.mean(opacity_entropy(sample.alpha)), "deformation": jnp.mean(jnp.abs(sample.deformation))}
            pairs = {"small": (small, truth["small"]), "large": (large, truth["large"])}
            perceptual, seen = self.perceptual.loss(step, pairs, data["lpips"])
            total = weights.small_mse * metrics["mse"] + weights.large_mse * metrics["sr_mse"] + weights.entropy * metrics["entropy"]
            if weights.composite:
                whole = (front[:, :3] + (1.0 - front[:, 3:]) * rgb).reshape(small.shape)
                metrics["composite"] = jnp.mean(truth["opacity"] * (whole - truth["frames"]) ** 2)
                total += weights.composite * metrics["composite"]
            total += perceptual
            return total, {"loss": total, **metrics, **seen}

        grads, metrics = devices.mean(jax.grad(loss, has_aux=True)(iterate(state["params"], state["opt_state"])))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "sr_psnr": psnr(metrics["sr_mse"]), "grad_norm": optax.tree.norm(grads)}
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, metrics

    def _pixels(self, count: int) -> jax.Array:
        """[G, S * S, 2] positions (row, column) of a small picture's pixels in the large one: each is the middle of 2x2."""
        rows, columns = np.meshgrid(np.arange(self.small), np.arange(self.small), indexing="ij")
        middles = 2.0 * np.stack([rows.reshape(-1), columns.reshape(-1)], axis=-1) + 0.5
        return jnp.broadcast_to(jnp.asarray(middles, jnp.float32), (count, *middles.shape))

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out torso pictures, code 0, doubled without noise: PSNR where there is torso."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        rgba = subject.torso(chosen)
        truth = over(rgba, subject.background).astype(np.float32) / 255.0
        background = jnp.asarray(self._background.reshape(-1, 3).astype(np.float32) / 255.0)
        enlarge, values, rows = jax.jit(self.network.apply), [], []
        for i, frame in enumerate(chosen):
            condition, front = jnp.asarray(self.conditions[frame]), self._front(int(frame))
            small, _ = render_torso(self.model, state["params"], condition, background, size=(self.small, self.small), head=front)
            large = enlarge(self._network_variables, small.reshape(1, self.small, self.small, 3))[0]
            ours = np.clip(np.asarray(large), 0.0, 1.0)
            mask = rgba[i, ..., 3] > 127
            error = float(np.mean((ours[mask] - truth[i][mask]) ** 2)) if mask.any() else 0.0
            values.append(-10.0 * np.log10(max(error, 1e-10)))
            rows.append(np.concatenate([truth[i], ours, np.clip(np.abs(ours - truth[i]) * 4.0, 0, 1)], axis=1))
        image = np.round(np.concatenate(rows[:4]) * 255.0).astype(np.uint8)
        return Evaluation({"val/psnr_torso": float(np.mean(values))}, images={"val/truth_ours_difference": image})

    def _front(self, frame: int) -> jax.Array | None:
        """[S * S, 4] the head of a frame under code 0, for a torso that is aware of it."""
        if self.head is None:
            return None
        return self.head.look(self.head.arrays(), jnp.array([frame]), self._pixels(1), jnp.zeros(1, jnp.int32))[0]


def _trained_network(folder: Path, subject: Subject) -> tuple[SuperResolution, dict[str, Any]]:
    """The network of a trained head_sr and its variables.

    Raises:
      InputError: there is none, or it makes pictures of another size than the dataset's.
    """
    if not checkpoints.steps(folder):
        raise InputError(
            f"there is no trained head_sr in {folder}, whose super-resolution this torso is for: train it first, or name its work folder "
            "with --config.data.head"
        )
    checkpoint = checkpoints.load(folder)
    if "super_resolution" not in checkpoint.config:
        raise InputError(f"{folder} holds a head without super-resolution: name the work folder of a head_sr with --config.data.head")
    network = build_super_resolution(checkpoint.config, subject)
    variables = {"params": checkpoint.state["params"]["super_resolution"], "constants": checkpoint.state["constants"]}
    return network, jax.tree.map(jnp.asarray, variables)


def make(config: ConfigDict) -> TorsoSrStage:
    """The stage of a config with `stage = "torso_sr"`."""
    return TorsoSrStage(config)
