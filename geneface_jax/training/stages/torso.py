"""Torso stages: neck and shoulders as a 2D field deformed by the head's pose, alone and under super-resolution."""

import functools
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.pixel_sampling import Region, draw_frames, draw_pixels, neck_boxes, over
from geneface_jax.data.subject import Subject, record_camera, record_dataset
from geneface_jax.io import checkpoints
from geneface_jax.models.torso import Torso, TorsoSample
from geneface_jax.rendering.cameras import image_coords
from geneface_jax.rendering.field import render_torso, torso_conditions
from geneface_jax.training import devices
from geneface_jax.training.field_base import FrozenHead, difference, heldout_frames, psnr_in_box, to_uint8, training_frames
from geneface_jax.training.field_losses import PerceptualLoss, build_super_resolution, halved, opacity_entropy, psnr
from geneface_jax.training.optimizers import field_optimizer, iterate
from geneface_jax.training.stage import Evaluation, Phase, Stage
from geneface_jax.typing import Array, Metrics, State

NECK_REACH = 8 / 256
"""Distance from the border between head and torso that counts as neck, in fractions of the picture."""


class TorsoField(Stage):
    """Base of the torso stages: dataset, network, optimizer, conditions that deform the torso."""

    unit = "pixels"

    def __init__(self, config: ConfigDict):
        self.config = config = config.copy_and_resolve_references()
        self.subject = subject = Subject.load(config.data.subject)
        config.model.codes = subject.n_train
        record_camera(config, subject.size, subject.intrinsics._asdict())
        record_dataset(config, subject.fingerprint)
        self.model = Torso.from_config(config.model)
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        self.conditions = torso_conditions(
            config.model.condition, subject.cameras, subject.motion, subject.mean_face, np.asarray(subject.intrinsics), subject.size
        )
        self.train_frames = training_frames(subject)
        self.needs_head = bool(config.loss.composite or config.model.head_aware)

    def init(self, rng: jax.Array) -> State:
        """Initial parameters and Adam moments."""
        params = self.model.init(rng, jnp.zeros((8, 2)), method=Torso.initialize)["params"]
        return {"params": params, "opt_state": self.optimizer.init(params)}

    def record_head(self, head: FrozenHead) -> None:
        """Adds the head's step, fingerprint and shared keys to the stage's config."""
        with self.config.unlocked():
            self.config.head = head.record

    def sample(
        self, params: Any, coords: jax.Array, data: Any, frame: jax.Array, group: jax.Array, head_rgba: jax.Array | None
    ) -> TorsoSample:
        """The field at coords [M, 2] of the training frames frame[group [M]], with the head [M, 4] at these pixels if it is needed."""
        code = self.model.apply({"params": params}, frame, method=Torso.code)
        return cast(TorsoSample, self.model.apply({"params": params}, coords, data["conditions"][frame], code, group, head_rgba))


class _Pictures(NamedTuple):
    """The training split in memory, uint8: torso over background [T, H, W, 3] and its opacity [T, H, W], head masks [T, H, W], frames
    [T, H, W, 3] (None without a composite loss), and the regions from which pixels are drawn."""

    torso: np.ndarray
    opacity: np.ndarray
    head: np.ndarray
    frames: np.ndarray | None
    regions: list[Region]


