"""The render queue."""

import threading

import pytest

from geneface_jax.studio.render_queue import Cancelled, QueueFull, RenderQueue


def test_the_queue_runs_one_job_after_the_other_and_refuses_beyond_its_limit():
    queue = RenderQueue(max_waiting=1, cached_persons=1)
    first, second = queue.submit(), queue.submit()
    with pytest.raises(QueueFull, match="waiting already"):
        queue.submit()
    assert list(queue.wait(first)) == []
    waiting = queue.wait(second, every=0.01)
    assert next(waiting) == 1
    threading.Timer(0.05, queue.remove, [first]).start()
    assert all(ahead == 1 for ahead in waiting)
    third = queue.submit()
    third.cancelled.set()
    with pytest.raises(Cancelled):
        next(queue.wait(third))


def test_a_stalled_job_lends_its_turn_and_is_the_next_when_it_goes_on():
    queue = RenderQueue(max_waiting=2, cached_persons=1, max_stalled=1)
    first, second, third = queue.submit(), queue.submit(), queue.submit()
    queue.lend(first)
    assert list(queue.wait(second)) == []
    again = queue.wait(first, every=0.01)
    assert next(again) == 1 and next(queue.wait(third)) == 2, "before those who have not had their turn"
    queue.remove(second)
    assert list(again) == [] and next(queue.wait(third)) == 1
    # A stalled job is no waiting one; of too many, the one that has been stalled for longest is cancelled.
    queue.lend(first)
    queue.submit()
    queue.submit()
    queue.lend(third)
    assert first.cancelled.is_set() and not third.cancelled.is_set()
    with pytest.raises(Cancelled):
        next(queue.wait(first))
    queue.remove(first)
