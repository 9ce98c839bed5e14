"""A frame of the imported head against the original's render."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from geneface_kernels.bit_grid import from_morton_order, unpack_bits

from configs.head import get_config
from geneface_jax.convert import radnerf
from geneface_jax.models.build import build_head
from geneface_jax.rendering.frame import render_rays
from geneface_jax.rendering.settings import MarchSettings
from tests.parity.vectors import needs_vectors, read

pytestmark = needs_vectors


def test_render_per_ray():
    """64 samples a ray: the budget of the original's schedule is never reached, so a ray's colour is its own there too."""
    weights, io = read("v1_radnerf_head/weights"), read("v1_radnerf_head/io")
    variables = jax.tree.map(jnp.asarray, radnerf.head(weights))
    config = get_config("reference")
    config.model.update({"codes": 13000, "blink_channels": 0})
    config.march.max_samples = 64
    head, march = build_head(config.model), config.march
    settings = MarchSettings.from_config(march)
    bits = unpack_bits(jnp.asarray(weights["density_bitfield"])).reshape(1, -1)
    occupied = np.asarray(from_morton_order(bits))[0]
    condition = jnp.asarray(io["cond_feat"])[None]

    def field(x, d, frame):
        del frame
        return head.apply(variables, x, d, condition, variables["params"]["frame_codes"][:1])

    out = render_rays(field, jnp.asarray(io["rays_o"][0]), jnp.asarray(io["rays_d"][0]), jnp.asarray(occupied), settings, 1e-4)
    stable = io["render_ms64_stable"].astype(bool)
    rgb = np.clip(np.asarray(out.rgb) + (1.0 - np.asarray(out.alpha))[:, None] * io["in_bg_color"][0], 0.0, 1.0)
    error = np.abs(rgb - io["render_ms64_rgb"][0])[stable]
    assert stable.mean() > 0.9
    assert error.max() < 1e-3 and np.median(error) < 1e-4
    near, far = io["nears"], io["fars"]
    hit = stable & (near < 1e30)
    # Their depth is at the end of each step, in units of the chord through the box. They add steps up where we multiply: the last bits of
    # a position move the density of the finest levels, and depth carries that times the distance.
    depth = np.maximum(np.asarray(out.depth + out.alpha * march.step) - near, 0.0)[hit] / (far - near)[hit]
    error = np.abs(depth - io["render_ms64_depth"][0][hit])
    assert error.max() < 5e-3 and np.median(error) < 1e-4
