"""Render tasks: cancelling, previews and comparisons."""

import pytest

from geneface_jax.inference.controls import Controls

pytest.importorskip("gradio")

from geneface_jax.studio.people import PersonList  # noqa: E402
from geneface_jax.studio.render_queue import Cancelled, RenderProgress, RenderQueue, Renders  # noqa: E402
from geneface_jax.studio.security import Limits  # noqa: E402
from tests.geneface_jax.studio.studio_server import FakeRenderer, stand_in_networks, write_people, write_speech  # noqa: E402


def test_a_cancelled_render_leaves_no_file_and_ends_at_once(workspace, tmp_path, monkeypatch):
    stand_in_networks(monkeypatch)
    monkeypatch.setattr(FakeRenderer, "seconds", 0.02)
    person = PersonList(write_people(tmp_path / "people")).get("anna")
    queue = RenderQueue(1, 1)
    renders = Renders(queue, workspace, Limits())
    job = queue.submit()
    FakeRenderer.drawn = 0
    render = renders.video(job, person, write_speech(tmp_path / "a.wav", 20.0), Controls())
    seen = next(progress for progress in render if isinstance(progress, RenderProgress) and progress.done)
    assert 0 < seen.done < seen.total == 500 and seen.seconds_left > 0
    job.cancelled.set()
    with pytest.raises(Cancelled):
        list(render)
    assert not list(workspace.results.iterdir()) and FakeRenderer.drawn < 250


def result_of(task):
    """The result of a render task."""
    while True:
        try:
            assert isinstance(next(task), RenderProgress)
        except StopIteration as end:
            return end.value


def test_previews_and_comparisons(workspace, tmp_path, monkeypatch):
    from data_tools.video import read_video

    stand_in_networks(monkeypatch)
    person = PersonList(write_people(tmp_path / "people")).get("anna")
    queue, speech = RenderQueue(1, 1), write_speech(tmp_path / "a.wav", 2.0)
    renders = Renders(queue, workspace, Limits(preview_seconds=1.0))
    job = queue.submit()
    frame = result_of(renders.first_frame(job, person, speech, Controls(bg="#00ff00", size=64)))
    assert frame.shape == (64, 64, 3) and frame[1, 1].tolist() == [0, 255, 0]
    sketch = list(read_video(result_of(renders.landmarks(job, person, speech, Controls()))))
    pair = Controls(bg="transparent"), Controls(bg="#ff0000")
    both = list(read_video(result_of(renders.comparison(job, person, speech, pair))))
    assert len(sketch) == len(both) == 25 and both[0].shape == (32, 64, 3) and sketch[0].shape[1] == 2 * sketch[0].shape[0]
    assert abs(both[3][1, 60].astype(int) - [255, 0, 0]).max() < 12 and both[3][1, 1, 0] < 180
