import numpy as np
import pytest
from synthetic_video import color_video, ffmpeg

from data_tools.errors import InputError
from data_tools.ffmpeg import probe
from data_tools.video import Box, frames


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
