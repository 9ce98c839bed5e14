"""Head stages: a person's landmark-conditioned radiance field, alone and with super-resolution (`lm3d_radnerf`, `lm3d_radnerf_sr`)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels import occupancy
from ml_collections import ConfigDict
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.data.motion import eye_boxes, shut_frames, shut_share
from geneface_jax.data.pixel_sampling import Region, draw_frames, draw_pixels, in_boxes, over, patch_pixels
from geneface_jax.io import checkpoints
from geneface_jax.training import devices, field_losses
from geneface_jax.training.field_base import HeadField, comparison, heldout_frames, noise_per_group, psnr_in_box, trainable
from geneface_jax.training.optimizers import iterate
from geneface_jax.training.stage import Evaluation, Phase
from geneface_jax.typing import Metrics, State


class HeadStage(HeadField):
    """The head stage: random rays of a few frames per step; see `HeadField` for the state."""

    unit = "rays"
    best = ("val/psnr_face_box", "max")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        config = self.config
        self.items_per_step = config.data.groups * config.data.rays
        self.lips = field_losses.LipPatchLoss(config.lips, config.train.steps, self.subject, config.data.rays)
        subject, data = self.subject, config.data
        self._regions = [Region(data.face_share, subject.face_box), Region(data.lip_share, subject.lip_box)]
        self._regions += [Region(data.eye_share / 2, boxes) for boxes in eye_boxes(subject.landmarks_2d, subject.size)]
        self._shut = shut_frames(subject.eye_openness, self.train_frames)
        self._shut_share = shut_share(data.shut_share, self._shut, self.train_frames)

    def phases(self) -> list[Phase]:
        """Those of every head, and the lip steps."""
        return [*super().phases(), *self.lips.phases(self.config.train.steps)]

    @functools.cached_property
    def _pictures(self) -> tuple[np.ndarray, np.ndarray]:
        return self.load_pictures()

    def init(self, rng: jax.Array) -> State:
        """Initial parameters, Adam moments, and the occupancy grid carved by the head masks."""
        return self.initial_state(self.initial_head(rng))

    def data(self) -> Any:
        """Per-frame conditions and cameras, and LPIPS's weights if there are lip steps."""
        return {**self.frame_data(), "lpips": self.lips.weights()}

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G groups of R pixels, each group from one frame: more in face, lips and eyes, and in lip steps a patch of lips first."""
        data = self.config.data
        frames_rgb, background = self._pictures
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self.train_frames, data.groups, self._shut, self._shut_share)
        pixels = draw_pixels(rng, frames, data.rays, frames_rgb.shape[1:3], self._regions)
        pixels = self.lips.replace(step, frames, pixels)
        row, column = pixels[..., 0], pixels[..., 1]
        return {
            "frame": frames,
            "pixels": pixels,
            "target": frames_rgb[frames[:, None], row, column],
            "background": background[frames[:, None], row, column],
            "in_face": in_boxes(pixels, self.subject.face_box[frames]),
        }

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """Occupancy update every few steps, then one Adam step on random rays."""
        grid_rng, noise_rng = jax.random.split(rng)
        trained = iterate(trainable(state), state["opt_state"])
        grid = self.maybe_refresh_occupancy(trained["params"], state["occupancy"]["grid"], data, grid_rng, step, self.lips.started(step))
        occupied = occupancy.occupied(grid, self.config.march.density_threshold)
        noise = self.jitter(step) * noise_per_group(noise_rng, *batch["pixels"].shape[:2])
        target = batch["target"].astype(jnp.float32) / 255.0
        background = batch["background"].astype(jnp.float32) / 255.0
        ambient_weight = self.config.loss.ambient * jnp.minimum(step / self.config.train.steps, 1.0)

        def loss(trained: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            poses, correction = self.frame_poses(trained, data, batch["frame"], step)
            out = self.render(trained["params"], poses, data, batch["frame"], batch["pixels"], self.intrinsics, noise, occupied)
            composite = out.composite
            rgb = composite.rgb.reshape(target.shape) + (1.0 - composite.alpha.reshape(target.shape[:2]))[..., None] * background
            # A ray that ran out of its sample budget doesn't show the whole field: it is left out of the losses.
            complete = out.complete.astype(jnp.float32)
            in_face = batch["in_face"].reshape(-1).astype(jnp.float32)
            mse = devices.masked_mean(jnp.mean((rgb - target) ** 2, axis=-1).reshape(-1), complete)
            entropy = devices.masked_mean(field_losses.opacity_entropy(composite.alpha), complete)
            ambient = devices.masked_mean(field_losses.ambient_outside_face(composite.ambient, in_face), complete)
            lip_loss, lip_metrics = self.lips.loss(step, rgb, target, data["lpips"])
            total = mse + self.config.loss.entropy * entropy + ambient_weight * ambient + lip_loss
            total += self.config.pose_refinement.weight * correction
            distortion = devices.masked_mean(out.distortion, complete)
            total += self.distortion_weight(step) * distortion
            return total, {
                "loss": total,
                "mse": mse,
                "entropy": entropy,
                "ambient": ambient,
                "distortion": distortion,
                "samples_per_ray": out.samples / noise.size,
                "rays_out_of_budget": 1.0 - jnp.mean(complete),
                **lip_metrics,
                **({"pose_correction": jnp.sqrt(correction)} if "poses" in trained else {}),
            }

        grads, metrics = devices.mean(jax.grad(loss, has_aux=True)(trained))
        metrics = {**metrics, "psnr": field_losses.psnr(metrics["mse"]), "occupancy": jnp.mean(occupied)}
        return self.apply_gradients(state, grads, metrics, {"occupancy": {"grid": grid}})

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames by the head protocol: their own landmarks, pose and eyes; true torso and background; appearance code 0."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        truth = subject.frames(chosen).astype(np.float32) / 255.0
        background = over(subject.torso(chosen), subject.background).astype(np.float32) / 255.0
        occupied = occupancy.occupied(state["occupancy"]["grid"], self.config.march.density_threshold)
        face, lips, rows = [], [], []
        for i, frame in enumerate(chosen):
            ours, depth, alpha = self.heldout_picture(state["params"], occupied, frame, background[i])
            face.append(psnr_in_box(ours, truth[i], subject.face_box[frame]))
            lips.append(psnr_in_box(ours, truth[i], subject.lip_box[frame]))
            rows.append(comparison(truth[i], ours, depth, alpha))
        scalars = {"val/psnr_face_box": float(np.mean(face)), "val/psnr_lip_box": float(np.mean(lips))}
        return Evaluation(scalars, images={"val/truth_ours_difference_depth": np.concatenate(rows[:4])})


class HeadSrStage(HeadField):
    """Whole frames rendered at half size and doubled by a network; losses on both sizes.

    The state is that of `HeadField`, with `params` = {"head", "super_resolution"}, the network's noise pictures in `constants` and the
    adaptive `weight` [] in `ambient`.
    """

    unit = "rays"
    best = ("val/psnr_face_box", "max")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        config = self.config
        self.network = field_losses.build_super_resolution(config, self.subject)
        self.perceptual = field_losses.PerceptualLoss(config)
        self.small = self.network.size
        self.items_per_step = config.data.groups * self.small**2

    def phases(self) -> list[Phase]:
        """Those of every head, and the perceptual terms."""
        return [*super().phases(), *self.perceptual.phases(self.config.train.steps)]

    @functools.cached_property
    def _pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(frames, frames at half size, torso over background at half size) of the training split, uint8."""
        frames, background = self.load_pictures()
        return frames, field_losses.halved(frames), field_losses.halved(background)

    def init(self, rng: jax.Array) -> State:
        """Initial state; the head's parameters and grid are those of the work folder `config.data.head` if it is set.
        Raises InputError if that head has other sizes than this config's."""
        head_rng, network_rng = jax.random.split(rng)
        variables = self.network.init(network_rng, jnp.zeros((1, self.small, self.small, 3)))
        network = field_losses.zero_rgb_layers(variables["params"]) if self.config.start_plain else variables["params"]
        state = self.initial_state({"head": self.initial_head(head_rng), "super_resolution": network})
        if self.config.data.head:
            state = self._load_head(state, self.config.data.head)
        state["constants"] = variables["constants"]
        state["ambient"] = {"weight": jnp.asarray(self.config.loss.ambient, jnp.float32)}
        return state

    def _load_head(self, state: State, workdir: str) -> State:
        loaded = checkpoints.load(workdir).state
        params, grid = loaded["params"], {"grid": loaded["occupancy"]["grid"]}
        expected = jax.tree.map(jnp.shape, (state["params"]["head"], state["occupancy"]))
        if jax.tree.map(jnp.shape, (params, grid)) != expected:
            raise InputError(
                f"The head in {workdir} has other sizes than config.model and config.march: give a head of this variant, or leave "
                "config.data.head empty to train from scratch."
            )
        params = {**state["params"], "head": jax.tree.map(jnp.asarray, params)}
        return {**state, "params": params, "occupancy": jax.tree.map(jnp.asarray, grid)}

    def data(self) -> Any:
        """Per-frame conditions and cameras, and LPIPS's weights if they are needed."""
        return {**self.frame_data(), "lpips": self.perceptual.weights()}

    def host_batch(self, step: int) -> dict[str, np.ndarray]:
        """G whole frames."""
        large, small, background = self._pictures
        rng = np.random.default_rng((self.config.seed, step))
        frames = draw_frames(rng, self.train_frames, self.config.data.groups)
        pixels = self._pixels(len(frames))
        side = self.config.perceptual.lip_side
        corners = patch_pixels(self.subject.lip_box[frames], side, (self.subject.size, self.subject.size))[:, 0]
        return {
            "frame": frames,
            "large": large[frames],
            "small": small[frames],
            "background": background[frames],
            "in_face": in_boxes(2 * pixels, self.subject.face_box[frames]),
            "lip_corner": corners,
        }

    def _pixels(self, groups: int) -> np.ndarray:
        """[G, S * S, 2] all pixels (row, column) of a half-size picture, row by row."""
        rows, columns = np.meshgrid(np.arange(self.small), np.arange(self.small), indexing="ij")
        one = np.stack([rows, columns], axis=-1).reshape(-1, 2).astype(np.int32)
        return np.broadcast_to(one, (groups, *one.shape))

    def train_step(self, state: State, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[State, Metrics]:
        """Occupancy update every few steps until the perceptual terms begin, then one Adam step on whole frames."""
        config = self.config.loss
        grid_rng, march_rng, noise_rng = jax.random.split(rng, 3)
        trained = iterate(trainable(state), state["opt_state"])
        started = self.perceptual.started(step)
        grid = self.maybe_refresh_occupancy(trained["params"]["head"], state["occupancy"]["grid"], data, grid_rng, step, started)
        occupied = occupancy.occupied(grid, self.config.march.density_threshold)
        frame, small, large = batch["frame"], batch["small"].astype(jnp.float32) / 255.0, batch["large"].astype(jnp.float32) / 255.0
        background = batch["background"].astype(jnp.float32) / 255.0
        pixels = jnp.asarray(self._pixels(len(frame)))
        jitter = self.jitter(step) * noise_per_group(march_rng, *pixels.shape[:2])
        keys = jax.vmap(lambda item: jax.random.fold_in(noise_rng, item))(devices.global_indices(len(frame)))
        intrinsics = self.intrinsics * (self.small / self.subject.size)
        weight = state["ambient"]["weight"]

        def loss(trained: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            poses, correction = self.frame_poses(trained, data, frame, step)
            out = self.render(trained["params"]["head"], poses, data, frame, pixels, intrinsics, jitter, occupied)
            composite = out.composite
            rgb = composite.rgb.reshape(small.shape) + (1.0 - composite.alpha.reshape(small.shape[:3]))[..., None] * background
            variables = {"params": trained["params"]["super_resolution"], "constants": state["constants"]}
            ours = self._double(variables, jnp.clip(rgb, 0.0, 1.0), keys)
            complete = out.complete.astype(jnp.float32)
            outside = 1.0 - batch["in_face"].reshape(-1).astype(jnp.float32)
            small_mse = devices.masked_mean(jnp.mean((rgb - small) ** 2, axis=-1).reshape(-1), complete)
            large_mse = jnp.mean((ours - large) ** 2)
            entropy = devices.masked_mean(field_losses.opacity_entropy(composite.alpha), complete)
            ambient = jnp.sum(composite.ambient * outside * complete) / (
                devices.mean_where_mapped(jnp.sum(outside * complete)) + 1.0 / devices.count()
            )
            lips = [field_losses.crops(picture, batch["lip_corner"], self.config.perceptual.lip_side) for picture in (ours, large)]
            pairs = {"small": (rgb, small), "large": (ours, large), "lips": (lips[0], lips[1])}
            perceptual, lpips_metrics = self.perceptual.loss(step, pairs, data["lpips"])
            distortion = devices.masked_mean(out.distortion, complete)
            total = config.small_mse * small_mse + config.large_mse * large_mse + config.entropy * entropy + weight * ambient + perceptual
            total += self.config.pose_refinement.weight * correction + self.distortion_weight(step) * distortion
            return total, {
                "loss": total,
                "mse": small_mse,
                "sr_mse": large_mse,
                "entropy": entropy,
                "ambient": ambient,
                "distortion": distortion,
                "samples_per_ray": out.samples / jitter.size,
                "rays_out_of_budget": 1.0 - jnp.mean(complete),
                **lpips_metrics,
            }

        grads, metrics = devices.mean(jax.grad(loss, has_aux=True)(trained))
        next_weight = field_losses.adapted_weight(
            weight, metrics["ambient"], config.ambient_target, config.ambient_rate, config.ambient_most
        )
        metrics = {
            **metrics,
            "psnr": field_losses.psnr(metrics["mse"]),
            "sr_psnr": field_losses.psnr(metrics["sr_mse"]),
            "ambient_weight": weight,
        }
        metrics["occupancy"] = jnp.mean(occupied)
        return self.apply_gradients(state, grads, metrics, {"occupancy": {"grid": grid}, "ambient": {"weight": next_weight}})

    def _double(self, variables: Any, rgb: jax.Array, keys: jax.Array) -> Any:
        """[G, H, W, 3] -> [G, 2H, 2W, 3], with noise from each picture's own key [G] if the config asks for noise."""
        if not self.config.noise:
            return self.network.apply(variables, rgb, "none")
        return jax.vmap(lambda picture, key: self.network.apply(variables, picture[None], key)[0])(rgb, keys)

    def evaluate(self, state: State, data: Any, step: int) -> Evaluation:
        """Held-out frames by the head protocol, doubled without noise; for comparison also doubled by bicubic interpolation."""
        del data, step
        subject = self.subject
        chosen = heldout_frames(subject, self.config.data.eval_frames)
        truth = subject.frames(chosen).astype(np.float32) / 255.0
        background = field_losses.halved(over(subject.torso(chosen), subject.background)).astype(np.float32) / 255.0
        occupied = occupancy.occupied(state["occupancy"]["grid"], self.config.march.density_threshold)
        variables = {"params": state["params"]["super_resolution"], "constants": state["constants"]}
        enlarge = jax.jit(self.network.apply)
        scores: dict[str, list[float]] = {"val/psnr_face_box": [], "val/psnr_lip_box": [], "val/psnr_face_box_bicubic": []}
        rows = []
        for i, frame in enumerate(chosen):
            rgb, depth, alpha = self.heldout_picture(state["params"]["head"], occupied, frame, background[i])
            ours = np.clip(np.asarray(enlarge(variables, jnp.asarray(rgb)[None])[0]), 0.0, 1.0)
            scores["val/psnr_face_box"].append(psnr_in_box(ours, truth[i], subject.face_box[frame]))
            scores["val/psnr_lip_box"].append(psnr_in_box(ours, truth[i], subject.lip_box[frame]))
            scores["val/psnr_face_box_bicubic"].append(psnr_in_box(doubled(rgb), truth[i], subject.face_box[frame]))
            rows.append(comparison(truth[i], ours, depth.repeat(2, 0).repeat(2, 1), alpha.repeat(2, 0).repeat(2, 1)))
        image = np.concatenate(rows[:4])
        return Evaluation({tag: float(np.mean(v)) for tag, v in scores.items()}, images={"val/truth_ours_difference_depth": image})


def doubled(picture: np.ndarray, kind: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """[H, W, 3] in [0, 1] -> [2H, 2W, 3] by plain interpolation: the baseline of the network."""
    height, width = picture.shape[:2]
    planes = [Image.fromarray(np.ascontiguousarray(picture[..., c], np.float32)).resize((2 * width, 2 * height), kind) for c in range(3)]
    return np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 0.0, 1.0)
