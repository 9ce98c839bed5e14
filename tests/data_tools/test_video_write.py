"""Written videos: exact length, true colors, complete files or none, ffmpeg's error message in one sentence."""

import subprocess
import threading
import time

import cv2
import numpy as np
import pytest

from data_tools.audio.sound import save_wav
from data_tools.encoder import EncoderOptions
from data_tools.errors import InputError
from data_tools.ffmpeg import Process, ffmpeg_executable
from data_tools.video import MOST_WAITING, VideoWriter, read_video, write_video

RATE = 48000


def ramp(n, height=64, width=96):
    for i in range(n):
        frame = np.empty((height, width, 3), np.uint8)
        frame[:] = (200, 40 + 3 * i, 60)
        frame[:, : width // 2] = (30, 60, 180)
        yield frame


def decoded_audio(path):
    command = [ffmpeg_executable(), "-v", "error", "-i", str(path), "-ac", "1", "-ar", str(RATE), "-f", "f32le", "pipe:1"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)


def described(path):
    return subprocess.run([ffmpeg_executable(), "-hide_banner", "-i", str(path)], capture_output=True, text=True).stderr


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
def test_the_sound_lasts_as_long_as_the_picture(tmp_path, seconds):
    time = np.arange(int(seconds * 16000)) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    out = tmp_path / "ü name.mp4"
    assert write_video(out, ramp(25), tone) == 25
    sound = decoded_audio(out)
    assert abs(len(sound) / RATE - 1.0) < 0.025  # one AAC frame
    heard = np.abs(sound) > 0.05
    assert abs(heard.sum() / len(sound) - min(seconds, 1.0)) < 0.15
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_browser_can_play_it(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(10), np.full(6400, 0.1, np.float32))
    text = described(tmp_path / "a.mp4")
    assert "h264 (High)" in text and "aac (LC)" in text and "yuv420p(tv, bt709" in text and "25 fps" in text
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_frames_come_back_in_order_and_in_color(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(30), None, options=EncoderOptions(crf=8))
    frames = list(read_video(tmp_path / "a.mp4"))
    assert len(frames) == 30
    for got, sent in zip(frames, ramp(30), strict=True):
        assert np.abs(got[:, 60:].astype(int) - sent[:, 60:]).max() <= 6
        assert np.abs(got[:, :40].astype(int) - sent[:, :40]).max() <= 6


def test_colors_come_back_without_a_bias(tmp_path):
    """ffmpeg's default conversion darkens by 1.2 levels, at every generation of a video."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    frame = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
    pictures = [frame] * 3
    for _ in range(3):
        write_video(tmp_path / "a.mp4", pictures, None, options=EncoderOptions(crf=4))
        pictures = list(read_video(tmp_path / "a.mp4"))
    error = pictures[1].astype(float) - frame
    assert np.abs(error.mean((0, 1))).max() < 0.5 and np.abs(error).mean() < 1.5


def test_the_encoder_controls_act(tmp_path):
    noise = [np.random.default_rng(i).integers(0, 255, (64, 96, 3), dtype=np.uint8) for i in range(20)]
    size = {}
    for name, options in {
        "fine": EncoderOptions(crf=5),
        "rough": EncoderOptions(crf=45),
        "rate": EncoderOptions(bitrate="100k"),
        "capped": EncoderOptions(crf=5, maxrate="150k", bufsize="50k"),
        "fast": EncoderOptions(crf=5, preset="ultrafast"),
    }.items():
        write_video(tmp_path / f"{name}.mp4", noise, None, options=options)
        size[name] = (tmp_path / f"{name}.mp4").stat().st_size
    assert size["rough"] < size["fine"] / 3 and size["rate"] < size["fine"] / 3 and size["capped"] < size["fine"] / 2
    assert size["fast"] != size["fine"]


def test_every_pixel_format_is_stored_and_the_finer_loses_less(tmp_path):
    """Lossless encoding, so that the error is the pixel format's: thin colored stripes and rows."""
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, ::3], frame[::3] = (180, 90, 40), (20, 60, 160)
    lost = {}
    for pix_fmt, stored in {"yuv420p": "yuv420p", "yuv422p": "yuv422p", "yuv444p": "yuv444p", "rgb24": "gbrp"}.items():
        write_video(tmp_path / "a.mp4", [frame] * 3, None, options=EncoderOptions(pix_fmt=pix_fmt, crf=0))
        assert f" {stored}(" in described(tmp_path / "a.mp4")
        lost[pix_fmt] = np.abs(next(read_video(tmp_path / "a.mp4")).astype(int) - frame).mean()
    assert lost["yuv420p"] > lost["yuv422p"] > 3 * lost["yuv444p"] and lost["rgb24"] == 0 < lost["yuv444p"]


