"""A small audio2motion VAE with random weights, for tests of the networks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from geneface_jax.models.audio2motion import Audio2Motion

SIZES = {"condition": 8, "hidden": 8, "encoder_layers": 2, "decoder_layers": 2, "flow_blocks": 2, "flow_hidden": 8, "flow_layers": 1}


def noisy(tree: Any, key: int = 0, scale: float = 0.2) -> Any:
    """Adds noise to all parameters: a flow is initialized as the identity, a PostNet to a zero residual."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(key), len(leaves))
    return structure.unflatten([leaf + scale * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)])


def small_vae() -> tuple[Audio2Motion, dict[str, Any]]:
    """(network, variables) for audio of 5 channels."""
    network = Audio2Motion(**SIZES)
    inputs = (jnp.zeros((1, 8, 204)), jnp.ones((1, 8)), jnp.zeros((1, 16, 5)), jnp.zeros((1, 2, 16)))
    variables = network.init(jax.random.key(0), *inputs)
    return network, {**variables, "params": noisy(variables["params"])}
