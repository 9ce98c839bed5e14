"""The list of persons, and the render queue."""

import threading

import pytest

from data_tools.errors import InputError
from geneface_jax.studio.render_queue import Cancelled, PersonList, QueueFull, RenderQueue
from tests.geneface_jax.studio.studio_server import write_people


def test_people_are_found_by_name_alone(tmp_path):
    folder = write_people(tmp_path / "people")
    (folder / "linked").symlink_to(folder / "anna")
    (folder / "corpus").mkdir()
    people = PersonList(folder)
    assert people.names() == ["anna", "bert"]
    for name in ("../people/anna", str(folder / "anna"), "linked", "corpus", "", None, ["anna"], "."):
        with pytest.raises(InputError, match="no person"):
            people.get(name)
    assert PersonList(folder / "bert").names() == ["bert"]
    with pytest.raises(InputError, match="There is no folder"):
        PersonList(tmp_path / "nowhere")


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
