"""The state of a live talk: idle and speech, cuts, cancel, late sound, drift; no sockets, no networks."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.landmarks68 import MOUTH
from geneface_jax.data.subject import Subject
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion_filters import RAMP
from geneface_jax.live.sessions import CANCEL_RAMP, MAX_AHEAD, MOST_BEHIND, SPARE_SECONDS, Clock, Grid, Look, Talk
from tests.geneface_jax.live.live_server import LoudMouth, tone
from tests.synthetic_subject import write_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    found = Subject.load(write_subject(tmp_path_factory.mktemp("live") / "dataset", frames=44))
    # Noise; a real face moves by a tenth of a landmark's range in a frame.
    return dataclasses.replace(found, motion=0.05 * found.motion)


@pytest.fixture(scope="module")
def look(subject):
    return Look(subject)


def talk_of(look, **options):
    options.setdefault("cushion", 0)
    return Talk(look, lambda: LoudMouth(look.closed), Controls(blink_mode="none"), **options)


def play(talk, frames, feed=(), now=0.0):
    """Steps `frames` times; `feed` gives samples to hear before each step."""
    feed, found = iter(feed), []
    for i in range(frames):
        if (samples := next(feed, None)) is not None:
            talk.hear(samples, now + 0.04 * i)
        while talk.think():
            pass
        found.append(talk.step())
    return found


def middle(frames):
    return np.stack([one.motions[len(one.motions) // 2] for one in frames])


@pytest.mark.parametrize("cuts", [[1], [37, 640, 4001], [16000], [12]])
def test_frames_do_not_depend_on_how_the_sound_was_cut(look, cuts):
    sound = np.concatenate([tone(0.7), np.zeros(9000, np.float32), tone(0.31, 0.02)])
    whole, cut = talk_of(look, reach=2), talk_of(look, reach=2)
    whole.hear(sound, 0.0)
    at = 0
    while at < len(sound):
        size = cuts[at % len(cuts)] if len(cuts) > 1 else cuts[0] * (50 if cuts[0] < 10 else 1)
        cut.hear(sound[at : at + size], 0.0)
        cut.think()
        at += size
    for one in (whole, cut):
        one.flush(0.0)
    for a, b in zip(play(whole, 60), play(cut, 60), strict=True):
        assert np.array_equal(a.motions, b.motions) and np.array_equal(a.sound, b.sound)
        assert (a.speaking, a.late, a.eye_openness) == (b.speaking, b.late, b.eye_openness)


def test_all_of_the_sound_is_heard_in_order_with_its_pictures(look):
    talk, sound = talk_of(look), tone(1.0) * np.linspace(0.5, 1.0, 16000, dtype=np.float32)
    talk.hear(sound, 5.0)
    talk.flush(5.0)
    frames = play(talk, 40)
    assert np.array_equal(np.concatenate([one.sound for one in frames[:25]]), sound)
    assert not any(one.sound.any() for one in frames[25:]) and not any(one.late for one in frames)
    assert {one.heard for one in frames[:25]} == {5.0} and frames[25].heard is None
    opened = look.closed[66, 1] - middle(frames)[:, 66, 1]
    assert np.corrcoef(opened[RAMP:25], np.linspace(0.5, 1.0, 25 - RAMP))[0, 1] > 0.95


def test_idle_is_a_shut_mouth_and_the_training_videos_pose_and_blinks(subject, look):
    frames = play(Talk(look, LoudMouth, Controls()), 3 * look.period)
    motion = middle(frames)
    assert np.array_equal(motion[:, MOUTH], np.repeat(look.closed[None, MOUTH], len(motion), 0))
    assert np.ptp([one.camera[0, 3] for one in frames]) > 0.01
    assert np.allclose(motion[0, 36:48], subject.motion[0, 36:48])
    loop = np.stack([one.camera for one in frames])
    assert np.array_equal(loop[: look.period], loop[look.period : 2 * look.period]), "poses come back"
    steps = np.abs(np.diff(loop[:, 0, 3]))
    assert steps.max() < 1.5 * steps[: look.period - 1].max() + 1e-9


def test_going_into_and_out_of_speech_is_bounded(look):
    talk = talk_of(look)
    # Speech that is loud at once, a hole, and speech again before the mouth is shut.
    feed = [None] * 10 + [tone(0.04, 0.5)] * 20 + [None] * 2 + [tone(0.04, 0.5)] * 20
    motion = middle(play(talk, 100, feed))[:, MOUTH]
    wide = np.abs(motion - look.closed[MOUTH]).max()
    assert wide > 0.5
    assert np.abs(np.diff(motion, axis=0)).max() < 1.3 * wide / RAMP
    assert np.array_equal(motion[-1], look.closed[MOUTH])


def test_a_pause_is_idle_and_the_mouth_is_ready_when_speech_sets_in(look):
    talk = talk_of(look)
    sound = np.concatenate([np.zeros(25 * 640, np.float32), tone(1.0), np.zeros(37 * 640, np.float32)])
    frames = play(talk, 120, sound.reshape(-1, 640))
    speaking = [i for i, one in enumerate(frames) if one.speaking]
    loud = [i for i, one in enumerate(frames) if np.abs(one.sound).max() > 0.01]
    assert speaking == list(range(speaking[0], loud[-1] + RAMP + 1))
    assert 1 <= loud[0] - speaking[0] <= 3, "as far as the network hears ahead"


def test_cancel_stops_the_sound_at_once_and_shuts_the_mouth(look):
    talk = talk_of(look)
    talk.hear(tone(1.9, 0.5), 0.0)
    before = play(talk, 12)
    assert before[-1].sound.any()
    talk.cancel()
    assert talk.queued == 0
    after = play(talk, 10)
    assert not any(one.sound.any() for one in after)
    opened = np.abs(middle(after)[:, MOUTH] - look.closed[MOUTH]).max(axis=(1, 2))
    assert opened[CANCEL_RAMP - 1] == 0.0 and np.all(np.diff(opened[:CANCEL_RAMP]) < 0) and (CANCEL_RAMP + 1) * 0.04 <= 0.2
    # What is said next is another utterance.
    talk.hear(tone(0.5), 0.0)
    talk.flush(0.0)
    assert sum(one.sound.any() for one in play(talk, 30)) == 13


def test_a_cancel_while_motion_is_computed_drops_it(look):
    talk = talk_of(look)

    class Barging(LoudMouth):
        def push(self, samples):
            talk.cancel()
            return super().push(samples)

    talk._open_speech = lambda: Barging(look.closed)
    talk.hear(tone(1.0), 0.0)
    talk.think()
    assert not any(one.sound.any() for one in play(talk, 30))


def test_late_sound_gives_an_idle_face_and_is_not_lost(look):
    talk, pieces = talk_of(look), list(tone(2.0).reshape(-1, 640))
    frames = play(talk, 120, pieces[:20] + [None] * 20 + pieces[20:])
    late = [i for i, one in enumerate(frames) if one.late]
    assert talk.late == len(late) == 2, "once in the hole, once at the end"
    gap = middle(frames)[late[0] + RAMP : late[0] + 15]
    assert np.array_equal(gap[:, MOUTH], np.repeat(look.closed[None, MOUTH], len(gap), 0)), "not frozen with an open mouth"
    assert len({one.camera.tobytes() for one in frames[late[0] : late[0] + 15]}) > 10, "still moving"
    heard = np.concatenate([one.sound for one in frames if one.heard is not None])
    assert np.array_equal(heard, tone(2.0)[: len(heard)]) and len(heard) == 45 * 640


def test_speech_that_needs_no_hurry_waits_for_a_cushion(look):
    def first(**options):
        frames = play(talk_of(look, **options), 20, [tone(0.04)] * 20)
        return next(i for i, one in enumerate(frames) if one.heard is not None)

    assert first(cushion=1) == first(cushion=0) + 1


def test_a_burst_is_queued_to_two_seconds(look):
    talk = talk_of(look)
    assert talk.hear(tone(MAX_AHEAD), 0.0) == 0.0
    assert talk.hear(tone(1.0), 0.0) == 1.0
    talk.think()
    assert talk.hear(tone(1.0), 0.0) >= 0.8, "what is decided counts too"
    assert talk.refused >= 1.8


@pytest.mark.parametrize("rate", [0.996, 1.0, 1.004])
def test_the_drift_of_a_microphones_clock_is_bounded(look, rate):
    """Two minutes of speech and pauses from a clock that is 0.4 % fast or slow: the wait does not grow, and little is lost."""
    talk, sound = talk_of(look, cushion=1), np.tile(np.concatenate([tone(3.0), np.zeros(16000, np.float32)]), 32)
    lags, at = [], 0
    for i in range(2 * 60 * 25):
        upto = round(640 * rate * (i + 1))
        talk.hear(sound[at:upto], 0.04 * i)
        at = upto
        while talk.think():
            pass
        if (heard := talk.step().heard) is not None:
            lags.append(0.04 * i - heard)
    assert max(lags[-500:]) < 0.45 and max(lags) - np.median(lags) < 0.25
    assert talk.shed * 0.04 == pytest.approx(max(rate - 1, 0) * 120, abs=0.25)
    assert talk.late <= 5 + max(1 - rate, 0) * 120 / 0.04 and talk.refused == 0.0


def test_the_wait_after_late_sound_goes_back_in_the_next_pauses(look):
    """A connection that stalls for 0.6 s: what came late is heard late, and the pause after it is shorter."""
    talk, sound, lags = talk_of(look, cushion=1), np.tile(np.concatenate([tone(3.0), np.zeros(8000, np.float32)]), 10), []
    pieces = list(sound.reshape(-1, 640))
    for i in range(len(pieces)):
        if not 30 <= i < 45:
            talk.hear(np.concatenate(pieces[30:46]) if i == 45 else pieces[i], 0.04 * i)
        while talk.think():
            pass
        frame = talk.step()
        lags.append(talk.queued if frame.heard is not None else np.nan)
    usual, after, later = np.nanmin(lags[:30]), np.nanmin(lags[50:75]), np.nanmin(lags[-75:])
    assert after > usual + 0.3 and later <= usual + 0.09 and 5 < talk.shed < 16


def test_memory_does_not_grow_in_silence(look):
    """The longest queue in a minute of silence, which the network hears too."""
    talk, longest = talk_of(look), 0
    for i in range(60 * 25):
        talk.hear(np.zeros(640, np.float32), 0.04 * i)
        talk.think()
        assert not talk.step().speaking
        longest = max(longest, len(talk._ready) + len(talk._waiting) + len(talk._utterance[1]._frames))
    assert longest < 12


def test_controls_change_while_the_person_speaks(look):
    talk = talk_of(look)
    talk.set({"mouth_amp": 0})
    talk.hear(tone(0.8, 0.5), 0.0)
    talk.flush(0.0)
    still = middle(play(talk, 15))
    assert np.allclose(still[10, 48:], look.mean[48:], atol=1e-5)
    for wrong in (
        {"size": 64},
        {"mouth_amp": 2.0},
        {"mouth_amp": "wide"},
        {"blink_mode": "often"},
        {"blink_period": float("nan")},
        {"mouth_amp": True},
    ):
        with pytest.raises(InputError):
            talk.set(wrong)
    assert talk.controls.mouth_amp == 0.0


@pytest.mark.parametrize("pose", ["video", "still", "3-9"])
def test_poses_loop(subject, pose):
    look = Look(subject, pose)
    path = np.stack([look.camera(i)[0, 3] for i in range(400)])
    assert np.abs(np.diff(path)).max() < 0.01 and (np.ptp(path) > 0) == (pose != "still")


class FakeClock(Clock):
    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    async def sleep_until(self, when):
        self.time = max(self.time, when)


def test_the_grid_has_no_error_that_grows_and_skips_what_a_sleeping_machine_missed():
    clock = FakeClock()
    grid = Grid(clock)

    async def run():
        numbers = []
        async for number in grid:
            numbers.append(number)
            clock.time += 0.013 if number % 7 else 0.055
            if number == 90_000:
                clock.time += 3600.0
            if len(numbers) > 90_050:
                return numbers

    numbers = asyncio.run(run())
    assert numbers[:90_001] == list(range(90_001))
    assert 3600 * 25 - 5 < grid.skipped < 3600 * 25 + 5 and grid.behind < MOST_BEHIND
    assert clock.time - 100.0 == pytest.approx(0.04 * numbers[-1], abs=0.1)
    assert SPARE_SECONDS > 1
