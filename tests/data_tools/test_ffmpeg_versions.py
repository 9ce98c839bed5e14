"""Options and filters are those that ffmpeg 4.2 has and later versions still have. GENEFACE_OLD_FFMPEG names an old one to try."""

import os
import re

import numpy as np
import pytest
from synthetic_video import color_video, ffmpeg

import data_tools.ffmpeg
from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.avatar import clip
from data_tools.encoder import EncoderOptions
from data_tools.ffmpeg import probe
from data_tools.video import Box, frames, read_video, write_video
from geneface_jax.inference.streaming import encode

OPTIONS = set(
    "hide_banner nostdin v y i f t ss r s map c c:v c:a vn an af vf ar b:a b:v pix_fmt progress nostats crf preset tune g profile:v "
    "maxrate bufsize noaccurate_seek frames:v protocol_whitelist format_whitelist max_pixels movflags frag_duration flush_packets "
    "probesize analyzeduration ac auto-alt-ref deadline cpu-used row-mt color_primaries color_trc colorspace color_range".split()
)
"""Options of the command line in ffmpeg 4.2's manual that 9.0 still has. These are not: vsync (gone), fps_mode, ch_layout (newer)."""

FILTERS = {
    "fps": {"fps", "start_time"},
    "scale": {"w", "h", "width", "height", "flags", "out_color_matrix", "out_range", "in_color_matrix", "in_range"},
    "crop": {"exact"},
    "format": {"pix_fmts"},
    "setparams": {"color_primaries", "color_trc", "colorspace", "range", "field_mode"},
    "settb": set(),
    "setpts": set(),
    "aresample": {"rematrix_maxval", "async", "first_pts", "osr", "isr"},
    "aformat": {"channel_layouts", "sample_fmts", "sample_rates"},
    "atrim": {"end_sample", "start_sample"},
    "asetpts": set(),
    "apad": set(),
    "pan": set(),
    "bwdif": {"mode", "parity", "deint"},
    "idet": set(),
    "lut3d": {"file", "interp"},
}
"""Filters of ffmpeg 4.2 -> their options, as far as they are used here."""


def pictures(count: int, channels: int = 3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, channels), dtype=np.uint8) for _ in range(count)]


def everything(folder) -> None:
    """Reads and writes in every way that the code has."""
    tone = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.2)).astype(np.float32)
    save_wav(folder / "mono.wav", tone)
    video = color_video(folder / "stereo.mp4", seconds=1.0, sound="sine=f=220,pan=stereo|c0=c0|c1=-1*c0")
    assert probe(video).seconds == pytest.approx(1.0, abs=0.1) and len(list(read_video(video))) == 25
    assert len(list(read_video(video, fps=10))) == 10
    assert len(list(frames(video, (32, 32), crop=Box(20, 20, 64), trim=(0.2, 0.6)))) == 10
    ffmpeg("-i", video, "-c", "copy", "-f", "matroska", "-live", "1", folder / "live.webm")
    assert probe(folder / "live.webm").seconds == pytest.approx(1.0, abs=0.1)
    assert np.abs(load_audio(video)).max() > 0.1
    for name, options in {
        "a": {},
        "b": {"pix_fmt": "rgb24", "crf": 0},
        "c": {"maxrate": "1M", "bufsize": "2M"},
        "d": {"bitrate": "1M"},
    }.items():
        write_video(folder / f"{name}.mp4", pictures(25), video, options=EncoderOptions(**options))
        assert len(list(read_video(folder / f"{name}.mp4"))) == 25 and len(load_audio(folder / f"{name}.mp4")) == pytest.approx(
            16000, abs=1500
        )
    assert "bt709" in probe(folder / "a.mp4").picture
    write_video(folder / "a.webm", pictures(5, 4), tone, alpha=True)
    assert probe(folder / "a.webm").alpha
    data = b"".join(encode((picture, tone[:640]) for picture in pictures(10)))
    (folder / "stream.mp4").write_bytes(data)
    assert len(list(read_video(folder / "stream.mp4"))) == 10
    clip._encode(folder / "clip.mp4", pictures(5), folder / "mono.wav", 64)


def test_every_option_is_one_of_ffmpeg_4_2(tmp_path, monkeypatch):
    commands = []
    popen = data_tools.ffmpeg.subprocess.Popen

    def record(command, **options):
        commands.append(command)
        return popen(command, **options)

    monkeypatch.setattr(data_tools.ffmpeg.subprocess, "Popen", record)
    everything(tmp_path)
    monkeypatch.undo()
    ours = [command for command in commands if "-protocol_whitelist" in command or "pipe:0" in command]
    assert len(ours) > 20
    for command in ours:
        for word, value in zip(command, [*command[1:], ""], strict=True):
            if re.match(r"-[a-z]", word):
                assert word[1:] in OPTIONS, word
            if word in ("-vf", "-af"):
                check_filters(value)


def check_filters(chain: str) -> None:
    for part in re.split(r"(?<!\\),(?=(?:[^']*'[^']*')*[^']*$)", chain):
        name, _, arguments = part.partition("=")
        assert name in FILTERS, name
        for option in re.findall(r"(?:^|:)([a-z_]+)=", re.sub(r"'[^']*'", "", arguments)):
            assert option in FILTERS[name], f"{name}={option}"


def test_the_check_finds_what_is_too_new():
    check_filters("scale=w='if(gt(sar,0)*not(eq(sar,1)),trunc(iw*sar/2)*2,iw)':h=ih,fps=25:start_time=0")
    with pytest.raises(AssertionError, match="aresample=ochl"):
        check_filters("aresample=ochl=mono")


def test_an_old_ffmpeg_does_it_all(tmp_path, monkeypatch):
    old = os.environ.get("GENEFACE_OLD_FFMPEG")
    if not old:
        pytest.skip("GENEFACE_OLD_FFMPEG names no old ffmpeg (the package imageio-ffmpeg 0.4.2 holds 4.2.2)")
    monkeypatch.setattr(data_tools.ffmpeg, "ffmpeg_executable", lambda: old)
    monkeypatch.setattr("synthetic_video.ffmpeg_executable", lambda: old)
    everything(tmp_path)
