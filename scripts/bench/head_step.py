"""Times one complete training step of the head against the same step in plain PyTorch, in one run; writes JSON.

    python scripts/bench/head_step.py [--variant demo] [--json docs/figures/head_step.json] [--turns 2]

A step: camera rays, ray marching through a shell of occupied cells, field, compositing, losses, gradients, Adam; the density of all cells
is evaluated every 16 steps, as in training. Both implementations take turns on the same rays. The PyTorch one is
scripts/bench/torch_head.py: idiomatic PyTorch (vectorized, autograd, no custom kernel). Needs torch (pip install torch==2.13.0). Set
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 to run both with the huge pages that `geneface train` switches on.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "scripts" / "bench")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from geneface_kernels.occupancy import cell_centers  # noqa: E402

from data_tools.io import write_json  # noqa: E402
from geneface_jax.io import configs  # noqa: E402
from geneface_jax.models.head import Head  # noqa: E402
from geneface_jax.rendering.field import MarchSettings, render_groups  # noqa: E402
from geneface_jax.training.devices import masked_mean  # noqa: E402
from geneface_jax.training.field_losses import ambient_outside_face, opacity_entropy  # noqa: E402
from geneface_jax.training.optimizers import field_optimizer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="demo", choices=["demo", "reference"])
    parser.add_argument("--groups", type=int, help="frames per step (default: the config's)")
    parser.add_argument("--rays", type=int, help="rays per frame (default: the config's)")
    parser.add_argument("--turns", type=int, default=2, help="timed turns of 16 steps each, after the compiling step (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    config = configs.from_file(f"head:{args.variant}")
    config.data.update({key: value for key in ("groups", "rays") if (value := getattr(args, key))})
    config.model.codes = config.data.groups
    batch = scene(config)
    ours = JaxSteps(config, batch)
    import torch_head

    params = jax.tree.map(np.asarray, ours.params)
    theirs = torch_head.steps(config, batch, params)
    losses = {"jax": [next(ours)], "torch": [next(theirs)]}
    seconds: dict[str, list[float]] = {"jax": [], "torch": []}
    # Turns have 16 steps, with one grid update: with shorter turns the other library's threads would still be spinning.
    for _ in range(args.turns):
        for name, side in (("jax", ours), ("torch", theirs)):
            time.sleep(0.5)
            for _ in range(16):
                started = time.perf_counter()
                losses[name].append(next(side))
                seconds[name].append(time.perf_counter() - started)
    mean = {name: float(np.mean(values)) for name, values in seconds.items()}
    device = jax.devices()[0]
    result = {
        "device": device.device_kind if device.platform != "cpu" else f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "config": f"configs/head.py:{args.variant}, {config.data.groups} x {config.data.rays} rays",
        "steps": 16 * args.turns,
        "samples_per_ray": round(ours.samples / batch["noise"].size, 2),
        "huge_pages": "hugetlb" in os.environ.get("GLIBC_TUNABLES", ""),
        "jax_ms": round(1e3 * mean["jax"], 1),
        "torch_ms": round(1e3 * mean["torch"], 1),
        "ratio": round(mean["jax"] / mean["torch"], 4),
        "first_losses": {name: [float(f"{loss:.6g}") for loss in values[:3]] for name, values in losses.items()},
    }
    print(json.dumps(result, indent=2))
    if args.json:
        write_json(args.json, result)


def scene(config) -> dict[str, np.ndarray]:
    """Rays of pinhole cameras in front of an ellipsoidal shell of occupied cells, and random targets."""
    rng = np.random.default_rng(0)
    groups, rays, resolution = config.data.groups, config.data.rays, config.march.grid_resolution
    pixels = rng.uniform(-0.28, 0.28, (groups, rays, 2))
    directions = np.stack([pixels[..., 0], -np.ones((groups, rays)), pixels[..., 1]], axis=-1)
    center = (np.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    x, y, z = np.meshgrid(center, center, center, indexing="ij")
    return {
        "rays_o": np.broadcast_to(np.array([0.0, 2.4, 0.0], np.float32), (groups, rays, 3)).copy(),
        "rays_d": (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32),
        "noise": rng.random((groups, rays), np.float32),
        "target": rng.random((groups, rays, 3), np.float32),
        "background": rng.random((groups, rays, 3), np.float32),
        "in_face": (rng.random((groups, rays)) < 0.5).astype(np.float32),
        "window": rng.normal(size=(groups, config.model.condition_window, 204)).astype(np.float32),
        "eyes": rng.random(groups, np.float32),
        # Thickness chosen for 7 to 8 samples per ray on average, as in training on real clips.
        "occupied": ((x / 0.62) ** 2 + (y / 0.42) ** 2 + (z / 0.55) ** 2 <= 1.0) & ((x / 0.5) ** 2 + (y / 0.2) ** 2 + (z / 0.4) ** 2 > 0.6),
    }


class JaxSteps:
    """Iterator over the library's training steps; yields the loss of each."""

    def __init__(self, config, batch):
        self.model, self.config = Head.from_config(config.model), config
        self.batch = {key: jnp.asarray(value) for key, value in batch.items()}
        window, eyes = self.batch["window"], self.batch["eyes"]
        self.params = self.model.init(jax.random.key(0), window[:1], eyes[:1], jnp.zeros((8, 3)), method=Head.initialize)["params"]
        self.optimizer = field_optimizer(config.optimizer, config.train.steps)
        self.opt_state = self.optimizer.init(self.params)
        self.count = 0
        march = MarchSettings.from_config(config.march)
        self._step = jax.jit(lambda params, state: self._update(params, state, march), donate_argnums=(0, 1))
        self._grid = jax.jit(self._density_of_all_cells)

    def __iter__(self):
        return self

    def __next__(self) -> float:
        if self.count % self.config.march.update_every == 0:
            jax.block_until_ready(self._grid(self.params))
        self.params, self.opt_state, loss, samples = self._step(self.params, self.opt_state)
        self.count, self.samples = self.count + 1, int(samples)
        return float(loss)

    def _update(self, params, opt_state, march):
        b = self.batch
        frames = jnp.arange(b["eyes"].shape[0])

        def loss(params):
            variables = {"params": params}
            condition = self.model.apply(variables, b["window"], b["eyes"], method=Head.condition)
            code = self.model.apply(variables, frames, method=Head.code)

            def field(x, d, group):
                return self.model.apply(variables, x, d, condition, code, group)

            out = render_groups(field, b["rays_o"], b["rays_d"], b["noise"], b["occupied"], march)
            composite, complete = out.composite, out.complete.astype(jnp.float32)
            transmittance = 1.0 - composite.alpha.reshape(b["in_face"].shape)
            rgb = composite.rgb.reshape(b["target"].shape) + transmittance[..., None] * b["background"]
            mse = masked_mean(jnp.mean((rgb - b["target"]) ** 2, axis=-1).reshape(-1), complete)
            entropy = masked_mean(opacity_entropy(composite.alpha), complete)
            ambient = masked_mean(ambient_outside_face(composite.ambient, b["in_face"].reshape(-1)), complete)
            return mse + self.config.loss.entropy * entropy + self.config.loss.ambient * ambient, out.samples

        (value, samples), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = self.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value, samples

    def _density_of_all_cells(self, params):
        condition = self.model.apply({"params": params}, self.batch["window"][:1], self.batch["eyes"][:1], method=Head.condition)
        centers = cell_centers(self.config.march.grid_resolution, self.config.model.bound)
        blocks = centers.reshape(-1, 4 * self.config.march.grid_resolution**2, 3)
        return jax.lax.map(lambda x: self.model.apply({"params": params}, x, condition, method=Head.density)[0], blocks)


if __name__ == "__main__":
    main()
