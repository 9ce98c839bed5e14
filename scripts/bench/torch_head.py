"""The head's training step in plain PyTorch for scripts/bench/head_step.py: same math and initial weights, autograd, no custom kernel."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from geneface_jax.models.head import SLOPE
from geneface_jax.models.layers import grid_spec
from geneface_jax.rendering.field import MarchSettings
from scripts.bench.kernels.cases import torch_encode


def steps(config, batch: dict[str, np.ndarray], params) -> Iterator[float]:
    """Yields the loss of successive training steps.

    Args:
      config: a head config.
      batch: from `head_step.scene`.
      params: the library's initial parameters, which both implementations start from.
    """
    torch.manual_seed(0)
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    weights = {path: torch.from_numpy(np.array(value)).requires_grad_() for path, value in _flatten(params)}
    rates = config.optimizer.multipliers
    rate = {path: config.optimizer.lr * next((f for key, f in rates.items() if key in path), 1.0) for path in weights}
    groups = [{"params": [w], "lr": rate[path]} for path, w in weights.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-15)
    march = MarchSettings.from_config(config.march)
    field = Field(config, weights)
    cells = _cell_centers(config.march.grid_resolution)
    for count in range(1_000_000):
        if count % config.march.update_every == 0:
            with torch.no_grad():
                condition = field.condition(tensors["window"][:1], tensors["eyes"][:1])
                for block in cells.split(4 * config.march.grid_resolution**2):
                    field.density(block, condition, torch.zeros(len(block), dtype=torch.long))
        optimizer.zero_grad()
        loss = _loss(config, march, field, tensors)
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


def _flatten(tree, prefix: str = "") -> list[tuple[str, np.ndarray]]:
    rows = []
    for key, value in tree.items():
        rows += _flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


def _cell_centers(resolution: int) -> torch.Tensor:
    axis = (torch.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)


class Field:
    """The head network with the library's parameters."""

    def __init__(self, config, weights: dict[str, torch.Tensor]):
        self.weights = weights
        self.position_grid, self.ambient_grid = grid_spec(config.model.position_grid), grid_spec(config.model.ambient_grid)

    def _dense(self, x: torch.Tensor, name: str) -> torch.Tensor:
        x = x @ self.weights[f"{name}/kernel"]
        return x + self.weights[f"{name}/bias"] if f"{name}/bias" in self.weights else x

    def _mlp(self, x: torch.Tensor, name: str, layers: int) -> torch.Tensor:
        for i in range(layers):
            x = self._dense(x if i == 0 else torch.relu(x), f"{name}/dense_{i}")
        return x

    def condition(self, window: torch.Tensor, eyes: torch.Tensor) -> torch.Tensor:
        x = window
        for name in ("conv_0", "conv_1", "conv_2", "conv_3", "fc_0"):
            x = F.leaky_relu(self._dense(x, f"condition_encoder/frame_encoder/{name}"), SLOPE)
        x = self._dense(x, "condition_encoder/frame_encoder/fc_1")
        blink = self._dense(self.weights["condition_encoder/blink_embedding"] * eyes[:, None], "condition_encoder/blink_0")
        blink = self._dense(blink, "condition_encoder/blink_1")
        x = torch.cat([x[..., : blink.shape[-1]] + blink[:, None], x[..., blink.shape[-1] :]], dim=-1)
        y = x.transpose(1, 2)
        for i in range(5):
            layer = f"condition_encoder/attention/conv_{i}"
            y = F.leaky_relu(F.conv1d(y, self.weights[f"{layer}/kernel"].permute(2, 1, 0), self.weights[f"{layer}/bias"], padding=1), SLOPE)
        share = torch.softmax(self._dense(y[:, 0], "condition_encoder/attention/dense"), dim=-1)
        return torch.einsum("bw,bwc->bc", share, x)

    def density(self, x: torch.Tensor, condition: torch.Tensor, group: torch.Tensor):
        position = torch_encode((x + 1.0) / 2.0, self.weights["position_encoder/table"], self.position_grid)
        ambient = torch.tanh(self._mlp(torch.cat([position, condition[group]], dim=-1), "ambient_net", 3))
        encoded = torch_encode((ambient + 1.0) / 2.0, self.weights["ambient_encoder/table"], self.ambient_grid)
        h = self._mlp(torch.cat([position, encoded], dim=-1), "sigma_net", 3)
        return torch.exp(h[:, 0]), h[:, 1:], ambient

    def __call__(self, x, d, condition, code, group):
        sigma, geometry, ambient = self.density(x, condition, group)
        rgb = torch.sigmoid(self._mlp(torch.cat([_harmonics(d), geometry, code[group]], dim=-1), "color_net", 2))
        return sigma, rgb, ambient


