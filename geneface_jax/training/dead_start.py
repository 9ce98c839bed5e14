"""Noticing that a network has begun dead, so that it can be begun anew.

A vanilla NeRF whose densities all start below zero shows the bare background, and its ReLU passes no gradient that would change that: the
loss stands still for ever. Everything here is a pure function of the state, so that a resumed run takes the same decisions.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

ALIVE_BELOW = 0.5
"""A loss below this share of what showing nothing costs is no dead start, however little it fell: a run that begins with the parameters of
another one has little left to fall."""

Start = dict[str, jax.Array]
"""`attempt`: how many starts were given up; `began`: the step this one began at; `first`, `last` [P]: sums of the losses of its first and
last steps; `nothing` [P]: sum over the last steps of what showing nothing costs."""


@dataclasses.dataclass(frozen=True)
class StartRule:
    """When a start counts as dead.

    Attributes:
      steps: length of a start; 0 gives none up.
      fall: share by which the loss must have fallen by then.
      retries: how many starts may be given up.
    """

    steps: int
    fall: float
    retries: int

    @property
    def window(self) -> int:
        """Steps over which the first and the last loss are averaged."""
        return max(1, self.steps // 20)


def first_start(passes: int) -> Start:
    """The state of a run that begins; P = `passes` losses are watched, and one that stands still is enough."""
    return {"attempt": jnp.int32(0), "began": jnp.int32(0), **{name: jnp.zeros(passes) for name in ("first", "last", "nothing")}}


def observe(rule: StartRule, start: Start, step: jax.Array, losses: jax.Array, nothing: jax.Array) -> tuple[Start, jax.Array, jax.Array]:
    """Takes note of a step's losses.

    Args:
      rule: see `StartRule`.
      start: the state before the step.
      step: [] number of the step, counted from 0.
      losses: [P] of the step, one for each network that may have begun dead.
      nothing: [P] what they would be if nothing were shown but the background.

    Returns:
      (start after the step, again, hopeless): two [] bools, of which at most one is true, and only at the end of a start: whether the
      network is to be begun anew (the start returned is already the new one's), and whether that was the last attempt.
    """
    if rule.steps == 0:
        return start, jnp.bool_(False), jnp.bool_(False)
    age = step - start["began"]
    at_end = (age >= rule.steps - rule.window) & (age < rule.steps)
    seen = {
        **start,
        "first": start["first"] + jnp.where(age < rule.window, losses, 0.0),
        "last": start["last"] + jnp.where(at_end, losses, 0.0),
        "nothing": start["nothing"] + jnp.where(at_end, nothing, 0.0),
    }
    stands_still = (seen["last"] > (1.0 - rule.fall) * seen["first"]) & (seen["last"] > ALIVE_BELOW * seen["nothing"])
    dead = jnp.any(stands_still) & (age == rule.steps - 1)
    again = dead & (start["attempt"] < rule.retries)
    fresh = {**first_start(len(losses)), "attempt": start["attempt"] + 1, "began": jnp.asarray(step + 1, jnp.int32)}
    after = jax.tree.map(lambda new, old: jnp.where(again, new, old), fresh, seen)
    return after, again, dead & ~again


def begun_anew(rule: StartRule, attempt: int) -> str:
    """What to tell the user when a start was given up; `attempt` counts those that were."""
    return (
        f"the loss did not fall by {rule.fall:.0%} within {rule.steps} steps, a dead start: begun anew with other first parameters "
        f"(start {attempt + 1} of at most {rule.retries + 1})"
    )


def given_up(rule: StartRule) -> str:
    """What to tell the user when the last start was dead too."""
    return (
        f"{rule.retries + 1} starts in a row did not learn: the loss never fell by {rule.fall:.0%} within {rule.steps} steps; begin with "
        "--config.model.density_start=1, look at the dataset's report.html (masks, cameras), or train on regardless with "
        "--config.restart.steps=0."
    )
