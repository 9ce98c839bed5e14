"""The torso stage: the person's neck and shoulders as a 2D field bent by the head (GeneFace's `lm3d_radnerf_torso`, GeneFace++'s torso)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.compatibility import record_camera
from geneface_jax.data.pixel_sampling import Region, draw_frames, draw_pixels, neck_boxes, over
from geneface_jax.data.subject import Subject
from geneface_jax.io import checkpoints
from geneface_jax.models.super_resolution import SuperResolution
from geneface_jax.models.torso import Torso
from geneface_jax.rendering.cameras import image_coords
from geneface_jax.rendering.torso import render_torso, torso_conditions
from geneface_jax.training import devices
from geneface_jax.training.field.base import heldout_frames, psnr_in_box
from geneface_jax.training.field.frozen_head import FrozenHead
from geneface_jax.training.field.losses import opacity_entropy, psnr
from geneface_jax.training.field.super_resolution import PictureLpips, build_super_resolution, halved
from geneface_jax.training.optimizers import field_optimizer, iterate
from geneface_jax.training.stage import Evaluation
from geneface_jax.typing import Metrics, State

NECK_REACH = 8 / 256
"""What is near the border between head and torso, in fractions of the picture."""


class _Pictures(NamedTuple):
    """The training split in memory, uint8: torso over background [T, H, W, 3] and its opacity [T, H, W], head masks [T, H, W], frames
    [T, H, W, 3] (None without a composite loss), and where pixels are drawn from."""

    torso: np.ndarray
    opacity: np.ndarray
    head: np.ndarray
    frames: np.ndarray | None
    regions: list[Region]


class TorsoStage:
    """See `training.stage.Stage`.

    The loss compares the torso with its own picture, in which the neck was painted on behind the head, and (`loss.composite`) the head
    over the torso with the frame. Looking at the head costs time, so it is loaded only where something needs it.
    """

    unit = "pixels"

    def __init__(self, config: ConfigDict):
        self.config = config
        self.subject = Subject.load(config.data.subject)
        config.model.codes = self.subject.n_train
        record_camera(config, self.subject.size, self.subject.intrinsics._asdict())
        self.head = _load_head(config, self.subject)
        self.best = ("val/psnr_torso", "max") if self.head is None else ("val/psnr_neck", "max")
        self.model = Torso.from_config(config.model)
        self.items_per_step = config.data.groups * config.data.rays
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        subject = self.subject
        self.conditions = torso_conditions(
            config.model.condition, subject.cameras, subject.motion, subject.mean_face, np.asarray(subject.intrinsics), subject.size
        )
        self._train_frames = np.flatnonzero(~subject.interpolated[: subject.n_train]).astype(np.int32)
        self._pictures: _Pictures | None = None

    def _load_pictures(self) -> _Pictures:
        if self._pictures is None:
            subject, data = self.subject, self.config.data
            torso = subject.load_all("torso", subject.train)
            rows, columns = np.nonzero(torso[..., 3].max(axis=0) > 0)
            if not len(rows):
                raise InputError(
                    f"{subject.folder / 'torso'} shows no torso in any frame: the crop may be too tight; "
                    "run `geneface prepare` again on a video that shows the shoulders, or render with --bg and no torso"
                )
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.int32)
            head = subject.head_masks(subject.train)
            opacity = torso[..., 3].copy()
            regions = [Region(data.torso_share, np.broadcast_to(box, (subject.n_train, 4)))]
            regions.append(Region(data.neck_share, neck_boxes(head, opacity, NECK_REACH * subject.size)))
            frames = subject.load_all("frames", subject.train) if self.config.loss.composite else None
            self._pictures = _Pictures(over(torso, subject.background), opacity, head, frames, regions)
        return self._pictures

    def init(self, rng: jax.Array) -> State:
        """First parameters and Adam moments."""
        params = self.model.init(rng, jnp.zeros((8, 2)), method=Torso.initialize)["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def data(self) -> Any:
        """What bends the torso in each training frame, pixel coordinates, and the head, for every device."""
        return {
            "conditions": jnp.asarray(self.conditions[: self.subject.n_train]),
            "coords": jnp.asarray(image_coords(self.subject.size, self.subject.size)),
            "head": None if self.head is None else self.head.arrays(),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame."""
        data, pictures = self.config.data, self._load_pictures()
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self._train_frames, data.groups)
        pixels = draw_pixels(rng, frames, data.rays, pictures.torso.shape[1:3], pictures.regions)
        chosen = frames[:, None], pixels[..., 0], pixels[..., 1]
        batch = {
            "frame": frames,
            "pixels": pixels,
            "target": pictures.torso[chosen],
            "opacity": pictures.opacity[chosen],
            "head_mask": pictures.head[chosen],
            "behind": self.subject.background[chosen[1:]],
        }
        if pictures.frames is not None:
            batch["composite"] = pictures.frames[chosen]
        return batch

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step; the head, where it takes part, is held still."""
        del rng, step
        weights = self.config.loss
        flat = {name: _unit(batch[name]) for name in ("target", "behind", "opacity", "head_mask", "composite") if name in batch}
        rays = batch["pixels"].shape[1]
        group = jnp.repeat(jnp.arange(len(batch["frame"])), rays)
        where = (batch["pixels"][..., 0] * self.subject.size + batch["pixels"][..., 1]).reshape(-1)
        front = None
        if self.head is not None:
            front = self.head.look(data["head"], batch["frame"], batch["pixels"]).reshape(-1, 4)
        # Behind the head the torso's picture is invention: it counts less, by how much of the pixel is head.
        trust = 1.0 - (1.0 - weights.hidden) * flat["head_mask"]

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            variables = {"params": params}
            code = self.model.apply(variables, batch["frame"], method=Torso.code)
            sample = self.model.apply(variables, data["coords"][where], data["conditions"][batch["frame"]], code, group, front)
            alpha = sample.alpha[:, None]
            rgb = sample.rgb * alpha + flat["behind"] * (1.0 - alpha)
            mse = jnp.mean(trust * jnp.mean((rgb - flat["target"]) ** 2, axis=-1))
            entropy = jnp.mean(opacity_entropy(sample.alpha))
            # Without this a torso may paint the background it was trained on, which shows as soon as another one is wanted.
            opacity = jnp.mean(trust * (sample.alpha - flat["opacity"]) ** 2)
            metrics = {"mse": mse, "opacity": opacity, "entropy": entropy, "deformation": jnp.mean(jnp.abs(sample.deformation))}
            total = weights.torso * mse + weights.opacity * opacity + weights.entropy * entropy
            if "composite" in flat:
                whole = front[:, :3] + (1.0 - front[:, 3:]) * rgb
                # Where there is no torso, its absence is what the other loss asks for: it must not mend the outline of the hair.
                metrics["composite"] = jnp.mean(flat["opacity"] * jnp.mean((whole - flat["composite"]) ** 2, axis=-1))
                total += weights.composite * metrics["composite"]
            return total, {"loss": total, **metrics}

        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics = devices.mean((grads, metrics))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "grad_norm": optax.tree.norm(grads)}
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, metrics

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames, code 0: the torso against its picture, and with a head the composite's neck against the frame."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        rgba = subject.torso(chosen)
        truth = over(rgba, subject.background).astype(np.float32) / 255.0
        background = jnp.asarray(subject.background.reshape(-1, 3).astype(np.float32) / 255.0)
        frames = None if self.head is None else subject.frames(chosen).astype(np.float32) / 255.0
        boxes = neck_boxes(subject.head_masks(chosen), rgba[..., 3], NECK_REACH * subject.size)
        torso_psnr, neck_psnr, rows = [], [], []
        for i, frame in enumerate(chosen):
            front = None if self.head is None else self.head.picture(int(frame))
            rgb, _ = render_torso(
                self.model, state["params"], jnp.asarray(self.conditions[frame]), background, size=truth.shape[1:3], head=front
            )
            ours = np.clip(np.asarray(rgb).reshape(truth[i].shape), 0.0, 1.0)
            mask = rgba[i, ..., 3] > 127
            torso_psnr.append(_psnr(ours[mask], truth[i][mask]))
            row = [truth[i], ours, np.clip(np.abs(ours - truth[i]) * 4.0, 0, 1)]
            if front is not None:
                whole = np.clip(np.asarray(front[:, :3] + (1.0 - front[:, 3:]) * rgb).reshape(truth[i].shape), 0.0, 1.0)
                neck_psnr.append(psnr_in_box(whole, frames[i], boxes[i]))
                row += [frames[i], whole, np.clip(np.abs(whole - frames[i]) * 4.0, 0, 1)]
            rows.append(np.concatenate(row, axis=1))
        scalars = {"val/psnr_torso": float(np.mean(torso_psnr))}
        if neck_psnr:
            scalars["val/psnr_neck"] = float(np.mean(neck_psnr))
        image = np.round(np.concatenate(rows[:4]) * 255.0).astype(np.uint8)
        return Evaluation(scalars, images={"val/truth_ours_difference": image})


def _load_head(config: ConfigDict, subject: Subject) -> FrozenHead | None:
    """The head, where a loss or the network looks at it; what it is goes into `config.head`."""
    if not (config.loss.composite or config.model.head_aware):
        return None
    folder = Path(config.data.head) if config.data.head else subject.folder.parent / "head"
    if not checkpoints.steps(folder):
        raise InputError(
            f"there is no trained head in {folder}, which this torso looks at: train the head first, name its work folder with "
            "--config.data.head, or train with --config.loss.composite=0 and --config.model.head_aware=False"
        )
    head = FrozenHead(folder, subject)
    _require_same_head(config, head, folder)
    with config.unlocked():
        config.head = head.record
    return head


def _require_same_head(config: ConfigDict, head: FrozenHead, folder: Path) -> None:
    """A run that is resumed must find the head it began with, if the network itself looks at it."""
    before = config.get("head")
    if before is None:
        return
    different = [key for key, value in head.record.items() if key != "step" and key in before and before[key] != value]
    if different:
        listed = ", ".join(f"{key} {before[key]} there and {head.record[key]} in {folder}" for key in different)
        raise InputError(f"this torso's config is of another head ({listed}): train it for this head in a new work folder")


def _unit(values: jax.Array) -> jax.Array:
    """uint8 [G, R] or [G, R, 3] -> [G * R] or [G * R, 3] in [0, 1]."""
    return values.reshape(-1, *values.shape[2:]).astype(jnp.float32) / 255.0


def _psnr(ours: np.ndarray, truth: np.ndarray) -> float:
    error = float(np.mean((ours - truth) ** 2)) if ours.size else 0.0
    return float(-10.0 * np.log10(max(error, 1e-10)))


# ----------------------------------------------------------------------------------------------------
# The torso under super-resolution (GeneFace++'s `lm3d_radnerf_torso_sr`): whole frames at half size, judged before and after doubling.
#
# The network that doubles, and the head where it takes part, are those of a trained `head_sr`, and stay as they are.


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
        self.model = Torso.from_config(config.model)
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
        params = self.model.init(rng, jnp.zeros((8, 2)), method=Torso.initialize)["params"]
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
