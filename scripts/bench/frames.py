"""Times complete frames of the head at the released sizes; writes JSON.

    python scripts/bench/frames.py [--json FILE] [--precision float32] [--scale 8]

Two configurations with random weights and an ellipsoid of occupied cells, which 40 % of the rays hit; 6 samples per ray on average over all
rays (15 per hitting ray). Everything runs in one jitted call with a static sample budget; video encoding is not included:

- GeneFace++'s super-resolution configuration: batches of eight 256x256 frames, then super-resolution to 512x512;
- the direct configuration: 512x512 rays per frame.

Without a GPU, frames and super-resolution network are reduced by --scale (default 8) on both sides, which the result notes: such a run
tests the code, not its speed. On a GPU the default --scale is 1.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from geneface_kernels.frame_rendering import count_samples, sufficient_budget  # noqa: E402

from data_tools.io import write_json  # noqa: E402
from geneface_jax.io import configs  # noqa: E402
from geneface_jax.models.head import Head  # noqa: E402
from geneface_jax.models.super_resolution import SuperResolution  # noqa: E402
from geneface_jax.rendering.field import MarchSettings, render_rays  # noqa: E402
from scripts.bench.kernels import ceilings  # noqa: E402
from scripts.bench.kernels.cases import MARCH, ellipsoid, frame_rays  # noqa: E402

END_THRESHOLD = 1e-2
"""`geneface infer`'s default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument(
        "--precision", default="default", help="jax_default_matmul_precision: default, float32 or bfloat16 (default %(default)s)"
    )
    parser.add_argument("--scale", type=int, help="reduction of the frame size (default: 8 without a GPU, 1 with one)")
    parser.add_argument("--repeats", type=int, default=10, help="timed batches (default %(default)s)")
    args = parser.parse_args()
    device = jax.devices()[0]
    on_cpu = device.platform == "cpu"
    scale = args.scale or (8 if on_cpu else 1)
    result = {
        "device": f"{platform.machine()}, {os.cpu_count()} CPU cores" if on_cpu else device.device_kind,
        "jax": jax.__version__,
        "precision": args.precision,
        "scale": scale,
    }
    if on_cpu:
        result["note"] = (
            f"no GPU: frames of 1/{scale} the side, to test the code; on a GPU this measures 8 x 256x256 -> 512x512 and 512x512"
        )
    with jax.default_matmul_precision(None if args.precision == "default" else args.precision):
        result["sr_256_to_512"] = measure(256 // scale, 8, args.repeats, enlarge=True)
        result["direct_512"] = measure(512 // scale, 1 if on_cpu else 4, args.repeats, enlarge=False)
    print(json.dumps(result, indent=2))
    if args.json:
        write_json(args.json, result)


def measure(size: int, frames: int, repeats: int, *, enlarge: bool) -> dict:
    """Frames per second of batches of `frames` frames of `size` x `size` rays; `enlarge` adds super-resolution."""
    config = configs.from_file("head:reference")
    config.model.update({"codes": 1})
    if enlarge:
        # GeneFace++'s three ambient coordinates.
        config.model.ambient_grid.dims = 3
    head, settings = Head.from_config(config.model), MarchSettings.from_config(config.march)
    rays = [jnp.asarray(a) for a in frame_rays(frames, size)]
    occupied = jnp.asarray(ellipsoid())
    n_samples = int(jax.jit(lambda o, d, g: count_samples(o, d, g, MARCH))(*rays, occupied))
    budget = sufficient_budget(n_samples)
    windows, eyes = jnp.zeros((frames, config.model.condition_window, 204)), jnp.zeros(frames)
    params = head.init(jax.random.key(0), windows[:1], eyes[:1], jnp.zeros((8, 3)), method=Head.initialize)
    network = SuperResolution(size)
    sr_params = jax.jit(network.init)(jax.random.key(1), jnp.zeros((1, size, size, 3)))

    @jax.jit
    def render(params, sr_params, rays_o, rays_d):
        condition = head.apply(params, windows, eyes, method=Head.condition)
        code = head.apply(params, jnp.zeros(frames, jnp.int32), method=Head.code)

        def field(points, directions, frame):
            return head.apply(params, points, directions, condition, code, frame)

        out = render_rays(field, rays_o, rays_d, occupied, settings, END_THRESHOLD, budget=budget)
        image = (out.rgb + (1.0 - out.alpha[..., None])).reshape(frames, size, size, 3)
        if enlarge:
            image = network.apply(sr_params, image)
        return jnp.round(jnp.clip(image, 0.0, 1.0) * 255.0).astype(jnp.uint8), out.dropped

    seconds = ceilings.seconds(lambda: render(params, sr_params, *rays), repeats)
    dropped = int(render(params, sr_params, *rays)[1])
    best = min(seconds)
    return {
        "rays": f"{frames} x {size}x{size}",
        "samples_per_ray": round(n_samples / (frames * size * size), 2),
        "budget": budget,
        "dropped": dropped,
        "ms_per_batch": round(1e3 * best, 2),
        "frames_per_s": round(frames / best, 2),
        "repeats": repeats,
    }


if __name__ == "__main__":
    main()
