"""Vanilla NeRF stages: head (GeneFace's `lm3d_nerf`) and torso (`lm3d_nerf_torso`)."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.data.motion import normalize_motion, windows
from geneface_jax.data.subject import Subject, require_same_camera
from geneface_jax.io import checkpoints
from geneface_jax.io.weights import params_fingerprint
from geneface_jax.models.nerf import NerfHead, NerfTorso
from geneface_jax.rendering.nerf import Composite, Drive, NerfPerson, RaySettings, attends, depth_range, render_pixels, torso_condition
from geneface_jax.training.nerf_base import PASSES, NerfStage, evaluate_frames, shrink, two_passes
from geneface_jax.training.stage import Evaluation
from geneface_jax.typing import Array, Metrics, State


class NerfHeadStage(NerfStage):
    """The head as a vanilla NeRF: landmarks and camera to the head over the background, without grids."""

    best = ("val/psnr_face_box", "max")
    model: NerfHead

    def __init__(self, config: ConfigDict):
        config = config.copy_and_resolve_references()
        subject = Subject.load(config.data.subject)
        set_depths(config.rays, subject)
        model, settings = NerfHead.from_config(config.model), RaySettings.from_config(config.rays)
        super().__init__(config, subject, model, settings, condition_windows(config.model, subject), config.model.attention_from)

    def heads(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [n, H, W, 3] the head alone over the background: the training target."""
        pictures, masks = self.subject.frames(frames), self.subject.head_masks(frames)
        for picture, mask in zip(pictures, masks, strict=True):
            alpha = mask[..., None].astype(np.float32) / 255.0
            picture[:] = np.round(picture * alpha + self.subject.background * (1.0 - alpha))
        return pictures

    def data(self) -> Any:
        """Conditions and cameras of the training frames, for every device."""
        n = self.subject.n_train
        return {"windows": jnp.asarray(self.windows[:n]), "cameras": jnp.asarray(self.subject.cameras[:n])}

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """R pixels of one frame, most of them from the face box."""
        return self.pixel_batch(step, self._targets, lambda frame: self.subject.face_box[frame])

    @functools.cached_property
    def _targets(self) -> np.ndarray:
        return self.heads(np.arange(self.subject.n_train))

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step on the rays of one frame; the attention over the condition window is used from `attention_from` on."""
        frame = batch["frame"][0]
        target, background = (batch[name].astype(jnp.float32) / 255.0 for name in ("target", "background"))
        attend = step - state["start"]["began"] >= self.config.model.attention_from
        noise = self.noise(rng, len(target))

        def loss(params):
            condition = cast(jax.Array, self.model.apply({"params": params}, data["windows"][frame], attend, method=NerfHead.condition))
            camera, intrinsics = data["cameras"][frame], jnp.asarray(self.intrinsics)
            out = render_pixels(self.model, params, condition, camera, intrinsics, batch["pixels"], background, self.settings, noise)
            metrics = two_passes(out.fine.rgb, out.coarse.rgb, target, self.config.loss)
            return metrics["loss"], {**metrics, "background": jnp.mean(out.fine.last_weight)}

        nothing = jnp.full(len(PASSES), jnp.mean((background - target) ** 2))
        return self.update(state, loss, nothing, step)

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames under their own landmarks and cameras, against the head over the background."""
        del data
        subject = self.subject
        params = jax.tree.map(jnp.asarray, state["params"])
        person = NerfPerson(self.model, None, (params, None), self.settings, self.settings, self.intrinsics, subject.size)
        attend = jnp.asarray(attends(self.config.model.attention_from, int(state["start"]["began"]), step))
        background = subject.background.astype(np.float32) / 255.0

        def render(frame: int, size: int) -> np.ndarray:
            window, camera = jnp.asarray(self.windows[frame]), jnp.asarray(subject.cameras[frame])
            shrunk = shrink(background, size)
            return person.render(Drive(window, window, camera, camera, camera, attend), size, shrunk, shrunk)

        plan = self.config.data
        return evaluate_frames(
            subject, plan.eval_frames, plan.eval_size, self.heads, render, lambda frame: subject.face_box[frame], self.best[0]
        )


def set_depths(rays: ConfigDict, subject: Subject) -> None:
    """Sets `rays.near` and `rays.far` from the dataset if both are 0. Modifies `rays`, part of a stage's own config.
    Raises InputError if only one is given, or if they are no range in front of the camera."""
    if rays.near == 0.0 and rays.far == 0.0:
        try:
            rays.near, rays.far = depth_range(subject.cameras[: subject.n_train], rays.reach)
        except ValueError as error:
            raise InputError(f"config.rays.reach is {rays.reach}, which does not fit {subject.folder} ({error}): change it.") from error
    if not 0.0 < rays.near < rays.far:
        raise InputError(f"config.rays.near is {rays.near} and config.rays.far {rays.far}: give 0 for both, or 0 < near < far in meters.")


def condition_windows(model: ConfigDict, subject: Subject) -> np.ndarray:
    """[T, S, 204] windows of normalized motion around every frame ([T, S, W, 204] for W > 1) for a network of this config."""
    normalized = normalize_motion(subject.motion, subject.motion_mean, subject.motion_std)
    return windows(normalized, model.condition_window, model.condition_frames)


