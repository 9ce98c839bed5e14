"""What a file's author wrote into it decides nothing: titles, comments, languages and names that imitate ffmpeg's messages."""

import pytest
from synthetic_video import color_video, ffmpeg

from data_tools.audio.sound import load_audio
from data_tools.errors import InputError
from data_tools.ffmpeg import parse_description, probe

TEXTS = [
    ("title", "My Video: part 1"),
    ("title", "Video: interview, take 2"),
    ("comment", "Format not on whitelist"),
    ("comment", "moov atom not found"),
    ("comment", "Audio: aac, 44100 Hz, stereo"),
    ("comment", "Duration: 00:00:00.00, start: 0, rotation of -90.00 degrees, Estimating duration from bitrate"),
    ("comment", "x\n  Stream #0:5: Audio: aac, 44100 Hz, stereo"),
    ("comment", "x\u2028  Stream #0:5: Audio: aac, 44100 Hz, stereo\x0b  Stream #0:6: Audio: aac"),
    ("Stream #0:0(und)", "Video: h264, yuv420p, 4x4, 1 fps"),
    ("Stream #0:1[0x2](und)", "Audio: aac, 44100 Hz, stereo"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return color_video(folder / "with.mp4", seconds=1.0), color_video(folder / "without.mp4", seconds=1.0, sound=None)


@pytest.mark.parametrize(("key", "text"), TEXTS)
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_texts_of_the_file_decide_nothing(clips, tmp_path, key, text, container):
    for clip, sound in zip(clips, ("aac", None), strict=True):
        path = tmp_path / f"{clip.stem}.{container}"
        ffmpeg("-i", clip, "-c", "copy", "-metadata", f"{key}={text}", "-movflags", "use_metadata_tags", path)
        info, plain = probe(path), probe(clip)
        assert (info.width, info.height, info.fps) == (plain.width, plain.height, plain.fps)
        assert info.seconds == pytest.approx(1.0, abs=0.1)
        assert (info.audio is None) == (sound is None) and len(info.tracks) == (sound is not None)
    with pytest.raises(InputError, match="has no audio stream"):
        load_audio(path)


def test_the_language_of_a_stream_decides_nothing(clips, tmp_path):
    path = tmp_path / "a.mkv"
    language = ("-metadata:s:a:0", "language=x): Video: h264, 4x4", "-metadata:s:v:0", "language=y): Audio: aac, 8000 Hz, mono")
    ffmpeg("-i", clips[0], "-c", "copy", *language, path)
    info = probe(path)
    assert (info.width, info.height) == (160, 120) and len(info.tracks) == 1 and "44100 Hz" in info.audio


@pytest.mark.parametrize("name", ["Video: 2024", "Audio: x", "Duration: 00:00:09.00", "a\n  Stream #0:3: Audio: aac, 8000 Hz, stereo"])
def test_the_name_of_a_file_decides_nothing(clips, tmp_path, name):
    (tmp_path / name).mkdir()
    path = tmp_path / name / f"{name}.mp4"
    path.write_bytes(clips[1].read_bytes())
    assert probe(path).audio is None and probe(path).seconds == pytest.approx(1.0, abs=0.1)


OLD = """Input #0, matroska,webm, from 'the file':
  Metadata:
    title           : Stream #0:7: Audio: aac
  Duration: 00:00:05.16, start: -0.023000, bitrate: 462 kb/s
    Stream #0:0: Video: h264 (High), yuv420p(progressive), 512x512 [SAR 1:1 DAR 1:1], 25 fps, 25 tbr, 1k tbn, 50 tbc (default)
    Metadata:
      Stream #0:1     : Audio: aac
    Side data:
      displaymatrix: rotation of -90.00 degrees
    Stream #0:1(x): Video: h264, 4x4): Audio: aac (LC), 44100 Hz, stereo, fltp (default)
At least one output file must be specified
"""


def test_old_and_new_descriptions_are_read_alike():
    new = OLD.replace("    Stream #0:0: V", "  Stream #0:0[0x1](und): V").replace("    Stream #0:1(x)", "  Stream #0:1[0x2](x)")
    for text in (OLD, new):
        media = parse_description(text)
        assert [stream.kind for stream in media.streams] == ["Video", "Audio"]
        assert media.streams[0].side_data.strip() == "displaymatrix: rotation of -90.00 degrees" and not media.streams[1].side_data
        assert media.streams[1].description.startswith("aac (LC), 44100 Hz")
        assert (media.seconds, media.start, media.guessed) == (5.16, -0.023, False)


def test_a_stream_of_two_programs_counts_once_and_contradictions_are_imitations():
    twice = OLD.replace("At least", "    Stream #0:1(x): Video: h264, 4x4): Audio: aac (LC), 44100 Hz, stereo, fltp (default)\nAt least")
    assert len(parse_description(twice).streams) == 2
    assert parse_description(twice.replace("At least", "    Stream #0:0: Video: h264, 4x4\nAt least")).streams == ()
    assert parse_description(OLD.replace("At least", "  Duration: 00:00:01.00, start: 0\nAt least")).seconds == 0.0


def test_covers_are_no_video_and_alpha_is_of_the_picture(clips, tmp_path):
    ffmpeg("-i", clips[1], "-frames:v", "1", tmp_path / "cover.png")
    sound = ("-f", "lavfi", "-t", "1", "-i", "sine")
    ffmpeg(
        *sound, "-i", tmp_path / "cover.png", "-map", "0", "-map", "1", "-c:v", "png", "-disposition:v", "attached_pic", tmp_path / "a.mp3"
    )
    with pytest.raises(InputError, match="sound but no picture"):
        probe(tmp_path / "a.mp3")
    ffmpeg("-i", clips[1], "-c", "copy", "-metadata:s:v", "alpha_mode=1", tmp_path / "tag.mkv")
    assert not probe(tmp_path / "tag.mkv").alpha
    ffmpeg("-i", clips[1], "-vf", "format=yuva420p", "-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-frames:v", "3", tmp_path / "a.webm")
    assert probe(tmp_path / "a.webm").alpha
