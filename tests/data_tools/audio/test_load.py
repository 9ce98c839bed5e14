"""Decoding: any container becomes 16 kHz mono, and every kind of unusable file gets its own sentence."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import soundfile

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, file_argument


def tone(seconds: float = 1.0, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_wav_round_trip_is_exact_to_16_bits(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    save_wav(tmp_path / "a.wav", samples)
    assert np.abs(load_audio(tmp_path / "a.wav") - samples).max() < 1.6 / 32768
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("name", ["-i.wav", "mit Leerzeichen und Ümlaut.wav", "a:b.wav", "100%d.wav"])
def test_odd_names_are_only_names(tmp_path, monkeypatch, name):
    save_wav(tmp_path / name, tone())
    monkeypatch.chdir(tmp_path)
    assert load_audio(name).shape == (SAMPLE_RATE,)


def test_stereo_44100_becomes_mono_16000(tmp_path):
    left = tone(rate=44100)
    soundfile.write(tmp_path / "s.flac", np.stack([left, 0.5 * left], axis=1), 44100)
    samples = load_audio(tmp_path / "s.flac")
    assert abs(len(samples) - SAMPLE_RATE) <= 2
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.01)
    spectrum = np.abs(np.fft.rfft(samples[:SAMPLE_RATE]))
    assert spectrum.argmax() == 440


def test_sound_of_a_video(tmp_path):
    save_wav(tmp_path / "a.wav", tone())
    command = [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=1", "-i", str(tmp_path / "a.wav")]
    subprocess.run([*command, "-c:a", "aac", file_argument(tmp_path / "v.mp4")], check=True)
    assert abs(len(load_audio(tmp_path / "v.mp4")) - SAMPLE_RATE) < 1500


def test_refusals_name_the_file_and_the_reason(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is a letter, not a recording\n" * 50)
    save_wav(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE))
    save_wav(tmp_path / "short.wav", tone(0.5))
    save_wav(tmp_path / "header_only.wav", np.zeros(0))
    subprocess.run(
        [ffmpeg_executable(), "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=1", file_argument(tmp_path / "mute.mp4")], check=True
    )
    expected = {
        "missing.wav": "no file",
        "empty.wav": "empty",
        "text.wav": "not an audio or video file",
        "silent.wav": "silent",
        "short.wav": "0.50 s",
        "header_only.wav": "empty",
        "mute.mp4": "no audio stream",
    }
    for name, words in expected.items():
        with pytest.raises(InputError, match=words) as caught:
            load_audio(tmp_path / name, min_seconds=1.0)
        message = str(caught.value)
        assert name in message and message.endswith(".") and "\n" not in message


def test_a_playlist_cannot_reach_the_network(tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError):
        load_audio(tmp_path / "list.m3u8")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    save_wav(tmp_path / "a.wav", tone())
    before = (tmp_path / "a.wav").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        save_wav(tmp_path / "a.wav", tone(hertz=100.0))
    assert (tmp_path / "a.wav").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
