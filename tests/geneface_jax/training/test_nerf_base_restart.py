"""When a start is given up: a pure function of the losses."""

import functools

import jax
import numpy as np
import pytest

from geneface_jax.training.nerf_base import RestartRule, give_up_message, initial_restart_state, restart_message, update_restart

RULE = RestartRule(steps=40, fall=0.2, retries=2)


@functools.cache
def observing(rule):
    return jax.jit(functools.partial(update_restart, rule))


def run(losses, rule=RULE, nothing=1.0, start=None, first=0):
    """(state, steps at which it began again, steps at which it was hopeless)."""
    step_fn = observing(rule)
    losses = np.asarray(losses, np.float32).reshape(len(losses), -1)
    bare = np.full(losses.shape[1], nothing, np.float32)
    start, again, hopeless = start or initial_restart_state(len(bare)), [], []
    for step, loss in enumerate(losses, first):
        start, retry, end = step_fn(start, np.int32(step), loss, bare)
        again += [step] if retry else []
        hopeless += [step] if end else []
    return start, again, hopeless


def test_a_loss_that_falls_is_left_alone():
    state, again, hopeless = run(np.concatenate([np.linspace(1.0, 0.6, 40), np.full(60, 0.6)]))
    assert not again and not hopeless and int(state["attempt"]) == 0


def test_a_loss_that_stands_still_begins_again_and_at_last_is_hopeless():
    state, again, hopeless = run(np.ones(200))
    assert again == [39, 79] and hopeless == [119]
    assert int(state["attempt"]) == 2 and int(state["began"]) == 80


def test_noise_is_not_taken_for_learning():
    losses = 1.0 + 0.3 * np.random.default_rng(0).uniform(-1, 1, 60)
    assert run(losses)[1] == [39]


def test_a_start_that_works_at_last_is_kept():
    state, again, hopeless = run(np.concatenate([np.ones(40), np.linspace(1.0, 0.3, 40), np.full(60, 0.3)]))
    assert again == [39] and not hopeless and int(state["attempt"]) == 1


def test_one_pass_that_stands_still_is_enough():
    falls = np.concatenate([np.linspace(1.0, 0.3, 40), np.full(20, 0.3)])
    assert run(np.stack([falls, falls], axis=1))[1] == []
    assert run(np.stack([falls, np.ones(60)], axis=1))[1] == [39]


def test_only_the_start_is_watched():
    assert run(np.concatenate([np.linspace(1.0, 0.5, 40), np.ones(200)]))[1] == []


def test_a_run_that_begins_where_another_ended_has_nothing_to_fall():
    assert run(np.full(60, 0.1), nothing=1.0)[1] == []
    assert run(np.full(60, 0.1), nothing=0.1)[1] == [39]


def test_switched_off():
    assert run(np.ones(200), RestartRule(0, 0.2, 3))[1:] == ([], [])


@pytest.mark.parametrize("stop", [1, 20, 39, 40, 60])
def test_resuming_changes_nothing(stop):
    losses = 1.0 + 0.01 * np.arange(100) % 7
    whole = run(losses)
    before = run(losses[:stop])
    after = run(losses[stop:], start=before[0], first=stop)
    assert before[1] + after[1] == whole[1] and before[2] + after[2] == whole[2]
    jax.tree.map(np.testing.assert_array_equal, after[0], whole[0])


def test_sentences_name_what_happened_and_the_way_out():
    assert "start 2 of at most 3" in restart_message(RULE, 1) and "20%" in restart_message(RULE, 1)
    assert "3 starts" in give_up_message(RULE) and "--config.restart.steps=0" in give_up_message(RULE)
