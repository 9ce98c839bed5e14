"""The studio's parts by themselves: private folder, uploads, people, queue, command line, controls, texts."""

import dataclasses
import re
import shlex
import string
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from data_tools.audio.load import save_wav
from data_tools.errors import InputError
from data_tools.video.write import write_video
from geneface_jax.inference.controls import Controls

pytest.importorskip("gradio")

import gradio as gr  # noqa: E402

from geneface_jax.cli import infer as infer_verb  # noqa: E402
from geneface_jax.inference import controls as controls_module  # noqa: E402
from geneface_jax.studio.context import RenderProgress, Renders  # noqa: E402
from geneface_jax.studio.i18n import (  # noqa: E402
    LANGUAGES,
    WORDS,  # noqa: E402
    Labels,
    text,
)
from geneface_jax.studio.render_queue import Cancelled, PersonList, QueueFull, RenderQueue
from geneface_jax.studio.security import Limits  # noqa: E402
from geneface_jax.studio.speak_tab import infer_line  # noqa: E402
from geneface_jax.studio.uploads import SessionFolder, accept_audio, accept_picture, accept_video
from geneface_jax.studio.widgets import ControlWidgets, controls_from  # noqa: E402
from tests.geneface_jax.studio.served import FakeRenderer, stand_in_networks, write_people, write_speech  # noqa: E402


@pytest.fixture
def workspace(tmp_path):
    with SessionFolder(tmp_path) as found:
        yield found


def test_the_private_folder_is_private_and_goes(tmp_path):
    with SessionFolder(tmp_path) as workspace:
        assert workspace.folder.stat().st_mode & 0o777 == 0o700
        (workspace.results / "a.mp4").write_bytes(bytes(1000))
        assert workspace.size() == 1000
        workspace.expire(time.time() - 60)
        assert workspace.size() == 1000
        workspace.expire(time.time() + 60)
        assert workspace.size() == 0
    assert not list(tmp_path.iterdir())


