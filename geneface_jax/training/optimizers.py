"""Optimizers of all stages, the moving average of parameters (EMA), frozen parameters, norms in the metrics."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import checkpoints
from geneface_jax.training.stage import Phase

# -------- Exponential moving average (EMA) of parameters
#
# The state's `params` are the average, so every reader of a checkpoint gets it. The optimizer's state holds the difference of the trained
# iterate from it; a release drops the optimizer's state, and a warm start from it begins with a difference of zero.


class AveragedState(NamedTuple):
    """State of the inner optimizer, iterate minus average, updates so far ([] int32)."""

    inner: Any
    ahead: Any
    count: jax.Array  # type: ignore[assignment]  # the field hides tuple.count; the name is part of saved states


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Wraps an optimizer: it updates `iterate(params, state)`, and `params` follow as its exponential moving average.

    Gradients must be taken at `iterate(params, state)`. The decay of update n is min(decay, n / (n + 9)), so that the initial parameters
    do not dominate a short run. `decay` is in [0, 1); 0 returns the optimizer unchanged.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"the decay of an average must be in [0, 1), not {decay}")
    if decay == 0.0:
        return optimizer

    def init(params: Any) -> AveragedState:
        return AveragedState(optimizer.init(params), jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

    def update(grads: Any, state: AveragedState, params: Any = None) -> tuple[Any, AveragedState]:
        if params is None:
            raise ValueError("an averaged optimizer needs the parameters")
        steps, inner = optimizer.update(grads, state.inner, iterate(params, state))
        count = state.count + 1
        share = jnp.minimum(decay, (count - 1) / (count + 8))
        gap = jax.tree.map(lambda ahead, step: ahead + step, state.ahead, steps)
        ahead = jax.tree.map(lambda g: share.astype(g.dtype) * g, gap)
        return jax.tree.map(lambda g, a: g - a, gap, ahead), AveragedState(inner, ahead, count)

    return optax.GradientTransformation(init, update)


def iterate(params: Any, opt_state: Any) -> Any:
    """The parameters to take gradients at: the trained iterate if `params` are its average, else `params` themselves."""
    if not isinstance(opt_state, AveragedState):
        return params
    return jax.tree.map(jnp.add, params, opt_state.ahead)


# -------- Radiance fields: Adam with a rate per kind of parameter and exponential decay (RAD-NeRF's recipe)


def _scale_by_path(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the update of a parameter by the first entry of `multipliers` whose key its path contains."""

    def update(updates, state, params=None):
        del params

        def scaled(path, u):
            name = jax.tree_util.keystr(path)
            return u * next((factor for key, factor in multipliers.items() if key in name), 1.0)

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def field_optimizer(optimizer: ConfigDict, steps: int, rates: Mapping[str, float] | None = None) -> optax.GradientTransformation:
    """Adam (eps 1e-15: grid gradients are tiny) with rates per kind of parameter, optionally averaged.

    The rate at a step is lr * final_factor ** (step / steps): the original's 0.1 ** (n / 250000) for any length of training.

    Args:
      optimizer: `lr`, `final_factor`, `multipliers` (part of a parameter's path -> factor), optionally `ema` (see `averaged`, which says
        where gradients must then be taken).
      steps: length of the training run.
      rates: part of a parameter's path -> its initial learning rate, instead of `lr` times a factor.
    """
    multipliers: dict[str, Any] = {key: rate / optimizer.lr for key, rate in (rates or {}).items()}
    multipliers |= dict(optimizer.multipliers)
    adam = optax.chain(
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15),
        _scale_by_path(multipliers),
        optax.scale_by_learning_rate(optax.exponential_decay(optimizer.lr, transition_steps=steps, decay_rate=optimizer.final_factor)),
    )
    return averaged(adam, optimizer.get("ema", 0.0))


# -------- Vanilla NeRF: Adam with exponential decay and a larger rate for the attention network


def nerf_optimizer(optimizer: ConfigDict, attention_from: int = 0) -> optax.GradientTransformation:
    """Adam whose rate falls to a tenth every `tenth_after` steps.

    Args:
      optimizer: `lr`, `tenth_after` (steps), `attention` (factor of the attention's rate), `eps`.
      attention_from: the step from which the attention is used. Until then its Adam moments and step count are not updated, as in the
        original, where a parameter without a gradient has no optimizer state.
    """

    def adam() -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=0.9, b2=0.999, eps=optimizer.eps)

    attention = optax.chain(adam(), optax.scale(optimizer.attention))
    if attention_from:
        attention = optax.conditionally_mask(attention, lambda step: step >= attention_from)

    def kinds(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "attention" if "attention" in jax.tree_util.keystr(path) else "rest", params
        )

    rate = optax.exponential_decay(optimizer.lr, transition_steps=optimizer.tenth_after, decay_rate=0.1)
    return optax.chain(optax.partition({"attention": attention, "rest": adam()}, kinds), optax.scale_by_learning_rate(rate))


