import re
import subprocess

import numpy as np
import pytest
from synthetic_video import color_video, ffmpeg

from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, probe
from data_tools.video import MAX_PIXELS, Box, frames, read_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return color_video(tmp_path_factory.mktemp("vidéo à tester") / "ein Clip: 1.mp4", seconds=2.0)


def test_probe_tells_size_rate_length_and_sound(video):
    info = probe(video)
    assert (info.width, info.height, info.fps) == (160, 120, 25.0)
    assert info.seconds == pytest.approx(2.0, abs=0.1)
    assert "aac" in info.audio


def test_rotation_turns_the_reported_and_the_read_size(video, tmp_path):
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", f"file:{video}", "-c", "copy", turned)
    info = probe(turned)
    assert (info.width, info.height) == (120, 160)
    upright = next(frames(video, (160, 120)))
    assert np.abs(next(frames(turned, (120, 160))).astype(int) - np.rot90(upright)).mean() < 6


@pytest.mark.parametrize("content", [b"", b"no video", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match="clip.mp4"):
        probe(path)


def test_sound_alone_is_refused_and_so_is_nothing(tmp_path):
    ffmpeg("-f", "lavfi", "-t", "1", "-i", "sine", tmp_path / "a.wav")
    for name in ("a.wav", "absent.mp4"):
        with pytest.raises(InputError, match=name):
            probe(tmp_path / name)


@pytest.mark.parametrize("fps", [10, 23.976, 60])
def test_any_frame_rate_becomes_25(tmp_path, fps):
    path = color_video(tmp_path / "v.mp4", seconds=2.0, fps=fps)
    assert abs(sum(1 for _ in frames(path, (32, 24))) - 50) <= 1


def test_trim_takes_the_named_frames(video):
    whole = list(frames(video, (160, 120)))
    part = list(frames(video, (160, 120), trim=(0.4, 1.0)))
    assert len(part) == 15
    assert np.abs(part[0].astype(int) - whole[10]).mean() < 1


def test_crop_takes_the_named_square(video):
    whole = next(frames(video, (160, 120)))
    part = next(frames(video, (64, 64), crop=Box(30, 18, 64)))
    assert np.abs(part.astype(int) - whole[18:82, 30:94]).mean() < 3


def test_leaving_early_ends_ffmpeg(video):
    stream = frames(video, (160, 120))
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize(
    ("pixels", "same"), [("yuv420p10le", "yuv420p"), ("yuv444p12le", "yuv444p"), ("gbrp10le", "gbrp"), ("gray16le", "gray")]
)
def test_deeper_pictures_become_8_bits(tmp_path, pixels, same):
    """A 16-bit picture once stopped the reader, and the reader ffmpeg, for ever."""
    for name in (pixels, same):
        ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.4", "-pix_fmt", name, "-c:v", "ffv1", tmp_path / f"{name}.mkv")
    for reader in (read_video, lambda path: frames(path, (64, 48))):
        deep, shallow = (list(reader(tmp_path / f"{name}.mkv")) for name in (pixels, same))
        assert len(deep) == 10 and deep[0].dtype == np.uint8 and deep[0].shape == (48, 64, 3)
        assert np.abs(deep[0].astype(int) - shallow[0]).mean() < 3


@pytest.mark.parametrize("rate", ["select='not(eq(mod(n,7),3))'", "setpts='PTS+gt(N,3)*8/TB'", "fps=10"])
def test_every_frame_is_read_once_at_any_rate(tmp_path, rate):
    """Also where frames are missing, far apart, or the last one lasts long."""
    path = tmp_path / "v.mkv"
    source = f"testsrc=s=64x48:r=25:d=1,{rate},showinfo"
    command = [ffmpeg_executable(), "-v", "info", "-f", "lavfi", "-i", source, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert sum(1 for _ in read_video(path)) == len(re.findall(r"\] n: *\d+ pts:", said)) > 5


def test_huge_pictures_are_refused_before_they_are_decoded(video, monkeypatch):
    readers = (read_video, lambda path: frames(path, (64, 48)))
    assert int(MAX_PIXELS[1]) >= 7680 * 4320 and all(len(list(reader(video))) == 50 for reader in readers)
    monkeypatch.setattr("data_tools.video.MAX_PIXELS", ("-max_pixels", "10000"))
    for reader in readers:
        with pytest.raises(InputError):
            list(reader(video))
