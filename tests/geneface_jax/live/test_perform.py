"""Talks without a server: `geneface live` and `geneface infer --live`."""

from __future__ import annotations

import io
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gradio")

from data_tools.audio.sound import load_audio, save_wav  # noqa: E402
from data_tools.errors import InputError  # noqa: E402
from data_tools.video import read_video  # noqa: E402
from geneface_jax.cli.main import main  # noqa: E402
from geneface_jax.data.subject import Subject  # noqa: E402
from geneface_jax.inference.renderer import SubjectRenderer  # noqa: E402
from geneface_jax.live import perform, rendering  # noqa: E402
from geneface_jax.live.sessions import Look  # noqa: E402
from tests.geneface_jax.live.live_server import FlatPainter, LoudMouth, controls, live_server, ready, stand_in_stage, tone  # noqa: E402
from tests.synthetic_subject import write_subject  # noqa: E402
from tests.tiny_person import write_person  # noqa: E402


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return Subject.load(write_subject(tmp_path_factory.mktemp("live") / "dataset", frames=44))


def test_a_recording_becomes_every_picture_with_its_sound(subject):
    stage, sound = stand_in_stage(subject), tone(5.03)
    frames = list(perform.perform(stage, stage.talk(controls(), cushion=0), perform.pieces(sound)))
    heard = np.concatenate([samples for _, samples in frames])
    assert np.array_equal(heard[: len(sound)], sound) and not heard[len(sound) :].any()
    assert len(frames) == pytest.approx(5.03 * 25, abs=6)
    # The same pictures, however the sound comes.
    again = list(perform.perform(stage, stage.talk(controls(), cushion=0), np.array_split(sound, 31)))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(frames, again, strict=True))


def test_live_keeps_time_and_sound_on_a_machine_that_is_too_slow(subject):
    stage = stand_in_stage(subject)
    slow = rendering.Stage("anna", stage.look, FlatPainter(stage.look.closed, seconds=0.06), stage.open_speech, 0.01, 0.0)
    told, sound, began = [], tone(4.0), time.monotonic()
    frames = list(perform.perform_live(slow, slow.talk(controls()), perform.pieces(sound), stop=threading.Event(), tell=told.append))
    assert time.monotonic() - began > 3.5
    heard = np.concatenate([samples for _, samples in frames])
    first = np.flatnonzero(heard)[0]
    assert np.array_equal(heard[first : first + len(sound) - 1], sound[1:]), "no sound is left out"
    assert len(told) == 1 and "12.5" in told[0]


def test_what_is_wrong_with_the_sound_is_raised_after_what_came_before_it(subject):
    def sound():
        yield tone(0.5)
        raise InputError("The microphone was unplugged.")

    stage, frames = stand_in_stage(subject), []
    with pytest.raises(InputError, match="unplugged"):
        frames.extend(frame for frame in perform.perform_live(stage, stage.talk(controls()), sound(), stop=threading.Event()))
    stop = threading.Event()
    stop.set()
    assert len(list(perform.perform_live(stage, stage.talk(controls()), perform.pieces(tone(60)), stop=stop))) < 40


@pytest.fixture
def anna(tmp_path, subject, monkeypatch):
    """A folder with a recording; every person's networks are stand-ins. Returns the folder and the stage."""
    painter = FlatPainter(Look(subject).closed, size=64)
    stage = stand_in_stage(subject, painter=painter)
    found = SimpleNamespace(name="anna", subject=subject, parts=None)
    monkeypatch.setattr(perform, "find_parts", lambda folder: "head")
    monkeypatch.setattr(perform, "open_person", lambda parts: found)
    monkeypatch.setattr(perform, "open_live_speech", lambda person: stage.open_speech)
    monkeypatch.setattr(perform, "LiveRenderer", lambda person, size: painter)
    monkeypatch.setattr(perform, "provenance_of", lambda *args: None)
    monkeypatch.setattr(perform, "stamper", lambda *args: None)
    monkeypatch.setattr(perform, "open_stage", lambda *args: stage)
    monkeypatch.chdir(tmp_path)
    save_wav(tmp_path / "speech.wav", tone(1.0))
    return tmp_path, stage


def kept(monkeypatch):
    """The pictures that `infer_live` writes."""
    pictures = []
    write = perform.write_video

    def keep(out, frames, *args, **options):
        def pass_on():
            for frame in frames:
                pictures.append(frame)
                yield frame

        return write(out, pass_on(), *args, **options)

    monkeypatch.setattr(perform, "write_video", keep)
    return pictures


