"""The private folder, and the checks of uploads."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from data_tools.audio.sound import save_wav
from data_tools.errors import InputError
from data_tools.video import write_video
from geneface_jax.studio.security import Limits
from geneface_jax.studio.uploads import SessionFolder, accept_audio, accept_picture, accept_video
from tests.geneface_jax.studio.studio_server import write_speech


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
        (write_speech(tmp_path / "outside.wav"), "not an upload of this page"),
        (workspace.cache / "absent.wav", "not an upload"),
        (workspace.cache, "not an upload"),
        (None, "choose or record"),
    ):
        with pytest.raises(InputError, match=words):
            accept_audio(path, workspace, limits)
    link = workspace.cache / "link.wav"
    link.symlink_to(good)
    with pytest.raises(InputError, match="not an upload"):
        accept_audio(link, workspace, limits)
    save_wav(workspace.cache / "silent.wav", np.zeros(16000, np.float32))
    with pytest.raises(InputError, match="that recording is silent|that recording") as caught:
        accept_audio(workspace.cache / "silent.wav", workspace, limits)
    assert str(workspace.folder) not in str(caught.value)


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
    with pytest.raises(InputError, match="not a readable video"):
        accept_video(workspace.cache / "list.mp4", tmp_path / "other" / "x.mp4", workspace, limits)
    assert not (tmp_path / "other").exists()
