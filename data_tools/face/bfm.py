"""Basel face model (3DMM): loading its files, and fitting identity, expression and pose to landmarks with JAX and optax."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from data_tools.errors import InputError
from data_tools.face.pose import intrinsics
from data_tools.io import file_sha256, settings_fingerprint
from data_tools.records import read_npy

# -------- The model's files; by its license every user must fetch them

MODEL_FILE, INDEX_FILE = "BFM_model_front.mat", "index_mp468_from_mesh35709.npy"
"""Files of GeneFace++: mean shape, 80 identity and 64 expression directions of 35709 vertices; and the vertex of each MediaPipe point,
negative where there is none."""

N_POINTS = 468


@dataclasses.dataclass(frozen=True)
class FaceModel:
    """A linear face: points = mean + identity @ id + expression @ exp, in decimeters (x right, y up, z to the camera).

    Attributes:
      mean: [468, 3]; identity: [468, 3, I]; expression: [468, 3, E].
      matched: [468] bool, False where the model has no vertex for a MediaPipe point (vertex 0 is used, as in GeneFace++).
    """

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    matched: np.ndarray


def model_files(folder: Path) -> tuple[Path, Path]:
    """Paths of the two files; raises InputError if one is missing."""
    for name in (MODEL_FILE, INDEX_FILE):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}: put the Basel face model's files of GeneFace++ there, or use --face-model mediapipe."
            )
    return folder / MODEL_FILE, folder / INDEX_FILE


def model_key(folder: Path) -> str:
    """Fingerprint of the files' content."""
    return settings_fingerprint([file_sha256(path) for path in model_files(folder)])


def load_face_model(folder: Path) -> FaceModel:
    """Reads the model at MediaPipe's points and centers its mean, as GeneFace++ does.

    Raises:
      InputError: a file is missing or holds something else.
    """
    model_path, index_path = model_files(folder)
    try:
        arrays = scipy.io.loadmat(str(model_path), variable_names=["meanshape", "idBase", "exBase"])
        index = read_npy(index_path, "fetch it again").astype(np.int64).reshape(-1)
        mean = np.asarray(arrays["meanshape"], np.float32).reshape(-1, 3)
        bases = [np.asarray(arrays[name], np.float32).reshape(*mean.shape, -1) for name in ("idBase", "exBase")]
        if index.shape != (N_POINTS,) or index.max() >= len(mean) or not all(np.isfinite(array).all() for array in (mean, *bases)):
            raise ValueError(f"{index.shape} points up to vertex {index.max()}")
    except InputError:
        raise
    except Exception as error:  # SciPy's reader raises a dozen kinds
        raise InputError(f"{folder} holds no Basel face model in GeneFace++'s format ({error}): fetch its two files again.") from error
    vertex = np.maximum(index, 0)
    identity, expression = (base[vertex] for base in bases)
    return FaceModel((mean - mean.mean(0))[vertex], identity, expression, index >= 0)


# -------- Fit to a clip's landmarks by gradient descent (the method of GeneFace++)
#
# Points in the camera are R p + t with R = Rz Ry Rx; the camera is at 10 dm and looks along -z, with GeneFace's intrinsics. First the poses
# are fitted, then identity (one per clip), expression and poses jointly, under priors on their size and their acceleration. GeneFace++ adds
# a finer stage and discards its results; here the step size decays to zero instead. The identity of a long clip is fitted to frames spread
# over it, the rest in blocks.

CAMERA_DISTANCE = 10.0
"""Decimeters."""

NETWORK_SIZE = 224.0
"""The losses are in the units of GeneFace's 224 px pictures."""

# fmt: off
EYES = [33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7,
        263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249]
UPPER_LIDS = [161, 160, 159, 158, 157, 388, 387, 386, 385, 384]
LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146,
        78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
