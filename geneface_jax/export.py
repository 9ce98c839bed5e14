"""Export of a person for other programs: safetensors weights, the render step as a jax.export artifact, README and model card."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.errors import InputError
from data_tools.io import require_output, write_folder, write_text
from geneface_jax.data.motion import STD_FLOOR
from geneface_jax.inference.renderer import SubjectRenderer, open_renderer
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import find_parts
from geneface_jax.io.weights import write_safetensors
from geneface_jax.rendering.cameras import pose_vector, scene_pose
from geneface_jax.rendering.field import render_heads, render_torso

# -------- README.md of an export: how to call the render step

_TEMPLATE = '''# {name}: exported render step

One frame of {size}x{size} pixels per call; made by jax {jax} for {platforms}. `card.md` names the person and the consent:
read it first, and label your results as synthetic.

| input | shape | type | meaning |
|---|---|---|---|
{inputs}

Motion is ten times the displacement of 68 landmarks from `dataset/mean_face` (decimeters), flattened to 204. The windows of a clip are
`motion[np.clip(np.arange(T)[:, None] + np.arange({window}) - {window} // 2, 0, T - 1)]`. The weights of all stages, speech included,
are in `stages.safetensors`; sizes and configs in `config.json`.

```python
import json
import jax, numpy as np
from PIL import Image


def read_safetensors(path):
    """The whole format: eight bytes of length, a JSON header, the bytes of the arrays. Or use the package safetensors."""
    types = {{"F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "u1", "BOOL": "?"}}
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    return {{
        name: np.frombuffer(data[start:][slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }}


weights = read_safetensors("{weights}")
clip = read_safetensors("stages.safetensors")
step = jax.jit(jax.export.deserialize(bytearray(open("{file}", "rb").read())).call)

inputs = {{
{example}
}}
Image.fromarray(np.asarray(step(weights, inputs))).save("frame.png")
```

The first call compiles. The example shows the person's mean face from the first training camera.
'''

_EXAMPLES = {
    "camera": 'clip["dataset/cameras"][0]',
    "torso_camera": 'clip["dataset/cameras"][0]',
    "window": 'np.broadcast_to(clip["dataset/motion_mean"].reshape(204), {shape}).astype(np.float32)',
    "eye_openness": 'np.float32(np.median(clip["dataset/eye_openness"]))',
    "background": 'np.asarray(Image.open("background.png").convert("RGB").resize(({side}, {side})))',
    "jaw": "np.full({shape}, 0.6, np.float32)",
}


def readme(record: Mapping[str, Any]) -> str:
    """Markdown from the record of `config.json`."""
    step = record["render_step"]
    rows = [f"| `{name}` | {entry['shape']} | {entry['dtype']} | {entry['meaning']} |" for name, entry in step["inputs"].items()]
    lines = []
    for name, entry in step["inputs"].items():
        shape = tuple(entry["shape"])
        lines.append(f'    "{name}": {_EXAMPLES[name].format(shape=shape, side=shape[0] if shape else 0)},')
    return _TEMPLATE.format(
        name=record["name"],
        size=record["size"],
        jax=step["jax"],
        platforms=", ".join(step["platforms"]),
        inputs="\n".join(rows),
        window=step["inputs"]["window"]["shape"][0],
        weights=step["weights"],
        file=step["file"],
        example="\n".join(lines),
    )


# -------- The render step: weights, camera and condition -> one frame. Exported with `jax.export`, it needs jax but not this package

KNOWN_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Platforms that jax can lower for on any machine."""

PLATFORMS = ("cpu", "cuda")
"""Platforms that a step is lowered for by default."""

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

    def serialize(self, platforms: Sequence[str] = PLATFORMS) -> bytes:
        """Traces the step once and lowers it for every platform.

        Args:
          platforms: among `KNOWN_PLATFORMS`.

        Raises:
          InputError: no platform, or one that jax does not know.
        """
        unknown = [name for name in platforms if name not in KNOWN_PLATFORMS]
        if unknown or not platforms:
            raise InputError(f"--platforms is {','.join(platforms)!r}: choose among {', '.join(KNOWN_PLATFORMS)}, separated by commas.")
        weights = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in self.weights.items()}
        shapes = {name: shape for name, (shape, _) in self.inputs.items()}
        return bytes(jax.export.export(jax.jit(self.function), platforms=tuple(platforms))(weights, shapes).serialize())


def make_render_step(renderer: SubjectRenderer, end_threshold: float) -> RenderStep:
    """The render step of a person's head and torso at the trained size, with the same pixels as `SubjectRenderer.render`.

    Args:
      renderer: with or without a torso network; a super-resolution network becomes part of the step, with its weights as constants.
      end_threshold: transmittance that ends a ray; a constant of the step.
    """
    subject, model = renderer.subject, renderer.head_config.model
    side = subject.size if renderer.super_resolver is None else renderer.super_resolver.size
    intrinsics = np.asarray(np.asarray(subject.intrinsics) * (side / subject.size), np.float32)
    inner = model.get("condition_frames", 1)
    window = (model.condition_window, inner, 204) if inner > 1 else (model.condition_window, 204)

    inputs = {
        "camera": (_shape(4, 4), "camera to world in the canonical head frame, OpenGL axes (x right, y up, looks along -z), meters"),
        "window": (_shape(*window), "motion of the frames around this one, from frame t - n // 2 on; the clip's ends are repeated"),
        "eye_openness": (_shape(), "lid gap over eye width, about 0 (shut) to 0.4"),
        "background": (jax.ShapeDtypeStruct((side, side, 3), np.uint8), "background picture"),
    }
    torso = renderer.torso
    if torso is not None and torso.condition == "pose":
        inputs["torso_camera"] = (_shape(4, 4), "camera pose of the torso; the same as camera, except for a free viewpoint")
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
        behind_head = inputs["background"].reshape(-1, 3).astype(jnp.float32) / 255.0
        if torso is not None:
            condition = pose_vector(scene_pose(inputs["torso_camera"])) if "torso_camera" in inputs else inputs["jaw"]
            head_rgba = jnp.concatenate([rgb, alpha], axis=-1) if torso.head_aware else None
            behind_head, _ = render_torso(torso, nested("torso", weights), condition, behind_head, size=(side, side), head=head_rgba)
        picture = rgb + (1.0 - alpha) * behind_head
        if renderer.super_resolver is not None:
            picture = renderer.super_resolver(picture)
        return jnp.round(jnp.clip(picture, 0.0, 1.0) * 255.0).astype(jnp.uint8).reshape(subject.size, subject.size, 3)

    return RenderStep(step, weights, inputs)