class TorsoStage(TorsoField):
    """The torso stage (GeneFace's `lm3d_radnerf_torso`, GeneFace++'s torso): random pixels of a few frames per step.

    The loss compares the torso with its own picture, in which the neck was painted in behind the head, and (`loss.composite`) the head
    over the torso with the frame. Rendering the head takes time, so it is loaded only if a loss or the network needs it.
    """

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        self.head = self._load_head() if self.needs_head else None
        self.best = ("val/psnr_torso", "max") if self.head is None else ("val/psnr_neck", "max")
        self.items_per_step = self.config.data.groups * self.config.data.rays

    def _load_head(self) -> FrozenHead:
        """The head of `config.data.head`, recorded in `config.head`. Raises InputError if there is none, or if a resumed run was trained
        with another one."""
        config = self.config
        folder = Path(config.data.head) if config.data.head else self.subject.folder.parent / "head"
        if not checkpoints.steps(folder):
            raise InputError(
                f"There is no trained head in {folder}, which this torso needs: train the head first, name its work folder with "
                "--config.data.head, or train with --config.loss.composite=0 and --config.model.head_aware=False."
            )
        head = FrozenHead(folder, self.subject)
        recorded = config.get("head") or {}
        different = [key for key, value in head.record.items() if key != "step" and key in recorded and recorded[key] != value]
        if different:
            listed = ", ".join(f"{key} {recorded[key]} there and {head.record[key]} in {folder}" for key in different)
            raise InputError(f"This torso's config is of another head ({listed}): train it for this head in a new work folder.")
        self.record_head(head)
        return head

    @functools.cached_property
    def _pictures(self) -> _Pictures:
        subject, data = self.subject, self.config.data
        torso = subject.load_all("torso", subject.train)
        rows, columns = np.nonzero(torso[..., 3].max(axis=0) > 0)
        if not len(rows):
            raise InputError(
                f"{subject.folder / 'torso'} shows no torso in any frame, the crop may be too tight: run `geneface prepare` again on a "
                "video that shows the shoulders, or render with --bg and no torso."
            )
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.int32)
        head = subject.head_masks(subject.train)
        opacity = torso[..., 3].copy()
        regions = [Region(data.torso_share, np.broadcast_to(box, (subject.n_train, 4)))]
        regions.append(Region(data.neck_share, neck_boxes(head, opacity, NECK_REACH * subject.size)))
        frames = subject.load_all("frames", subject.train) if self.config.loss.composite else None
        return _Pictures(over(torso, subject.background), opacity, head, frames, regions)

    def data(self) -> Any:
        """Conditions of the training frames, pixel coordinates, and the head, for every device."""
        return {
            "conditions": jnp.asarray(self.conditions[: self.subject.n_train]),
            "coords": jnp.asarray(image_coords(self.subject.size, self.subject.size)),
            "head": None if self.head is None else self.head.arrays(),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame."""
        data, pictures = self.config.data, self._pictures
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self.train_frames, data.groups)
        pixels = draw_pixels(rng, frames, data.rays, pictures.torso.shape[1:3], pictures.regions)
        chosen = frames[:, None], pixels[..., 0], pixels[..., 1]
        batch = {
            "frame": frames,
            "pixels": pixels,
            "target": pictures.torso[chosen],
            "opacity": pictures.opacity[chosen],
            "head_mask": pictures.head[chosen],
            "background": self.subject.background[chosen[1:]],
        }
        if pictures.frames is not None:
            batch["composite"] = pictures.frames[chosen]
        return batch

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step; the head is frozen."""
        del rng, step
        weights = self.config.loss
        flat = {name: _unit(batch[name]) for name in ("target", "background", "opacity", "head_mask", "composite") if name in batch}
        rays = batch["pixels"].shape[1]
        group = jnp.repeat(jnp.arange(len(batch["frame"])), rays)
        where = (batch["pixels"][..., 0] * self.subject.size + batch["pixels"][..., 1]).reshape(-1)
        head_rgba = None
        if self.head is not None:
            head_rgba = self.head.render(data["head"], batch["frame"], batch["pixels"]).reshape(-1, 4)
        # Behind the head the torso's picture is inpainted: it counts less, by the head's share of the pixel.
        trust = 1.0 - (1.0 - weights.hidden) * flat["head_mask"]

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            sample = self.sample(params, data["coords"][where], data, batch["frame"], group, head_rgba)
            alpha = sample.alpha[:, None]
            rgb = sample.rgb * alpha + flat["background"] * (1.0 - alpha)
            mse = jnp.mean(trust * jnp.mean((rgb - flat["target"]) ** 2, axis=-1))
            entropy = jnp.mean(opacity_entropy(sample.alpha))
            # Without this a torso may paint the background it was trained on, which shows over any other one.
            opacity = jnp.mean(trust * (sample.alpha - flat["opacity"]) ** 2)
            metrics = {"mse": mse, "opacity": opacity, "entropy": entropy, "deformation": jnp.mean(jnp.abs(sample.deformation))}
            total = weights.torso * mse + weights.opacity * opacity + weights.entropy * entropy
            if "composite" in flat:
                # Where there is no torso the opacity loss asks for its absence: it must not repair the outline of the hair.
                error = jnp.mean((_head_over(head_rgba, rgb) - flat["composite"]) ** 2, axis=-1)
                metrics["composite"] = jnp.mean(flat["opacity"] * error)
                total += weights.composite * metrics["composite"]
            return total, {"loss": total, **metrics}

        grads, metrics = jax.grad(loss, has_aux=True)(state["params"])
        grads, metrics = devices.mean((grads, metrics))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "grad_norm": optax.tree.norm(grads)}
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, metrics

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames, code 0: PSNR of the torso, and with a head that of the composite around the neck."""
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
            head_rgba = None if self.head is None else self.head.picture(int(frame))
            rgb, _ = render_torso(
                self.model, state["params"], jnp.asarray(self.conditions[frame]), background, size=truth.shape[1:3], head=head_rgba
            )
            ours = np.clip(np.asarray(rgb).reshape(truth[i].shape), 0.0, 1.0)
            torso_psnr.append(_masked_psnr(ours, truth[i], rgba[i, ..., 3] > 127))
            row = [truth[i], ours, difference(ours, truth[i])]
            if head_rgba is not None and frames is not None:
                composite = np.clip(np.asarray(_head_over(head_rgba, rgb)).reshape(truth[i].shape), 0.0, 1.0)
                neck_psnr.append(psnr_in_box(composite, frames[i], boxes[i]))
                row += [frames[i], composite, difference(composite, frames[i])]
            rows.append(np.concatenate(row, axis=1))
        scalars = {"val/psnr_torso": float(np.mean(torso_psnr))}
        if neck_psnr:
            scalars["val/psnr_neck"] = float(np.mean(neck_psnr))
        return Evaluation(scalars, images={"val/truth_ours_difference": to_uint8(np.concatenate(rows[:4]))})


def _unit(values: jax.Array) -> jax.Array:
    """uint8 [G, R] or [G, R, 3] -> [G * R] or [G * R, 3] in [0, 1]."""
    return values.reshape(-1, *values.shape[2:]).astype(jnp.float32) / 255.0


def _head_over(head_rgba: jax.Array | None, rgb: Array) -> jax.Array:
    """[N, 3] the head [N, 4] (premultiplied color, opacity) composited over colors [N, 3]."""
    assert head_rgba is not None, "a composite needs the head"
    return head_rgba[:, :3] + (1.0 - head_rgba[:, 3:]) * rgb


def _masked_psnr(ours: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB of [H, W, 3] pictures in [0, 1] where the mask [H, W] is true."""
    return float(psnr(float(np.mean((ours[mask] - truth[mask]) ** 2)) if mask.any() else 0.0))


