"""Sound as users' files have it: late, with gaps, in several tracks, of opposite phase, too loud, too quiet, cut off, endless."""

import logging
import re
import resource

import numpy as np
import pytest
import soundfile
from synthetic_video import color_video, ffmpeg

from data_tools.audio import sound
from data_tools.audio.sound import SAMPLE_RATE, SoundTrack, check_samples, find_sound, load_audio, load_track, save_wav
from data_tools.errors import InputError
from data_tools.video import write_video


def tone(seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def onset(samples: np.ndarray) -> float:
    """Seconds before the first sound."""
    return np.flatnonzero(np.abs(samples) > 0.1)[0] / SAMPLE_RATE


def black(seconds: float):
    return (np.zeros((64, 64, 3), np.uint8) for _ in range(round(25 * seconds)))


@pytest.fixture
def speech(tmp_path):
    save_wav(tmp_path / "speech.wav", tone())
    return tmp_path / "speech.wav"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.mov", "pcm_s16le"), ("a.ts", "mp2")])
def test_sound_that_begins_late_stays_late_in_the_samples_and_in_the_video(tmp_path, speech, name, codec):
    picture = color_video(tmp_path / "picture.mp4", seconds=2.2, sound=None)
    late = ("-i", picture, "-itsoffset", "0.94", "-i", speech, "-map", "0:v", "-map", "1:a")
    ffmpeg(*late, "-c:v", "copy", "-c:a", codec, tmp_path / name)
    samples, track = load_track(tmp_path / name)
    assert onset(samples) == pytest.approx(0.94, abs=0.03) and len(samples) / SAMPLE_RATE == pytest.approx(1.94, abs=0.06)
    write_video(tmp_path / "out.mp4", black(2), track)
    assert onset(load_audio(tmp_path / "out.mp4")) == pytest.approx(onset(samples), abs=0.002)
    part = load_track(tmp_path / name, span=(0.5, 2.0))[0]
    assert onset(part) == pytest.approx(0.44, abs=0.03)


def test_gaps_become_silence(tmp_path, speech):
    ffmpeg("-i", speech, "-af", "asetpts='if(gt(T,0.5),PTS+1/TB,PTS)'", "-c:a", "pcm_s16le", tmp_path / "gap.mkv")
    samples = load_audio(tmp_path / "gap.mkv")
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.02) and np.abs(samples[12000:20000]).max() < 0.01


@pytest.fixture
def recording(tmp_path, speech):
    """As a screen recorder makes them: a silent track, one with speech, one with other sound."""
    inputs = ("-f", "lavfi", "-t", "1", "-i", "anullsrc", "-i", speech, "-f", "lavfi", "-t", "1", "-i", "sine=f=1000")
    ffmpeg(*inputs, "-map", "0", "-map", "1", "-map", "2", "-c:a", "aac", tmp_path / "tracks.mkv")
    return tmp_path / "tracks.mkv"


def loudest_hertz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples[:SAMPLE_RATE])).argmax()) * SAMPLE_RATE / len(samples[:SAMPLE_RATE])


def test_the_first_track_with_sound_is_taken_and_said(tmp_path, recording, caplog):
    with caplog.at_level(logging.WARNING):
        samples, track = load_track(recording)
    assert track == SoundTrack(recording, 1) == find_sound(recording) and loudest_hertz(samples) == pytest.approx(440, abs=3)
    assert "3 sound tracks, and track 2 is used, since track 1 is silent" in caplog.text
    write_video(tmp_path / "out.mp4", black(1), recording)  # finds the same track
    assert loudest_hertz(load_audio(tmp_path / "out.mp4")) == pytest.approx(440, abs=3)


def test_a_track_can_be_chosen(tmp_path, recording):
    samples, track = load_track(recording, track=3)
    assert loudest_hertz(samples) == pytest.approx(1000, abs=3)
    write_video(tmp_path / "out.mp4", black(1), track)
    assert loudest_hertz(load_audio(tmp_path / "out.mp4")) == pytest.approx(1000, abs=3)
    with pytest.raises(InputError, match="silent"):
        load_audio(recording, track=1)
    for number in (0, 4):
        with pytest.raises(InputError, match=f"has no sound track {number}: give a number from 1 to 3"):
            load_audio(recording, track=number)


@pytest.mark.parametrize("codec", ["wav", "mp3"])
def test_channels_that_cancel_each_other_out(tmp_path, speech, codec, caplog):
    path = tmp_path / f"phase.{codec}"
    ffmpeg("-i", speech, "-af", "pan=stereo|c0=0.7*c0|c1=-1*c0", path)
    with caplog.at_level(logging.WARNING):
        samples, track = load_track(path)
    assert track.channel == 1 and "the right one alone is used" in caplog.text
    assert np.abs(samples).max() == pytest.approx(0.4, abs=0.04)
    write_video(tmp_path / "out.mp4", black(1), path)
    assert np.abs(load_audio(tmp_path / "out.mp4")[2000:-2000]).max() == pytest.approx(0.4, abs=0.05)


