"""The page that lies beside an export: how to call the render step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEMPLATE = '''# {name}: exported render step

One frame of {size}x{size} pixels per call; made by jax {jax} for {platforms}. `card.md` says who this is and what was agreed:
read it first, and label what you make as synthetic.

| input | shape | type | meaning |
|---|---|---|---|
{inputs}

Motion is ten times the displacement of 68 landmarks from `dataset/mean_face` (decimetres), flattened to 204. The windows of a clip are
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
    """Markdown from `config.json`'s record."""
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