class TorsoSrStage(TorsoField):
    """The torso under super-resolution (GeneFace++'s `lm3d_radnerf_torso_sr`): whole frames at half size, losses on both sizes.

    The super-resolution network, and the head if it is needed, are those of a trained `head_sr` and stay frozen.
    """

    best = ("val/psnr_torso", "max")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        folder = Path(self.config.data.head) if self.config.data.head else self.subject.folder.parent / "head_sr"
        self.network, self._network_variables = _trained_network(folder, self.subject)
        self.head = FrozenHead(folder, self.subject) if self.needs_head else None
        if self.head is not None:
            self.record_head(self.head)
        self.perceptual = PerceptualLoss(self.config)
        self.small = self.network.size
        self.items_per_step = self.config.data.groups * self.small**2
        self._background = halved(self.subject.background[None])[0]

    def phases(self) -> list[Phase]:
        """The perceptual terms."""
        return self.perceptual.phases(self.config.train.steps)

    @functools.cached_property
    def _pictures(self) -> dict[str, np.ndarray]:
        """The training split, uint8: torso over background at both sizes; for the composite its opacity and the frames at half size."""
        rgba = self.subject.load_all("torso", self.subject.train)
        large = over(rgba, self.subject.background)
        pictures = {"large": large, "small": halved(large)}
        if self.config.loss.composite:
            pictures["opacity"] = halved(rgba[..., 3:])
            pictures["frames"] = halved(self.subject.load_all("frames", self.subject.train))
        return pictures

    def data(self) -> Any:
        """Conditions of the training frames, the super-resolution network, and the head, for every device."""
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
        frames = draw_frames(rng, self.train_frames, self.config.data.groups)
        return {"frame": frames, **{name: pictures[frames] for name, pictures in self._pictures.items()}}

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step."""
        del rng
        weights, frame = self.config.loss, batch["frame"]
        truth = {name: batch[name].astype(jnp.float32) / 255.0 for name in batch if name != "frame"}
        background = jnp.asarray(self._background, jnp.float32).reshape(-1, 3) / 255.0
        count, pixels = len(frame), self.small**2
        group = jnp.repeat(jnp.arange(count), pixels)
        coords = jnp.tile(data["coords"], (count, 1))
        head_rgba = None if self.head is None else self.head.render(data["head"], frame, self._pixels(count)).reshape(-1, 4)

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            sample = self.sample(params, coords, data, frame, group, head_rgba)
            alpha = sample.alpha[:, None]
            rgb = sample.rgb * alpha + jnp.tile(background, (count, 1)) * (1.0 - alpha)
            small = rgb.reshape(truth["small"].shape)
            large = cast(jax.Array, self.network.apply(data["network"], small))
            metrics = {"mse": jnp.mean((small - truth["small"]) ** 2), "sr_mse": jnp.mean((large - truth["large"]) ** 2)}
            metrics |= {"entropy": jnp.mean(opacity_entropy(sample.alpha)), "deformation": jnp.mean(jnp.abs(sample.deformation))}
            pairs = {"small": (small, truth["small"]), "large": (large, truth["large"])}
            perceptual, lpips_metrics = self.perceptual.loss(step, pairs, data["lpips"])
            total = weights.small_mse * metrics["mse"] + weights.large_mse * metrics["sr_mse"] + weights.entropy * metrics["entropy"]
            if weights.composite:
                composite = _head_over(head_rgba, rgb).reshape(small.shape)
                metrics["composite"] = jnp.mean(truth["opacity"] * (composite - truth["frames"]) ** 2)
                total += weights.composite * metrics["composite"]
            total += perceptual
            return total, {"loss": total, **metrics, **lpips_metrics}

        grads, metrics = devices.mean(jax.grad(loss, has_aux=True)(iterate(state["params"], state["opt_state"])))
        updates, opt_state = self.optimizer.update(grads, state["opt_state"], state["params"])
        metrics = {**metrics, "psnr": psnr(metrics["mse"]), "sr_psnr": psnr(metrics["sr_mse"]), "grad_norm": optax.tree.norm(grads)}
        return {"params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}, metrics

    def _pixels(self, count: int) -> jax.Array:
        """[G, S * S, 2] positions (row, column) of the half-size pixels in the full-size picture: centers of 2x2 blocks."""
        rows, columns = np.meshgrid(np.arange(self.small), np.arange(self.small), indexing="ij")
        centers = 2.0 * np.stack([rows.reshape(-1), columns.reshape(-1)], axis=-1) + 0.5
        return jnp.broadcast_to(jnp.asarray(centers, jnp.float32), (count, *centers.shape))

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out torso pictures, code 0, doubled without noise: PSNR of the torso's pixels."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        rgba = subject.torso(chosen)
        truth = over(rgba, subject.background).astype(np.float32) / 255.0
        background = jnp.asarray(self._background.reshape(-1, 3).astype(np.float32) / 255.0)
        enlarge, values, rows = jax.jit(self.network.apply), [], []
        for i, frame in enumerate(chosen):
            condition, head_rgba = jnp.asarray(self.conditions[frame]), self._head_rgba(int(frame))
            small, _ = render_torso(self.model, state["params"], condition, background, size=(self.small, self.small), head=head_rgba)
            large = enlarge(self._network_variables, small.reshape(1, self.small, self.small, 3))[0]
            ours = np.clip(np.asarray(large), 0.0, 1.0)
            values.append(_masked_psnr(ours, truth[i], rgba[i, ..., 3] > 127))
            rows.append(np.concatenate([truth[i], ours, difference(ours, truth[i])], axis=1))
        image = to_uint8(np.concatenate(rows[:4]))
        return Evaluation({"val/psnr_torso": float(np.mean(values))}, images={"val/truth_ours_difference": image})

    def _head_rgba(self, frame: int) -> jax.Array | None:
        """[S * S, 4] the head of a frame under code 0, for a head-aware torso."""
        if self.head is None:
            return None
        return self.head.render(self.head.arrays(), jnp.array([frame]), self._pixels(1), jnp.zeros(1, jnp.int32))[0]


def _trained_network(folder: Path, subject: Subject) -> tuple[nn.Module, dict[str, Any]]:
    """The super-resolution network of a trained head_sr and its variables. Raises InputError if there is none, or if its output size is not
    the dataset's."""
    if not checkpoints.steps(folder):
        raise InputError(
            f"There is no trained head_sr in {folder}, whose super-resolution this torso needs: train it first, or name its work folder "
            "with --config.data.head."
        )
    checkpoint = checkpoints.load(folder)
    if "super_resolution" not in checkpoint.config:
        raise InputError(f"{folder} holds a head without super-resolution: name the work folder of a head_sr with --config.data.head.")
    network = build_super_resolution(checkpoint.config, subject)
    variables = {"params": checkpoint.state["params"]["super_resolution"], "constants": checkpoint.state["constants"]}
    return network, jax.tree.map(jnp.asarray, variables)