# fmt: on


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Steps and weights (those of GeneFace++).

    Attributes:
      pose_steps, joint_steps: gradient steps of the two stages; rate: Adam's step size.
      eyes, upper_lids, lips: weights of those points; other points have 1, unmatched ones 0.
      identity, expression: priors on the coefficients' mean square.
      acceleration, pose_acceleration: priors on the mean square of half the second difference, of expression and of the pose.
      block, overlap: frames per block of a long clip, and extra frames to each side of it.
    """

    pose_steps: int = 200
    joint_steps: int = 400
    rate: float = 0.1
    eyes: float = 3.0
    upper_lids: float = 20.0
    lips: float = 5.0
    identity: float = 0.2
    expression: float = 0.6
    acceleration: float = 1.0
    pose_acceleration: float = 0.3
    block: int = 1000
    overlap: int = 25


@dataclasses.dataclass(frozen=True)
class FaceFit:
    """A clip's coefficients: `identity` [I], `expression` [T, E], `euler` [T, 3] radians, `translation` [T, 3] dm, float32; `error` [T],
    pixels of the clip, mean distance over the matched points."""

    identity: np.ndarray
    expression: np.ndarray
    euler: np.ndarray
    translation: np.ndarray
    error: np.ndarray


def fit_face_model(landmarks: np.ndarray, size: int, model: FaceModel, settings: FitSettings | None = None) -> FaceFit:
    """Fits the model to a clip's `landmarks` [T, 468+, 2+], pixels of a size x size crop."""
    settings = settings or FitSettings()
    targets = np.asarray(landmarks[:, : len(model.mean), :2], np.float32) * np.float32(NETWORK_SIZE / size)
    n_frames = len(targets)
    if n_frames <= settings.block + settings.overlap:
        return _fit_block(targets, size, model, settings, None)
    spread = np.linspace(0, n_frames - 1, settings.block).round().astype(int)
    # The prior on acceleration does not apply to frames that are far apart.
    no_acceleration = dataclasses.replace(settings, acceleration=0.0, pose_acceleration=0.0)
    identity = _fit_block(targets[spread], size, model, no_acceleration, None).identity
    parts = []
    for first in range(0, n_frames, settings.block):
        begin, end = max(first - settings.overlap, 0), min(first + settings.block + settings.overlap, n_frames)
        fit = _fit_block(targets[begin:end], size, model, settings, identity)
        keep = slice(first - begin, min(first + settings.block, n_frames) - begin)
        parts.append((fit.expression[keep], fit.euler[keep], fit.translation[keep], fit.error[keep]))
    return FaceFit(identity, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def point_weights(model: FaceModel, settings: FitSettings) -> np.ndarray:
    """[468] weight of each point."""
    weights = np.ones(len(model.mean), np.float32)
    for points, weight in ((EYES, settings.eyes), (UPPER_LIDS, settings.upper_lids), (LIPS, settings.lips)):
        weights[points] = weight
    return weights * model.matched


def rotations(euler: Any) -> Any:
    """[T, 3] angles about x, y, z (JAX array, radians) -> [T, 3, 3] Rz Ry Rx."""
    import jax.numpy as jnp

    (cx, cy, cz), (sx, sy, sz) = (jnp.moveaxis(f(euler), -1, 0) for f in (jnp.cos, jnp.sin))
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _project(parameters: dict[str, Any], model: FaceModel) -> Any:
    """[T, P, 2] pixels of a 224 px picture."""
    import jax.numpy as jnp

    points = model.mean + jnp.einsum("pci,i->pc", model.identity, parameters["identity"])
    points = points + jnp.einsum("pce,te->tpc", model.expression, parameters["expression"])
    points = jnp.einsum("tij,tpj->tpi", rotations(parameters["euler"]), points) + parameters["translation"][:, None]
    camera = intrinsics(int(NETWORK_SIZE))
    depth = CAMERA_DISTANCE - points[..., 2]
    return jnp.stack([camera["cx"] + camera["fx"] * points[..., 0] / depth, camera["cy"] - camera["fy"] * points[..., 1] / depth], -1)


def _fit_block(targets: np.ndarray, size: int, model: FaceModel, settings: FitSettings, identity: np.ndarray | None) -> FaceFit:
    """Fits frames jointly; a given identity is not changed."""
    import jax
    import jax.numpy as jnp
    import optax

    weights = jnp.asarray(point_weights(model, settings))[:, None]
    targets = jnp.asarray(targets)

    def acceleration(x):
        return jnp.mean((x[1:-1] - 0.5 * (x[:-2] + x[2:])) ** 2) if len(x) > 2 else 0.0

    def landmark_loss(parameters):
        return jnp.mean(weights * (_project(parameters, model) - targets) ** 2)

    def joint_loss(parameters):
        loss = landmark_loss(parameters)
        loss += settings.identity * jnp.mean(parameters["identity"] ** 2) + settings.expression * jnp.mean(parameters["expression"] ** 2)
        loss += settings.acceleration * acceleration(parameters["expression"])
        return loss + settings.pose_acceleration * (acceleration(parameters["euler"]) + acceleration(parameters["translation"]))

    def minimize(loss, parameters, free, steps, schedule):
        labels = {name: "free" if name in free else "fixed" for name in parameters}
        optimizer = optax.multi_transform({"free": optax.adam(schedule), "fixed": optax.set_to_zero()}, labels)

        def step(carry, _):
            parameters, state = carry
            updates, state = optimizer.update(jax.grad(loss)(parameters), state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        return jax.lax.scan(step, (parameters, optimizer.init(parameters)), None, length=steps)[0][0]

    @jax.jit
    def fit(parameters):
        poses = ("euler", "translation")
        parameters = minimize(landmark_loss, parameters, poses, settings.pose_steps, settings.rate)
        free = (*poses, "expression", *(() if identity is not None else ("identity",)))
        schedule = optax.cosine_decay_schedule(settings.rate, settings.joint_steps)
        parameters = minimize(joint_loss, parameters, free, settings.joint_steps, schedule)
        distance = jnp.linalg.norm(_project(parameters, model) - targets, axis=-1)
        return parameters, (distance * model.matched).sum(1) / model.matched.sum()

    n_frames = len(targets)
    start = {
        "identity": jnp.zeros(model.identity.shape[-1]) if identity is None else jnp.asarray(identity),
        "expression": jnp.zeros((n_frames, model.expression.shape[-1])),
        "euler": jnp.zeros((n_frames, 3)),
        "translation": jnp.zeros((n_frames, 3)),
    }
    fitted, error = jax.device_get(fit(start))
    return FaceFit(fitted["identity"], fitted["expression"], fitted["euler"], fitted["translation"], error * (size / NETWORK_SIZE))