def test_a_killed_studios_folder_is_swept_by_the_next_and_a_living_ones_is_not(tmp_path):
    code = (
        "import os, sys; from geneface_jax.studio.uploads import SessionFolder\n"
        "w = SessionFolder(sys.argv[1]).__enter__(); (w.results / 'x').write_bytes(b'1'); print('ready', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    (left,) = tmp_path.iterdir()
    with SessionFolder(tmp_path):
        assert left.is_dir()
    child.kill()
    child.wait()
    assert left.is_dir()
    with SessionFolder(tmp_path) as workspace:
        assert list(tmp_path.iterdir()) == [workspace.folder]


def test_uploads_are_judged_by_content_size_and_length(workspace, tmp_path):
    limits = Limits(audio_bytes=200_000, audio_seconds=3.0, image_pixels=10_000)
    good = write_speech(workspace.cache / "good.mp3.exe", 2.0)
    assert accept_audio(good, workspace, limits).suffix == ".wav"
    for path, words in (
        (write_speech(workspace.cache / "long.wav", 4.0), "longer than 3 s"),
        (write_speech(workspace.cache / "big.wav", 7.0), "larger"),
        (write_speech(tmp_path / "outside.wav"), "no upload of this page"),
        (workspace.cache / "absent.wav", "no upload"),
        (workspace.cache, "no upload"),
        (None, "choose or record"),
    ):
        with pytest.raises(InputError, match=words):
            accept_audio(path, workspace, limits)
    link = workspace.cache / "link.wav"
    link.symlink_to(good)
    with pytest.raises(InputError, match="no upload"):
        accept_audio(link, workspace, limits)
    save_wav(workspace.cache / "silent.wav", np.zeros(16000, np.float32))
    with pytest.raises(InputError, match="that recording is silent|that recording") as told:
        accept_audio(workspace.cache / "silent.wav", workspace, limits)
    assert str(workspace.folder) not in str(told.value)


def test_pictures_are_written_again_and_bombs_refused(workspace):
    limits = Limits(image_pixels=10_000)
    picture = workspace.cache / "a.jpg"
    Image.new("RGB", (64, 48), (10, 200, 30)).save(picture)
    with Image.open(accept_picture(picture, workspace, limits)) as again:
        assert again.format == "PNG" and again.size == (64, 48)
    Image.new("1", (2000, 2000)).save(workspace.cache / "bomb.png")
    (workspace.cache / "x.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name in ("bomb.png", "x.svg"):
        with pytest.raises(InputError, match="picture"):
            accept_picture(workspace.cache / name, workspace, limits)


def test_training_videos_need_sound_and_a_length(workspace, tmp_path):
    limits, frames = Limits(video_seconds=1.5), [np.full((64, 64, 3), 90, np.uint8)] * 25
    sound = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    write_video(workspace.cache / "good.mp4", frames, sound)
    write_video(workspace.cache / "mute.mp4", frames, None)
    write_video(workspace.cache / "long.mp4", frames * 2, sound)
    target = tmp_path / "person" / "source.mp4"
    assert accept_video(workspace.cache / "good.mp4", target, workspace, limits).is_file()
    for name, words in (("mute.mp4", "no sound"), ("long.mp4", "lasts 2 s")):
        with pytest.raises(InputError, match=words):
            accept_video(workspace.cache / name, tmp_path / "other" / "x.mp4", workspace, limits)
    (workspace.cache / "list.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(InputError, match="no video"):
        accept_video(workspace.cache / "list.mp4", tmp_path / "other" / "x.mp4", workspace, limits)
    assert not (tmp_path / "other").exists()


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
    with pytest.raises(InputError, match="no folder"):
        PersonList(tmp_path / "nowhere")


def test_the_desk_serves_one_after_the_other_and_refuses_beyond_its_limit():
    desk = RenderQueue(waiting=1, warm_people=1)
    first, second = desk.enter(), desk.enter()
    with pytest.raises(QueueFull, match="waiting already"):
        desk.enter()
    assert list(desk.wait(first)) == []
    waiting = desk.wait(second, every=0.01)
    assert next(waiting) == 1
    threading.Timer(0.05, desk.leave, [first]).start()
    assert all(ahead == 1 for ahead in waiting)
    third = desk.enter()
    third.cancelled.set()
    with pytest.raises(Cancelled):
        next(desk.wait(third))


def test_a_cancelled_render_leaves_no_file_and_ends_at_once(workspace, tmp_path, monkeypatch):
    stand_in_networks(monkeypatch)
    monkeypatch.setattr(FakeRenderer, "seconds", 0.02)
    person = PersonList(write_people(tmp_path / "people")).get("anna")
    desk = RenderQueue(1, 1)
    performance = Renders(desk, workspace, Limits())
    ticket = desk.enter()
    FakeRenderer.drawn = 0
    render = performance.video(ticket, person, write_speech(tmp_path / "a.wav", 20.0), Controls())
    seen = next(said for said in render if isinstance(said, RenderProgress) and said.done)
    assert 0 < seen.done < seen.total == 500 and seen.seconds_left > 0
    ticket.cancelled.set()
    with pytest.raises(Cancelled):
        list(render)
    assert not list(workspace.results.iterdir()) and FakeRenderer.drawn < 250


def made(making):
    """What a generator of progress returns at its end."""
    while True:
        try:
            assert isinstance(next(making), RenderProgress)
        except StopIteration as end:
            return end.value


def test_previews_and_comparisons(workspace, tmp_path, monkeypatch):
    from data_tools.video.read import read_video

    stand_in_networks(monkeypatch)
    person = PersonList(write_people(tmp_path / "people")).get("anna")
    desk, speech = RenderQueue(1, 1), write_speech(tmp_path / "a.wav", 2.0)
    performance = Renders(desk, workspace, Limits(preview_seconds=1.0))
    ticket = desk.enter()
    frame = made(performance.first_frame(ticket, person, speech, Controls(bg="#00ff00", size=64)))
    assert frame.shape == (64, 64, 3) and frame[1, 1].tolist() == [0, 255, 0]
    sketch = list(read_video(made(performance.landmarks(ticket, person, speech, Controls()))))
    pair = Controls(bg="transparent"), Controls(bg="#ff0000")
    both = list(read_video(made(performance.comparison(ticket, person, speech, pair))))
    assert len(sketch) == len(both) == 25 and both[0].shape == (32, 64, 3) and sketch[0].shape[1] == 2 * sketch[0].shape[0]
    assert abs(both[3][1, 60].astype(int) - [255, 0, 0]).max() < 12 and both[3][1, 1, 0] < 180


def test_the_command_line_says_exactly_what_was_changed(monkeypatch):
    chosen = Controls(mouth_amp=0.75, bg="my picture.png", size=128, crf=30)
    words = shlex.split(infer_line("people/anna", "my speech.wav", chosen))
    assert words[:2] == ["geneface", "infer"]
    import argparse

    parser = argparse.ArgumentParser()
    infer_verb.add_arguments(parser)
    args = parser.parse_args(words[2:])
    assert (args.subject, args.audio) == ("people/anna", "my speech.wav")
    assert controls_module.from_args(args) == chosen
    assert "--" not in infer_line("a", "b", Controls()).split("video.mp4")[1]


@pytest.fixture
def widgets():
    with gr.Blocks():
        yield ControlWidgets.build(Labels())


def test_every_control_is_on_the_page_with_its_default_range_and_help(widgets):
    fields = {field.name: field for field in dataclasses.fields(Controls)}
    assert set(fields) - {"bg", "pose"} <= set(widgets.widgets)
    for name, widget in widgets.widgets.items():
        if name not in fields:
            continue
        meta = fields[name].metadata
        assert widget.value == fields[name].default and meta["help"] in widget.info
        if meta["choices"]:
            assert [value for _, value in widget.choices] == list(meta["choices"])
        if isinstance(widget, gr.Slider):
            assert (widget.minimum, widget.maximum, widget.step) == (meta["low"], meta["high"], meta["step"])
    values = {name: widget.value for name, widget in widgets.widgets.items()}
    assert controls_from(values, None) == Controls()


def test_the_pages_values_become_validated_controls(widgets):
    values = {name: widget.value for name, widget in widgets.widgets.items()}
    changed = values | {"mouth_amp": 1, "size": 128.0, "bg_kind": "colour", "bg_colour": "rgb(0, 177.4, 64)", "pose_kind": "range"}
    assert controls_from(changed, None) == Controls(mouth_amp=1.0, size=128, bg="#00b140", pose="0-250")
    assert controls_from(values | {"bg_kind": "picture"}, "/private/x.png").bg == "/private/x.png"
    for wrong, words in (
        ({"mouth_amp": 2}, "mouth-amp"),
        ({"mouth_amp": None}, "empty"),
        ({"bg_kind": "/etc/passwd"}, "no such background"),
        ({"bg_kind": "picture"}, "no background picture"),
        ({"bg_kind": "colour", "bg_colour": "/etc/passwd"}, "no colour"),
        ({"pose_kind": "../x"}, "no such head pose"),
        ({"pose_kind": "range", "pose_first": 9, "pose_last": 3}, "pose"),
        ({"bitrate": "1M; rm"}, "bitrate"),
        ({"preset": ["x"]}, "preset|text"),
    ):
        with pytest.raises(InputError, match=words):
            controls_from(values | wrong, None)


def test_every_text_is_there_in_both_languages_with_the_same_gaps(widgets):
    def gaps(words):
        return {name for _, name, *_ in string.Formatter().parse(words) if name}

    for key, (english, chinese) in WORDS.items():
        assert english and chinese and gaps(english) == gaps(chinese), key
    untranslated = [key for key, (english, chinese) in WORDS.items() if english == chinese]
    assert untranslated == ["tab.postnet"]
    for field in dataclasses.fields(Controls):
        for language in LANGUAGES.values():
            assert text(f"control.{field.name}.info", language)
        assert re.search("[\u4e00-\u9fff]", text(f"control.{field.name}.label", "zh")), field.name
