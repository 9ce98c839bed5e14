"""Trains stages over 1, 2 and 8 devices of one process and writes what they did; run by test_devices_counts.py with eight host devices.

python tests/device_counts.py FOLDER OUT.json STAGE ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from geneface_jax.training import devices
from geneface_jax.training.optimizers import log_norms
from tests.tiny_stages import tiny_stage

STEPS = 20


def recorded(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, with its last gradients in its state."""

    def update(grads: Any, state: Any, params: Any = None) -> Any:
        updates, inner = optimizer.update(grads, state["inner"], params)
        return updates, {"inner": inner, "grads": grads}

    return optax.GradientTransformation(
        lambda params: {"inner": optimizer.init(params), "grads": jax.tree.map(jnp.zeros_like, params)}, update
    )


def run(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Losses of 20 steps, gradients of the first that has some for each network, and whether the devices agree."""
    with devices.limited(count):
        stage = tiny_stage(name, folder)
        if name == "postnet":
            stage.optimizers = {part: recorded(optimizer) for part, optimizer in stage.optimizers.items()}
        else:
            stage.optimizer = recorded(stage.optimizer)
        chex.clear_trace_counter()
        # One trace for the types of the first call; whatever comes later must find it.
        step_fn = devices.parallel_step(chex.assert_max_traces(log_norms(stage.train_step), n=1))
        state, data = devices.replicate(stage.init(jax.random.key(0))), devices.replicate(stage.data())
        seed, fold_in = devices.put_everywhere(jax.random.key(1)), jax.jit(jax.random.fold_in)
        history, grads = [], {}
        for step in range(STEPS):
            batch, number = devices.put(stage.host_batch(step)), devices.put_everywhere(np.int32(step))
            rng = fold_in(seed, number)
            with jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, data, batch, rng, number)
            history.append({tag: np.asarray(value) for tag, value in jax.device_get(metrics).items()})
            for part, opt_state in state["opt_state"].items() if name == "postnet" else [("all", state["opt_state"])]:
                found = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(opt_state["grads"]))]
                if part not in grads and max(np.abs(leaf).max() for leaf in found) > 0:
                    grads[part] = [leaf[0] for leaf in found]
        agree = all((np.asarray(leaf) == np.asarray(leaf)[:1]).all() for leaf in jax.tree.leaves(jax.device_get(state)))
        return {"history": [{tag: float(value[0]) for tag, value in row.items()} for row in history], "grads": grads, "agree": agree}


def compare(name: str, folder: Path) -> dict[str, Any]:
    """The largest differences of 2 and 8 devices from 1: of gradients in units of the largest, of metrics relative to the first value."""
    one = run(name, folder, 1)
    result: dict[str, Any] = {"agree": one["agree"]}
    for count in (2, 8):
        other = run(name, folder, count)
        result["agree"] &= other["agree"]
        assert one["grads"].keys() == other["grads"].keys()
        gaps = [
            max(np.abs(a - b).max() for a, b in zip(one["grads"][part], other["grads"][part], strict=True))
            / max(np.abs(a).max() for a in one["grads"][part])
            for part in one["grads"]
        ]
        losses = [tag for tag in one["history"][0] if "loss" in tag or "mse" in tag]

        def gap(step: int, other=other, losses=losses) -> float:
            pairs = [(one["history"][step][tag], other["history"][step][tag]) for tag in losses]
            return max(abs(a - b) / max(abs(a), 1e-6) for a, b in pairs)

        result[str(count)] = {"first_gradient": float(max(gaps)), "first_loss": gap(0), "later_losses": max(map(gap, range(STEPS)))}
    return result


if __name__ == "__main__":
    results = {name: compare(name, Path(sys.argv[1])) for name in sys.argv[3:]}
    Path(sys.argv[2]).write_text(json.dumps(results, indent=2))