def test_the_sound_can_begin_later(tmp_path):
    save_wav(tmp_path / "a.wav", np.repeat([0.0, 0.5], 16000).astype(np.float32) * np.sin(np.arange(32000)).astype(np.float32))
    write_video(tmp_path / "a.mp4", ramp(25), tmp_path / "a.wav", sound_start=1.0)
    assert np.abs(decoded_audio(tmp_path / "a.mp4"))[4800:-4800].mean() > 0.1


def test_a_folder_of_other_files_is_never_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="other files"):
        write_video(tmp_path / "mine", [np.zeros((8, 8, 4), np.uint8)], None, alpha=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_of_pictures_replaces_an_earlier_one_and_a_failure_does_not(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (8, 10, 4), dtype=np.uint8)
    for count in (3, 2):
        assert write_video(tmp_path / "out", [frame] * count, np.zeros(16000, np.float32), alpha=True) == count
    names = ["000000.png", "000001.png", "audio.wav"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / "000001.png"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]], frame)

    def breaks():
        yield frame
        raise KeyError("renderer")

    with pytest.raises(KeyError):
        write_video(tmp_path / "out", breaks(), None, alpha=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names and len(list(tmp_path.iterdir())) == 1


def test_reading_at_another_rate_keeps_the_duration(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(50), None, fps=50)
    assert len(list(read_video(tmp_path / "a.mp4", fps=25))) == 25


def test_a_failure_leaves_the_earlier_file_alone(tmp_path):
    out = tmp_path / "a.mp4"
    out.write_bytes(b"earlier")

    def breaks():
        yield from ramp(3)
        raise KeyError("renderer")

    with pytest.raises(KeyError):
        write_video(out, breaks(), np.ones(16000, np.float32))
    with pytest.raises(InputError, match="ffmpeg could not write .*invalid preset 'bogus'"):
        write_video(out, ramp(200, 256, 256), None, options=EncoderOptions(preset="bogus"))
    assert out.read_bytes() == b"earlier" and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_sound_that_can_not_be_used_is_found_before_the_first_frame(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    write_video(tmp_path / "mute.mp4", ramp(2), None)
    for name, words in (("text.wav", "not an audio or video file"), ("mute.mp4", "no audio stream"), ("absent.wav", "no file")):
        with pytest.raises(InputError, match=words):
            write_video(tmp_path / "a.mp4", (pytest.fail("rendered") for _ in range(1)), tmp_path / name)
    assert not (tmp_path / "a.mp4").exists()


def test_an_array_may_be_drawn_into_again(tmp_path):
    frame = np.empty((64, 96, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", None, options=EncoderOptions(crf=8)) as writer:
        for i in range(40):
            frame[:] = 6 * i
            writer.write(frame)
        frame[:] = 0
    levels = [shown.mean() for shown in read_video(tmp_path / "a.mp4")]
    np.testing.assert_allclose(levels, 6 * np.arange(40), atol=3)


class SlowProcess(Process):
    """An ffmpeg whose pipe is full until `open` is set; it is broken if `breaks`."""

    breaks = False

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.open, self.taken = threading.Event(), 0

    def write(self, data):
        # In steps: as with the real one, the end of the process ends the waiting.
        for _ in range(1000):
            if self.open.wait(0.01) or not self.running():
                break
        if not self.open.is_set():
            raise BrokenPipeError
        self.taken += 1
        if self.breaks:
            self.kill()
            raise BrokenPipeError
        super().write(data)


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr("data_tools.video.Process", SlowProcess)
    monkeypatch.setattr(SlowProcess, "breaks", False)
    return SlowProcess


def senders():
    return [thread for thread in threading.enumerate() if "_work" in thread.name]


def written_meanwhile(writer, count):
    """A thread that writes `count` frames; what was raised in it is its `error`."""

    def work():
        try:
            for frame in ramp(count):
                writer.write(frame)
        except Exception as error:
            thread.error = error

    thread = threading.Thread(target=work)
    thread.error = None
    thread.start()
    return thread


def test_frames_go_on_while_ffmpeg_is_busy_until_eight_of_them_wait(tmp_path, slow):
    with VideoWriter(tmp_path / "a.mp4", None) as writer:
        thread = written_meanwhile(writer, 30)
        thread.join(0.5)
        assert thread.is_alive() and writer.count == MOST_WAITING + 1, "one is being sent"
        writer._process.open.set()
        thread.join()
    assert thread.error is None and writer.count == writer._process.taken == 30
    assert len(list(read_video(tmp_path / "a.mp4"))) == 30 and not senders()


def test_of_large_frames_few_wait(tmp_path, slow, monkeypatch):
    monkeypatch.setattr("data_tools.video.MOST_WAITING_BYTES", 3 * 64 * 96 * 3)
    with VideoWriter(tmp_path / "a.mp4", None) as writer:
        thread = written_meanwhile(writer, 10)
        thread.join(0.5)
        assert writer.count == 4
        writer._process.open.set()
        thread.join()


def test_ffmpeg_that_breaks_midway_is_told_once(tmp_path, slow, monkeypatch):
    """From the write that waits, or at the end if none follows."""
    with pytest.raises(InputError, match="ffmpeg could not write") as told, VideoWriter(tmp_path / "a.mp4", None) as writer:
        thread = written_meanwhile(writer, 30)
        thread.join(0.3)
        monkeypatch.setattr(slow, "breaks", True)
        writer._process.open.set()
        thread.join(5)
        assert not thread.is_alive() and writer._process.taken == 1
        raise thread.error
    assert told.value is thread.error and not senders() and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="ffmpeg could not write"), VideoWriter(tmp_path / "a.mp4", None) as writer:
        writer.write(next(ramp(1)))
        writer._process.open.set()
    assert not senders() and not list(tmp_path.iterdir())


def test_the_callers_error_ends_everything_while_ffmpeg_is_busy(tmp_path, slow):
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", None) as writer:
        for frame in ramp(MOST_WAITING + 1):
            writer.write(frame)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5 and not senders() and not writer._process.running() and not list(tmp_path.iterdir())


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.mp4"):
        write_video(tmp_path / "a.avi", ramp(1), None)
    with pytest.raises(InputError, match="not a single frame"):
        write_video(tmp_path / "a.mp4", [], None)
    with pytest.raises(InputError, match="95x64"):
        write_video(tmp_path / "a.mp4", ramp(1, width=95), None)
    with pytest.raises(ValueError, match="frame 1"), VideoWriter(tmp_path / "a.mp4", None) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.write(np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(InputError, match="not a file"):
        next(read_video(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(InputError, match="could not read"):
        list(read_video(tmp_path / "text.mp4"))
    assert not [path for path in tmp_path.iterdir() if path.name != "text.mp4"]


def test_reading_can_stop_early(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(60), None)
    reader = read_video(tmp_path / "a.mp4")
    assert next(reader).shape == (64, 96, 3)
    reader.close()