class NerfTorsoStage(NerfStage):
    """Neck and shoulders as a vanilla NeRF in front of a frozen vanilla head.

    All torsos are seen by one camera, the first training frame's; the condition moves them: landmarks, the head's camera, and the color
    that the head network shows at each pixel.
    """

    best = ("val/psnr_lower_half", "max")
    model: NerfTorso

    def __init__(self, config: ConfigDict):
        config = config.copy_and_resolve_references()
        subject = Subject.load(config.data.subject)
        head = _load_head(config, subject)
        super().__init__(
            config,
            subject,
            NerfTorso.from_config(config.model),
            RaySettings.from_config(config.rays),
            condition_windows(config.model, subject),
        )
        self.head = NerfHead.from_config(head.config.model)
        self.head_params = head.state["params"]
        self.head_settings = RaySettings.from_config(head.config.rays)
        self.head_windows = condition_windows(head.config.model, subject)
        began = int(head.state["start"]["began"]) if "start" in head.state else 0
        self.attend = attends(head.config.model.attention_from, began, head.step)

    def data(self) -> Any:
        """The frozen head, and conditions and cameras of the training frames, for every device."""
        n = self.subject.n_train
        return {
            "head": jax.tree.map(jnp.asarray, self.head_params),
            "head_windows": jnp.asarray(self.head_windows[:n]),
            "windows": jnp.asarray(self.windows[:n]),
            "cameras": jnp.asarray(self.subject.cameras[:n]),
        }

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """R pixels of one frame, most of them from the lower half."""
        return self.pixel_batch(step, self._targets, self._lower_half)

    @functools.cached_property
    def _targets(self) -> np.ndarray:
        return self.subject.load_all("frames", self.subject.train)

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """One Adam step on the composite of one frame's rays; the head gets no gradient."""
        frame = batch["frame"][0]
        target, background = (batch[name].astype(jnp.float32) / 255.0 for name in ("target", "background"))
        camera, first_camera = data["cameras"][frame], data["cameras"][0]
        attend = jnp.asarray(self.attend)
        drive = Drive(data["head_windows"][frame], data["windows"][frame], camera, camera, first_camera, attend)
        intrinsics, noise = jnp.asarray(self.intrinsics), self.noise(rng, len(target))
        variables = {"params": data["head"]}
        condition = cast(jax.Array, self.head.apply(variables, drive.head_window, drive.attend, method=NerfHead.condition))
        head = render_pixels(self.head, data["head"], condition, drive.camera, intrinsics, batch["pixels"], background, self.head_settings)

        def loss(params):
            condition = torso_condition(self.model, params, drive, head.fine.rgb)
            out = render_pixels(
                self.model, params, condition, drive.torso_camera, intrinsics, batch["pixels"], background, self.settings, noise
            )
            fine, coarse = _over_head(out.fine, head.fine), _over_head(out.coarse, head.coarse)
            metrics = two_passes(fine, coarse, target, self.config.loss)
            return metrics["loss"], {**metrics, "torso_opacity": 1.0 - jnp.mean(out.fine.last_weight)}

        without_torso = two_passes(head.fine.rgb, head.coarse.rgb, target, self.config.loss)
        return self.update(state, loss, jnp.stack([without_torso[name] for name in PASSES]), step)

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames of head and torso under their own landmarks and cameras."""
        del data, step
        subject = self.subject
        params = jax.tree.map(jnp.asarray, (self.head_params, state["params"]))
        person = NerfPerson(self.head, self.model, params, self.head_settings, self.settings, self.intrinsics, subject.size)
        background = subject.background.astype(np.float32) / 255.0

        def render(frame: int, size: int) -> np.ndarray:
            window, head_window = jnp.asarray(self.windows[frame]), jnp.asarray(self.head_windows[frame])
            camera, torso_camera = jnp.asarray(subject.cameras[frame]), jnp.asarray(subject.cameras[0])
            shrunk = shrink(background, size)
            drive = Drive(head_window, window, camera, camera, torso_camera, jnp.asarray(self.attend))
            return person.render(drive, size, shrunk, shrunk)

        plan = self.config.data
        return evaluate_frames(subject, plan.eval_frames, plan.eval_size, subject.frames, render, self._lower_half, self.best[0])

    def _lower_half(self, frame: int) -> np.ndarray:
        del frame
        size = self.subject.size
        return np.array([0, size // 2, size, size], np.int32)


def _over_head(torso: Composite, head: Composite) -> Array:
    """[R, 3] the torso composited over the head."""
    return torso.foreground + torso.last_weight[:, None] * head.rgb


def _load_head(config: ConfigDict, subject: Subject) -> checkpoints.Checkpoint:
    """The head that `config.data.head` names; its step, fingerprint and depths are recorded in `config`, the stage's own copy.
    Raises InputError if no head is named, if it is no vanilla NeRF, or if it was trained for another camera."""
    if not config.data.head:
        raise InputError("config.data.head names no head: give --config.data.head=SUBJECT/nerf_head, trained by configs/nerf_head.py.")
    head = checkpoints.load(config.data.head, None if config.data.head_step < 0 else config.data.head_step)
    if head.config.stage != "nerf_head":
        raise InputError(
            f"config.data.head is {config.data.head}, which holds a {head.config.stage}: give a head trained by configs/nerf_head.py."
        )
    require_same_camera(f"the head in {config.data.head}", head.config, subject)
    config.data.head_step = head.step
    config.head.fingerprint = params_fingerprint(head.state["params"])
    for name in ("near", "far", "offset"):
        config.rays[name] = head.config.rays[name]
    return head
