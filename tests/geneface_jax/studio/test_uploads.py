"""The private folder, and the checks of uploads."""

import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data_tools.audio.sound import save_wav
from data_tools.errors import InputError
from data_tools.video import write_video
from geneface_jax.studio.security import MIB, Limits
from geneface_jax.studio.uploads import Quota, SessionFolder, StorageFull, accept_audio, accept_picture, check_video
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


def test_what_is_old_is_deleted_by_itself(tmp_path):
    with SessionFolder(tmp_path) as workspace:
        (inside := workspace.cache / "abc").mkdir()
        old = [workspace.uploads / "a.wav", workspace.results / "b.mp4", inside / "c.wav", workspace.cache / "tmpx"]
        for path in [*old, new := inside.with_name("d.wav")]:
            path.write_bytes(b"1")
        for path in old:
            os.utime(path, (time.time() - 60,) * 2)
        workspace.keep_tidy(keep_seconds=0.2)
        os.utime(new, (time.time() + 60,) * 2)
        deadline = time.monotonic() + 5
        while any(path.exists() for path in old):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert new.is_file() and not inside.exists()


def test_bytes_are_reserved_before_they_are_written(workspace):
    quota = Quota(workspace, 1000)
    first, second = quota.begin(), quota.begin()
    assert first.reserve(600) and not second.reserve(500) and second.reserve(400) and not first.reserve(1)
    (workspace.cache / "tmpfirst").write_bytes(bytes(600))
    assert quota.free() < 0, "in a file and reserved"
    first.wrote(600)
    assert quota.free() == 0
    second.end()
    assert quota.free() == 400 and (workspace.cache / "tmpfirst").exists(), "another upload is arriving"
    first.end()
    assert quota.free() == 1000 and not list(workspace.cache.iterdir()), "half an upload belongs to nobody now"
    (workspace.results / "x").write_bytes(bytes(1000))
    with pytest.raises(StorageFull, match="disk space"):
        quota.require()


def test_a_full_disk_counts_too(workspace, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * MIB + 5))
    quota = Quota(workspace, 1000)
    assert quota.free() == 5 and not quota.begin().reserve(6)


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
    with pytest.raises(InputError, match="That recording is silent") as caught:
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
    Image.new("RGB", (40, 40)).save(workspace.cache / "x.gif")
    Image.new("1", (14000, 14000)).save(workspace.cache / "bigger.png")
    (workspace.cache / "cut.jpg").write_bytes(picture.read_bytes()[:300])
    for name in ("bomb.png", "bigger.png", "x.svg", "x.gif", "cut.jpg"):
        with pytest.raises(InputError, match="million pixels" if name.startswith("b") else "not a readable picture"):
            accept_picture(workspace.cache / name, workspace, limits)
    assert len(list(workspace.uploads.iterdir())) == 1


def test_a_picture_is_not_decoded_to_learn_its_size(workspace, monkeypatch):
    Image.new("RGB", (200, 200)).save(workspace.cache / "a.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="million pixels"):
        accept_picture(workspace.cache / "a.png", workspace, Limits(image_pixels=10_000))


def test_training_videos_need_sound_and_a_length(workspace, tmp_path):
    limits, frames = Limits(video_seconds=1.5), [np.full((64, 64, 3), 90, np.uint8)] * 25
    sound = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    write_video(workspace.cache / "good.mp4", frames, sound)
    write_video(workspace.cache / "mute.mp4", frames, None)
    write_video(workspace.cache / "long.mp4", frames * 2, sound)
    assert check_video(workspace.cache / "good.mp4", workspace, limits) == workspace.cache / "good.mp4"
    for name, words in (("mute.mp4", "no sound"), ("long.mp4", "lasts 2 s")):
        with pytest.raises(InputError, match=words):
            check_video(workspace.cache / name, workspace, limits)
    (workspace.cache / "list.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(InputError, match="not a readable video"):
        check_video(workspace.cache / "list.mp4", workspace, limits)