# -------- Speech-to-motion stages: Adam and RMSprop with PyTorch's update rules and schedules

DECAY_STEPS = 250_000
"""Updates in which GeneFace's exponential schedule divides the rate by ten."""

LOWEST_RATE = 1e-7


def learning_rate(config: ConfigDict, steps: int) -> Callable[[jax.Array], jax.Array]:
    """Schedule of an optimizer config {lr, schedule, warmup}.

    `schedule`: "constant"; "cosine" (to zero at `steps`); "exponential" (a tenth every 250,000 updates). All rise linearly over the
    first `warmup` updates. Update n uses the value at max(n - 1, 0): PyTorch's loop steps the schedule after the update.
    """
    shapes = {
        "constant": lambda n: jnp.ones_like(n, jnp.float32),
        "cosine": lambda n: 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(n / steps, 1.0))),
        "exponential": lambda n: 0.1 ** (n / DECAY_STEPS),
    }
    if config.schedule not in shapes:
        raise ValueError(f"optimizer.schedule must be one of {', '.join(shapes)}, not {config.schedule!r}")
    shape, warmup = shapes[config.schedule], config.warmup

    def rate(count: jax.Array) -> jax.Array:
        n = jnp.maximum(count - 1, 0)
        rise = jnp.minimum(n / warmup, 1.0) if warmup else 1.0
        return jnp.maximum(config.lr * rise * shape(n), LOWEST_RATE)

    return rate


def warm_up(prefix: str, config: ConfigDict, steps: int) -> list[Phase]:
    """The phase after the warm-up of an optimizer config (key `<prefix>warmup`) that makes `steps` updates; none without a warm-up."""
    reached = config.warmup + 1  # see `learning_rate`
    return (
        [Phase(f"{prefix}warmup", config.warmup, reached, steps, steps // 20, "update at the full learning rate")] if config.warmup else []
    )


def adam(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Adam (0.9, 0.999, 1e-8) after clipping the global gradient norm at `config.clip`."""
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(learning_rate(config, steps)))


def rmsprop(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """PyTorch's RMSprop (alpha 0.99, eps 1e-8 outside the root) after clipping the global gradient norm at `config.clip`."""
    rule = optax.rmsprop(learning_rate(config, steps), decay=0.99, eps=1e-8, eps_in_sqrt=False)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule)


# -------- Frozen parameters


def freeze_params(train_step: Callable[..., Any], patterns: Sequence[str]) -> Callable[..., Any]:
    """Wraps a stage's `train_step`: parameters that match a pattern are not changed by updates, whatever the optimizer.

    Neither are their arrays in the optimizer's state (moments, EMA difference), found by names that end as the parameters' names do.
    `patterns` are shell patterns on names such as `params/position_encoder/table`; one that matches none raises InputError when the
    step is traced.
    """
    if not patterns:
        return train_step

    def step_fn(state: Any, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        names = _frozen_names(state, patterns)
        after, metrics = train_step(state, data, batch, rng, step)
        keep = lambda path, old, new: old if checkpoints.path_name(path) in names else new  # noqa: E731
        return jax.tree_util.tree_map_with_path(keep, state, after), metrics

    return step_fn


def _frozen_names(state: Any, patterns: Sequence[str]) -> set[str]:
    """Names of the parameters that match a pattern, and of their arrays in the optimizer's state. Raises as `freeze_params`."""
    params = [name for name in checkpoints.named(state) if name.startswith("params/")]
    for pattern in patterns:
        if not fnmatch.filter(params, pattern):
            raise InputError(
                f"config.train.freeze has {pattern!r}, which matches no parameter: correct it; there are {', '.join(params[:5])}, …"
            )
    frozen = {name for pattern in patterns for name in fnmatch.filter(params, pattern)}
    endings = tuple("/" + name.removeprefix("params/") for name in frozen)
    return frozen | {name for name in checkpoints.named(state) if name.startswith("opt_state/") and name.endswith(endings)}


# -------- Norms of parameters and updates: their ratio is the first sign of a learning rate that is too high


def log_norms(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a stage's `train_step`: its metrics gain `param_norm` and `update_norm`, Euclidean, over the collection `params`.

    The norms of the gradients are reported by the stages (`grad_norm`), as only a stage has its gradients.
    """

    def step_fn(state: Any, data: Any, batch: Any, rng: jax.Array, step: jax.Array) -> tuple[Any, Any]:
        before = state["params"]
        state, metrics = train_step(state, data, batch, rng, step)
        change = jax.tree.map(lambda new, old: new - old, state["params"], before)
        return state, {**metrics, "param_norm": optax.tree.norm(state["params"]), "update_norm": optax.tree.norm(change)}

    return step_fn
