"""The render step as a function that stands by itself: weights, camera and condition in, one frame of uint8 pixels out.

It is traced with `jax.export`: the result runs wherever jax does, without this package, and on the platforms it was lowered for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from geneface_jax.data.motion import STD_FLOOR
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.rendering.cameras import pose_vector, scene_pose
from geneface_jax.rendering.field import render_heads
from geneface_jax.rendering.torso import render_torso

KNOWN_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What jax can lower for, wherever it runs."""

PLATFORMS = ("cpu", "cuda")
"""What a step is lowered for unless another choice is made."""

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RenderStep:
    """A render step before it is exported.

    Attributes:
      function: (weights, inputs) -> uint8 [S, S, 3]; both are flat dicts.
      weights: name -> array, the first argument.
      inputs: name -> (shape and type, meaning), the second argument.
    """

    function: Callable[[dict[str, jax.Array], dict[str, jax.Array]], jax.Array]
    weights: dict[str, np.ndarray]
    inputs: dict[str, tuple[jax.ShapeDtypeStruct, str]]

    def serialise(self, platforms: Sequence[str] = PLATFORMS) -> bytes:
        """Traces the step once and lowers it for every platform.

        Args:
          platforms: among `KNOWN_PLATFORMS`.

        Raises:
          InputError: no platform, or one that jax does not know.
        """
        unknown = [name for name in platforms if name not in KNOWN_PLATFORMS]
        if unknown or not platforms:
            raise InputError(f"--platforms is {','.join(platforms)!r}; choose among {', '.join(KNOWN_PLATFORMS)}, with commas between")
        weights = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in self.weights.items()}
        shapes = {name: shape for name, (shape, _) in self.inputs.items()}
        return bytes(jax.export.export(jax.jit(self.function), platforms=tuple(platforms))(weights, shapes).serialize())


def make_render_step(renderer: SubjectRenderer, end_threshold: float) -> RenderStep:
    """The step of a person's head and torso, at the size they were trained at; pixel for pixel what `SubjectRenderer.render` makes.

    Args:
      renderer: with or without a torso network; a super-resolution network becomes part of the step, its weights constants in it.
      end_threshold: transmittance that ends a ray; fixed in the step.
    """
    subject, model = renderer.subject, renderer.head_config.model
    side = subject.size if renderer.enlarger is None else renderer.enlarger.size
    intrinsics = np.asarray(np.asarray(subject.intrinsics) * (side / subject.size), np.float32)
    inner = model.get("condition_frames", 1)
    window = (model.condition_window, inner, 204) if inner > 1 else (model.condition_window, 204)

    inputs = {
        "camera": (_shape(4, 4), "camera to world in the canonical head frame, OpenGL axes (x right, y up, looks along -z), metres"),
        "window": (_shape(*window), "motion of the frames around this one: frames t - n // 2 and on, the clip's ends repeated"),
        "eye_openness": (_shape(), "lid gap over eye width, about 0 (shut) to 0.4"),
        "background": (jax.ShapeDtypeStruct((side, side, 3), np.uint8), "what stands behind the person"),
    }
    torso = renderer.torso
    if torso is not None and torso.condition == "pose":
        inputs["torso_camera"] = (_shape(4, 4), "what the torso follows; the same as camera, unless the viewpoint is free")
    elif torso is not None:
        inputs["jaw"] = (_shape(14), "image x and y, in fractions of the picture, of the jaw's points 5 to 11, averaged over 7 frames")

    weights = {
        **flat("head", renderer.head_params),
        **(flat("torso", renderer.torso_params) if torso is not None else {}),
        "occupied": np.asarray(renderer.occupied),
        "motion_mean": np.asarray(subject.motion_mean.reshape(-1), np.float32),
        "motion_std": np.maximum(subject.motion_std.reshape(-1), STD_FLOOR).astype(np.float32),
    }

    def step(weights: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> jax.Array:
        window = (inputs["window"] - weights["motion_mean"]) / weights["motion_std"]
        head = render_heads(
            renderer.head,
            nested("head", weights),
            weights["occupied"],
            scene_pose(inputs["camera"])[None],
            jnp.asarray(intrinsics),
            window[None],
            inputs["eye_openness"][None],
            end_threshold,
            settings=renderer.march,
            size=(side, side),
        )
        rgb, alpha = head.rgb[0], head.alpha[0][:, None]
        behind = inputs["background"].reshape(-1, 3).astype(jnp.float32) / 255.0
        if torso is not None:
            condition = pose_vector(scene_pose(inputs["torso_camera"])) if "torso_camera" in inputs else inputs["jaw"]
            seen = jnp.concatenate([rgb, alpha], axis=-1) if torso.head_aware else None
            behind, _ = render_torso(torso, nested("torso", weights), condition, behind, size=(side, side), head=seen)
        picture = rgb + (1.0 - alpha) * behind
        if renderer.enlarger is not None:
            picture = renderer.enlarger(picture)
        return jnp.round(jnp.clip(picture, 0.0, 1.0) * 255.0).astype(jnp.uint8).reshape(subject.size, subject.size, 3)

    return RenderStep(step, weights, inputs)


def flat(prefix: str, tree: Tree) -> dict[str, np.ndarray]:
    """Nested dicts of arrays -> `prefix/module/.../array`."""
    found: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        found |= flat(f"{prefix}/{name}", value) if isinstance(value, Mapping) else {f"{prefix}/{name}": np.asarray(value)}
    return found


def nested(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`, for the names under one prefix."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        first, *path = name.split("/")
        if first == prefix and path:
            holder = tree
            for module in path[:-1]:
                holder = holder.setdefault(module, {})
            holder[path[-1]] = value
    return tree


def _shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, np.float32)