def flat(prefix: str, tree: Tree) -> dict[str, np.ndarray]:
    """Nested dicts of arrays -> `prefix/module/.../array`."""
    found: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        found |= flat(f"{prefix}/{name}", value) if isinstance(value, Mapping) else {f"{prefix}/{name}": np.asarray(value)}
    return found


def nested(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flat`, for the names under one prefix."""
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


# -------- The export folder: weights, config, card and render step, in formats whose loading executes no code

FORMAT, FORMAT_VERSION = "geneface_jax.export", 1
WEIGHTS, STEP, STAGES = "render.safetensors", "render.jaxexport", "stages.safetensors"
END_THRESHOLD = 0.01
"""The default of `geneface infer --end-threshold`."""

ARRAYS = ("motion_mean", "motion_std", "mean_face", "cameras", "eye_openness")
"""Arrays of the dataset that another program needs to drive the face."""


def export_subject(
    subject_dir: str | os.PathLike,
    out: str | os.PathLike,
    *,
    platforms: Sequence[str] = PLATFORMS,
    end_threshold: float = END_THRESHOLD,
) -> Path:
    """Exports a person into a folder, which is returned, with the files

    - `render.safetensors`: weights of head and torso and the other constants of the render step, its first argument;
    - `render.jaxexport`: the render step, serialized by `jax.export`;
    - `stages.safetensors`: all trained state of every stage (`postnet/params/...`), and the dataset's arrays in `ARRAYS`;
    - `config.json`: sizes, inputs of the step, configs of the stages, sha256 of the files; `background.png`; `card.md`; `README.md`.

    Args:
      subject_dir: a subject folder with at least a head, or the name of a shipped person.
      out: the folder to make; an earlier export is replaced.
      platforms: platforms to lower the step for.
      end_threshold: transmittance that ends a ray; a constant of the step.

    Raises:
      InputError: no head, a vanilla NeRF (a frame needs more than one step), or an unknown platform.
    """
    require_output(out, folder=True, replaced=True)
    out = Path(out)
    if out.exists() and not (out / "config.json").is_file():
        raise InputError(f"{out} exists and is no earlier export: choose another --out, or remove it.")
    parts = find_parts(subject_dir, need_torso=False, need_speech=False)
    subject_dir = parts.folder
    renderer = open_renderer(parts)
    if not isinstance(renderer, SubjectRenderer):
        raise InputError(f"{subject_dir} holds {parts}, but only head and head_sr can be exported: render with `geneface infer` instead.")
    step = make_render_step(renderer, end_threshold)

    def fill(folder: Path) -> None:
        write_safetensors(folder / WEIGHTS, step.weights)
        (folder / STEP).write_bytes(step.serialize(platforms))
        arrays = {f"dataset/{name}": np.asarray(getattr(renderer.subject, name)) for name in ARRAYS}
        records = {}
        for stage in parts.stages:
            checkpoint = checkpoints.load(subject_dir / stage, checkpoints.read_selected_step(subject_dir / stage))
            arrays |= flat(stage, checkpoint.state)
            config = checkpoints.without_folders(configs.to_json(checkpoint.config))
            records[stage] = {"step": checkpoint.step, "config": config}
        write_safetensors(folder / STAGES, arrays)
        shutil.copyfile(renderer.subject.folder / "background.png", folder / "background.png")
        card = subject_dir / "card.md"
        empty = f"# {renderer.subject.name}\n\nThe subject folder holds no card.\n"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else empty
        write_text(folder / "card.md", text)
        record = _record(renderer, step, platforms, end_threshold, records)
        record["files"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
        write_text(folder / "README.md", readme(record))
        write_text(folder / "config.json", json.dumps(record, indent=1) + "\n")

    return write_folder(out, fill)


def _record(renderer: SubjectRenderer, step: RenderStep, platforms: Sequence[str], end_threshold: float, stages: dict) -> dict[str, Any]:
    subject = renderer.subject
    inputs = {
        name: {"shape": list(shape.shape), "dtype": np.dtype(shape.dtype).name, "meaning": meaning}
        for name, (shape, meaning) in step.inputs.items()
    }
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": subject.name,
        "size": subject.size,
        "fps": subject.fps,
        "n_train": subject.n_train,
        "intrinsics": subject.intrinsics._asdict(),
        "face_model": subject.face_model,
        "audio_model": subject.audio_model,
        "render_step": {
            "file": STEP,
            "weights": WEIGHTS,
            "inputs": inputs,
            "output": {"shape": [subject.size, subject.size, 3], "dtype": "uint8"},
            "end_threshold": end_threshold,
            "platforms": list(platforms),
            "jax": jax.__version__,
        },
        "stages": stages,
    }