def _harmonics(d: torch.Tensor) -> torch.Tensor:
    x, y, z = d.unbind(-1)
    x2, y2, z2 = x * x, y * y, z * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            *(-0.48860251 * y, 0.48860251 * z, -0.48860251 * x),
            *(1.09254843 * x * y, -1.09254843 * y * z, 0.94617470 * z2 - 0.31539157, -1.09254843 * x * z, 0.54627422 * (x2 - y2)),
            *(0.59004359 * y * (y2 - 3 * x2), 2.89061144 * x * y * z, 0.45704580 * y * (1 - 5 * z2), 0.37317633 * z * (5 * z2 - 3)),
            *(0.45704580 * x * (1 - 5 * z2), 1.44530572 * z * (x2 - y2), 0.59004359 * x * (3 * y2 - x2)),
        ],
        dim=-1,
    )


def _loss(config, march: MarchSettings, field: Field, b: dict[str, torch.Tensor]) -> torch.Tensor:
    groups, rays = b["in_face"].shape
    o, d = b["rays_o"].reshape(-1, 3), b["rays_d"].reshape(-1, 3)
    near, far = _near_far(o, d, torch.tensor(march.aabb), march.min_near)
    step = march.lattice.step
    t = (near + b["noise"].reshape(-1) * step)[:, None] + torch.arange(march.lattice.points) * step
    inside = t < far[:, None]
    points = o[:, None] + d[:, None] * torch.where(inside, t, 0.0)[..., None]
    resolution = b["occupied"].shape[0]
    cell = (0.5 * (points + 1.0) * resolution).long().clamp(0, resolution - 1)
    hit = b["occupied"][cell[..., 0], cell[..., 1], cell[..., 2]] & inside
    hit &= torch.cumsum(hit, dim=1) <= march.max_samples
    ray, slot = torch.nonzero(hit, as_tuple=True)
    condition = field.condition(b["window"], b["eyes"])
    code = field.weights["frame_codes"]
    sigma, rgb, ambient = field(points[ray, slot].clamp(-1.0, 1.0), d[ray], condition, code, ray // rays)
    index = torch.cumsum(hit, dim=1)[ray, slot] - 1

    def slots(values: torch.Tensor) -> torch.Tensor:
        empty = torch.zeros(groups * rays, march.max_samples, *values.shape[1:])
        return empty.index_put((ray, index), values)

    optical = slots(sigma) * step
    transmittance = torch.exp(-(torch.cumsum(optical, dim=1) - optical))
    visited = transmittance.detach() >= 1e-4
    weight = torch.where(visited, transmittance * (1.0 - torch.exp(-optical)), 0.0)
    alpha = weight.sum(dim=1)
    ambient_sum = torch.where(visited, slots(ambient.abs().sum(dim=-1)), 0.0).sum(dim=1)
    image = (weight[..., None] * slots(rgb)).sum(dim=1) + (1.0 - alpha)[:, None] * b["background"].reshape(-1, 3)
    mse = ((image - b["target"].reshape(-1, 3)) ** 2).mean()
    a = alpha.clamp(1e-5, 1.0 - 1e-5)
    entropy = (-a * torch.log2(a) - (1.0 - a) * torch.log2(1.0 - a)).mean()
    outside = (ambient_sum * (1.0 - b["in_face"].reshape(-1))).mean()
    return mse + config.loss.entropy * entropy + config.loss.ambient * outside


def _near_far(o: torch.Tensor, d: torch.Tensor, aabb: torch.Tensor, min_near: float) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = (aabb[:3] - o) / d, (aabb[3:] - o) / d
    near, far = torch.minimum(a, b).amax(dim=-1), torch.maximum(a, b).amin(dim=-1)
    miss = near > far
    huge = torch.finfo(torch.float32).max
    return torch.where(miss, huge, near.clamp(min=min_near)), torch.where(miss, huge, far)