def test_ordinary_stereo_is_averaged_in_silence(tmp_path, caplog):
    left, right = tone(), tone(hertz=1000.0)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), SAMPLE_RATE)
    with caplog.at_level(logging.WARNING):
        samples, track = load_track(tmp_path / "stereo.wav")
    assert track.channel is None and not caplog.text
    assert np.abs(samples - (left + right) / 2).max() < 1e-3


@pytest.mark.parametrize("scale", [1e30, 32768.0])
def test_samples_of_another_scale_are_refused_before_the_work(tmp_path, scale):
    samples = tone()
    samples[5000] = scale
    soundfile.write(tmp_path / "loud.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="where full scale is 1"):
        load_audio(tmp_path / "loud.wav")
    with pytest.raises(InputError, match="The recording has values up to"):
        check_samples(samples, "The recording")
    for value in (np.nan, -np.inf):
        samples[5000] = value
        with pytest.raises(InputError, match="not finite"):
            check_samples(samples, "The recording")


def test_quiet_sound_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check_samples(tone(), "A")
        assert not caplog.text
        check_samples(0.003 * tone(), "A")
    assert "A is very quiet (-6" in caplog.text


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a"])
def test_half_a_file_is_said(tmp_path, name, caplog):
    save_wav(tmp_path / "whole.wav", tone(4.0))
    ffmpeg("-i", tmp_path / "whole.wav", "-movflags", "+faststart", tmp_path / name)
    with caplog.at_level(logging.WARNING):
        load_audio(tmp_path / name)
        assert not caplog.text
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 6 // 10])
        assert 1.5 < len(load_audio(tmp_path / name)) / SAMPLE_RATE < 3.0
    assert re.search(r"says that it lasts (4.0|3.9) s, but its sound ends after [12]", caplog.text)


def test_a_wav_that_was_written_to_a_pipe_has_no_length_and_is_no_half(tmp_path, caplog):
    save_wav(tmp_path / "a.wav", tone())
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert len(load_audio(tmp_path / "a.wav")) == SAMPLE_RATE
    assert not caplog.text


def endless(path, hours: float = 1.0):
    """18 kB of which every timestamp is 0: limits on time never end it."""
    silence = ("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", f"{3600 * hours:g}", "-c:a", "flac", "-frame_size", "65535")
    ffmpeg(*silence, "-bsf:a", "setts=pts=0:dts=0", path)
    return path


def resident() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_decoding_is_bounded_by_samples_not_by_timestamps(tmp_path):
    """0.1.0 took 37 kB of memory for each of these bytes."""
    path = endless(tmp_path / "zero.mkv")
    assert path.stat().st_size < 100_000
    before = resident()
    with pytest.raises(InputError, match="silent"):
        load_audio(path, max_seconds=600)
    assert resident() - before < 100e6


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("obedient", [True, False])
def test_long_recordings_are_refused_after_the_limit_is_decoded(tmp_path, monkeypatch, channels, obedient):
    """ffmpeg is told to stop there, and is not read any further if it does not."""
    if not obedient:
        monkeypatch.setattr(
            SoundTrack, "filters", lambda self, rate, most, layout: [f"aresample={rate}", f"aformat=channel_layouts={layout}"]
        )
    ffmpeg("-f", "lavfi", "-i", "sine=r=16000", "-t", "60", "-ac", str(channels), tmp_path / "long.flac")
    read = []
    original = sound.Process.read
    monkeypatch.setattr(sound.Process, "read", lambda self, size: read.append(data := original(self, size)) or data)
    with pytest.raises(InputError, match="is longer than 20 s: use a part of it"):
        load_audio(tmp_path / "long.flac", max_seconds=20)
    assert sum(map(len, read)) <= 4 * channels * (20 * SAMPLE_RATE + 1) + (1 << 20)
    assert len(load_audio(tmp_path / "long.flac", max_seconds=60)) == 60 * SAMPLE_RATE


def test_a_gap_of_hours_takes_no_memory_of_ffmpeg(tmp_path):
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=r=16000",
        "-t",
        "4",
        "-c:a",
        "flac",
        "-bsf:a",
        "setts=ts='if(gt(N,3),TS+72000/TB,TS)'",
        tmp_path / "gap.mkv",
    )
    with pytest.raises(InputError, match="is longer than 600 s"):
        load_audio(tmp_path / "gap.mkv", max_seconds=600)
    filters = SoundTrack(tmp_path / "gap.mkv").filters(SAMPLE_RATE, 600 * SAMPLE_RATE)
    assert any(f"min(PTS\\,{600 * SAMPLE_RATE})" in part for part in filters)