@pytest.mark.parametrize("verb", ["live", "infer"])
def test_a_file_from_a_file_is_what_the_stream_shows(anna, monkeypatch, capsys, verb):
    (folder, stage), pictures = anna, kept(monkeypatch)
    options = {
        "live": ["--person", "anna", "--input", "speech.wav", "--output", "talk.mp4", "--mouth-amp", "0.3"],
        "infer": ["--live", "--subject", "anna", "--audio", "speech.wav", "--out", "talk.mp4", "--mouth-amp", "0.3"],
    }
    assert main([verb, *options[verb]]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "talk.mp4"
    assert 25 <= len(pictures) == len(list(read_video(folder / "talk.mp4"))) <= 31
    talk, sound = stage.talk(controls(mouth_amp=0.3), cushion=0), load_audio(folder / "speech.wav")
    streamed = list(perform.perform(stage, talk, [sound]))
    assert len(streamed) == len(pictures) and all(np.array_equal(a, b) for (a, _), b in zip(streamed, pictures, strict=True))
    assert np.ptp([picture.mean() for picture in pictures]) > 20, "it speaks"


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--orbit", "10"], "--orbit is 10.0, which live speech does not have"),
        (["--temperature", "0.5"], "--temperature is 0.5"),
        (["--bg", "green"], "--bg is green"),
        (["--pose", "still"], "--pose is still"),
        (["--rays", "full"], "--rays is full"),
        (["--precision", "bf16"], "--precision is bf16"),
        (["--debug", "d"], "--debug"),
        (["--audio", "."], "folder"),
        (["--out", "talk.webm"], "ends in .mp4"),
        (["--size", "63"], "--size is 63"),
    ],
)
def test_options_of_infer_that_live_speech_does_not_have(anna, capsys, options, sentence):
    assert main(["infer", "--live", "--subject", "anna", "--audio", "speech.wav", "--out", "talk.mp4", *options]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and not (anna[0] / "talk.mp4").exists()


def test_a_pipe_to_a_pipe(anna, monkeypatch, capfdbinary):
    sound = io.BytesIO((32767 * tone(1.0)).astype("<i2").tobytes() + b"x")
    sound.read1 = sound.read
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=sound))
    assert main(["live", "--person", "anna", "--input", "-", "--output", "-"]) == 0
    (anna[0] / "talk.mp4").write_bytes(capfdbinary.readouterr().out)
    assert 25 <= len(list(read_video(anna[0] / "talk.mp4"))) <= 60


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--output", "talk.avi"], "ends in .mp4"),
        (["--output", "/dev/null"], "name such as /dev/video10"),
        (["--output", "/dev/video4242"], "modprobe"),
        (["--output", "talk.mp4", "--mouth-amp", "7"], "--mouth-amp"),
        (["--output", "talk.mp4", "--input", "nothing.wav"], "nothing.wav"),
        (["--output", "-", "--input", "nothing.wav"], "nothing.wav"),
    ],
)
def test_wrong_options_are_told_before_anything_is_loaded(anna, capsys, options, sentence):
    assert main(["live", "--person", "anna", *options]) == 2
    assert sentence in capsys.readouterr().err and not (anna[0] / "talk.mp4").exists()


@pytest.mark.parametrize(
    "module, sentence",
    [
        (None, "needs the package sounddevice: run `pip install sounddevice`"),
        (OSError("PortAudio library not found"), "can't be opened (PortAudio library not found)"),
        (ValueError("no input device"), "can't be opened (no input device)"),
    ],
)
def test_a_machine_without_a_microphone(anna, monkeypatch, capsys, module, sentence):
    def refuse(*args, **options):
        raise module

    found = None if module is None else SimpleNamespace(InputStream=refuse, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "sounddevice", found)
    assert main(["live", "--person", "anna", "--output", "talk.mp4"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_infer_live_gives_the_pictures_of_a_stream(tmp_path, monkeypatch):
    """A tiny person over a real socket, and the same recording offline."""
    renderer = SubjectRenderer.load(write_person(tmp_path / "me"))
    parts = SimpleNamespace(head="head", folder=tmp_path / "me")
    me = SimpleNamespace(renderer=renderer, size=32, name="me", parts=parts, subject=renderer.subject)
    stage = rendering.open_stage("me", me, lambda: LoudMouth(Look(me.subject).closed), rendering.LiveRenderer(me))
    sound = np.round(32767 * tone(1.0)) / 32768.0
    with live_server(lambda person, size: stage) as (port, _):
        client = ready(port)
        client.say(sound * 32768.0 / 32767.0)
        client.tell(type="flush")
        found = client.collect(4.0)
        client.close()
    spoken = [one["frame"] for one in found if one["type"] == "sound" and any(one["data"])]
    assert len(spoken) == 25
    streamed = {one["frame"]: one["data"] for one in found if one["type"] == "picture"}
    # The same place in the person's own motion: the stream was idle for some frames.
    talk = stage.talk(controls(), cushion=0)
    for _ in range(spoken[0]):
        talk.step()
    offline = [picture for picture, _ in perform.perform(stage, talk, [sound.astype(np.float32)])]
    shown = [number for number in spoken if number in streamed]
    assert len(shown) > 5
    for number in shown:
        assert rendering.jpeg(offline[number - spoken[0]]) == streamed[number]
    # And the verb's, which begin with the recording.
    pictures = kept(monkeypatch)
    monkeypatch.setattr(perform, "find_parts", lambda folder: parts)
    monkeypatch.setattr(perform, "open_person", lambda parts: me)
    monkeypatch.setattr(perform, "open_live_speech", lambda person: stage.open_speech)
    monkeypatch.setattr(perform, "provenance_of", lambda *args: None)
    monkeypatch.setattr(perform, "stamper", lambda *args: None)
    save_wav(tmp_path / "speech.wav", sound)
    perform.infer_live("me", tmp_path / "speech.wav", tmp_path / "talk.mp4", controls())
    heard = load_audio(tmp_path / "speech.wav")
    again = [picture for picture, _ in perform.perform(stage, stage.talk(controls(), cushion=0), perform.pieces(heard))]
    assert len(again) == len(pictures) and all(np.array_equal(a, b) for a, b in zip(again, pictures, strict=True))
