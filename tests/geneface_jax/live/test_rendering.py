"""Batches of a real (tiny, untrained) person's pictures, the render thread, and what a session costs."""

from __future__ import annotations

import dataclasses
import io
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.inference.renderer import FrameBatches, SubjectRenderer
from geneface_jax.live.rendering import MOST_PENDING, LiveRenderer, RenderThread, open_stage
from tests.geneface_jax.live.live_server import FlatPainter, LoudMouth, controls, stand_in_stage
from tests.tiny_person import write_person


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return SubjectRenderer.load(write_person(tmp_path_factory.mktemp("person")))


def inputs(renderer, frames=9):
    rng = np.random.default_rng(0)
    motion = renderer.subject.motion_mean + renderer.subject.motion_std * rng.normal(size=(frames, 68, 3)).astype(np.float32)
    return motion.astype(np.float32), renderer.subject.cameras[:frames], rng.uniform(0.1, 0.4, frames).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rays", ["trained", "adaptive"])
def test_pictures_are_those_of_the_offline_renderer_in_any_batch(renderer, unoptimized_programs, rays):
    motion, cameras, eyes = inputs(renderer)
    offline = list(renderer.render(motion, cameras, eyes, rays=rays))
    batches = FrameBatches(renderer, renderer.subject.size, rays=rays, batch=3)
    reach = batches.reach
    assert reach == renderer.head_config.model.condition_window // 2
    around = np.stack([motion[i - reach : i + reach + 1] for i in range(reach, 9 - reach)])
    chosen = range(reach, 9 - reach)
    # Frames of several sessions, in another order, and a batch that is not full.
    order = [4, 0, 2, 1, 3]
    found = {}
    for first in (0, 3):
        some = order[first : first + 3]
        pictures = batches.render(around[some], cameras[[chosen[i] for i in some]], eyes[[chosen[i] for i in some]])
        assert len(pictures) == len(some)
        found.update(zip(some, pictures, strict=True))
    for i, number in enumerate(chosen):
        assert np.abs(found[i].astype(int) - offline[number].astype(int)).max() <= 1
    assert np.ptp(offline[4]) > 20, "a picture with contrast"


@pytest.mark.slow
def test_a_live_renderer_is_measured(renderer, unoptimized_programs):
    person = person_of(renderer)
    painter = LiveRenderer(person, 16, batch=2)
    stage = open_stage("me", person, lambda: LoudMouth(np.zeros((68, 3), np.float32)), painter)
    assert stage.capacity >= 1 and stage.picture_seconds > 0 and stage.speech_seconds > 0
    talk = stage.talk(controls())
    pictures = painter.render([talk.step(), talk.step()])
    assert [one.shape for one in pictures] == [(16, 16, 3)] * 2


def person_of(renderer):
    parts = SimpleNamespace(head="head", folder="people/me")
    return SimpleNamespace(renderer=renderer, size=32, name="me", parts=parts, subject=renderer.subject)


def test_a_live_renderer_has_two_sizes(renderer):
    person = person_of(renderer)
    with pytest.raises(InputError, match="16 or 32"):
        LiveRenderer(person, 24)
    with pytest.raises(InputError, match="vanilla NeRF"):
        LiveRenderer(SimpleNamespace(renderer=object(), parts=person.parts))
    assert LiveRenderer(person).size == 32 and LiveRenderer(person, 16).size == 16


def test_the_thread_batches_what_shares_a_painter_and_keeps_few(renderer):
    stage = stand_in_stage(renderer.subject)
    go, lock = threading.Event(), threading.Lock()

    class Held(FlatPainter):
        def render(self, frames):
            go.wait(20)
            return super().render(frames)

    slow, other = Held(stage.look.closed, batch=3), FlatPainter(stage.look.closed, batch=3)
    talk, thread, got = stage.talk(controls()), RenderThread(), []

    def deliver(session):
        def take(frame, data):
            with lock:
                got.append((session, frame.index, None if data is None else Image.open(io.BytesIO(data)).size))

        return take

    frames = [dataclasses.replace(talk.step(), index=i) for i in range(6)]
    for frame in frames:
        for session in "ab":
            thread.submit(session, slow, frame, deliver(session))
    thread.submit("c", other, frames[0], deliver("c"))
    go.set()
    end = time.monotonic() + 20
    while len(got) < 13 and time.monotonic() < end:
        time.sleep(0.02)
    thread.stop()
    shown = {session: [index for one, index, size in got if one == session and size] for session in "abc"}
    assert shown["c"] == [0] and max(slow.batches) > 1
    for session in "ab":
        assert shown[session][-MOST_PENDING:] == [4, 5] and len(shown[session]) <= MOST_PENDING + 2, "the newest are kept"


def test_capacity_follows_from_what_pictures_and_speech_cost(renderer):
    assert stand_in_stage(renderer.subject, picture_seconds=0.001, speech_seconds=0.0).capacity == 68
    assert stand_in_stage(renderer.subject, picture_seconds=0.03, speech_seconds=0.05).capacity == 2
    assert stand_in_stage(renderer.subject, picture_seconds=1.0).capacity == 1, "one is always offered"
