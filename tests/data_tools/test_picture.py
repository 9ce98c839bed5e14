"""HDR, wide gamuts and interlaced pictures: seen in the file, corrected while it is decoded, and said."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools import crop as crop_tool
from data_tools import picture
from data_tools.encoder import EncoderOptions
from data_tools.errors import InputError
from data_tools.ffmpeg import VideoInfo, ffmpeg_executable, probe
from data_tools.picture import GAMUTS, WHITE_NITS, Corrections, color_correction, color_tags, corrections, judge_fields, to_bt709
from data_tools.video import Box, frames, read_video

SIZE = 256


def encoded(colors: np.ndarray, transfer: str, primaries: str) -> np.ndarray:
    """uint8 BT.709 pictures [..., 3] as a phone would have recorded them: the formulas of BT.2100, backwards. Returns R'G'B' in 0 .. 1."""
    light = (colors / 255.0) ** 2.4 @ (np.linalg.inv(picture._to_xyz(primaries)) @ picture._to_xyz("bt709")).T
    if transfer == "smpte2084":
        y = (light * WHITE_NITS / 10000.0).clip(0.0) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * y) / (1.0 + 2392 / 128 * y)) ** (2523 / 32)
    if transfer == "arib-std-b67":
        nits = (light * WHITE_NITS / 1000.0).clip(1e-7)
        scene = nits * (nits @ [0.2627, 0.6780, 0.0593])[..., None] ** (1 / 1.2 - 1.0)
        return np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-6)) + 0.55991073)
    return light.clip(0.0) ** (1 / 2.4)


def write(path: Path, pictures: np.ndarray, transfer: str, primaries: str, *codec: str) -> Path:
    """Pictures R'G'B' [T, H, W, 3] in 0 .. 1 as a 10-bit video with tags."""
    matrix = "bt2020nc" if primaries == "bt2020" else "bt709"
    tags = f"setparams=range=tv:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}"
    command = [
        ffmpeg_executable(),
        "-v",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb48le",
        "-s",
        f"{SIZE}x{SIZE}",
        "-r",
        "25",
        "-i",
        "-",
    ]
    command += ["-vf", f"scale=out_color_matrix={matrix[:6]}:out_range=tv,format=yuv420p10le,{tags}", *codec]
    # The encoders of older versions do not see what the filter says.
    command += ["-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix, "-color_range", "tv", str(path)]
    data = np.round(pictures.clip(0.0, 1.0) * 65535).astype("<u2").tobytes()
    subprocess.run(command, input=data, check=True)
    return path


@pytest.fixture(scope="module")
def original(avatar):
    return np.stack([frame for frame, _ in zip(read_video(avatar / "video.mp4"), range(4), strict=False)])


FFV1 = ("-c:v", "ffv1")
CASES = [
    # transfer function, primaries, container and codec, mean error in levels before, after
    ("arib-std-b67", "bt2020", "mkv", FFV1, 15.0, 3.0),
    ("arib-std-b67", "bt2020", "mov", ("-c:v", "prores_ks", "-profile:v", "3"), 15.0, 3.5),
    ("smpte2084", "bt2020", "mkv", FFV1, 15.0, 3.5),
    ("smpte2084", "bt2020", "mp4", ("-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "8"), 15.0, 4.0),
    ("bt2020-10", "bt2020", "mkv", FFV1, 3.0, 2.0),
    ("bt709", "smpte432", "mkv", FFV1, 2.0, 1.8),
]


@pytest.mark.parametrize(("transfer", "primaries", "container", "codec", "before", "after"), CASES)
def test_colors_come_out_as_they_were_before_they_were_hdr(tmp_path, original, transfer, primaries, container, codec, before, after):
    path = write(tmp_path / f"a b'c.{container}", encoded(original, transfer, primaries), transfer, primaries, *codec)
    assert (corrections(path).primaries, corrections(path).fields) == (primaries, "")
    shown = np.stack(list(frames(path, (SIZE, SIZE))))
    raw = stored(path)
    assert np.abs(raw.astype(int) - original).mean() > before
    assert np.abs(shown.astype(int) - original).mean() < after
    assert np.abs(np.stack(list(read_video(path))).astype(int) - original).mean() < after
    # Cut out and scaled, as `prepare` reads it.
    small = next(frames(path, (64, 64), crop=Box(64, 64, 128)))
    wanted = original[0, 64:192, 64:192].reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small - wanted).mean() < after + 1


def stored(path):
    """The pictures of a file without any correction."""
    command = [ffmpeg_executable(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, SIZE, SIZE, 3)


def test_ordinary_colors_are_not_touched(tmp_path, original):
    path = write(tmp_path / "a.mkv", original / 255.0, "bt709", "bt709", *FFV1)
    assert corrections(path) == Corrections() and corrections(path).notes == []
    with picture.correcting_filters(path) as found:
        assert found == ([], [], None)


@pytest.mark.parametrize("transfer", ["arib-std-b67", "smpte2084"])
def test_highlights_are_compressed_and_grays_stay_gray(transfer):
    ramp = np.repeat(np.linspace(0.0, 1.0, 100)[:, None], 3, 1)
    shown = to_bt709(ramp, transfer, "bt2020")
    assert np.abs(shown - shown[:, :1]).max() < 1e-4 and (np.diff(shown[:, 0]) >= -1e-9).all()
    white = encoded(np.full((1, 3), 255), transfer, "bt2020")
    assert 0.9 < to_bt709(white, transfer, "bt2020")[0, 0] < 0.97  # room for what is brighter than paper


def test_matrices_keep_white():
    for name in GAMUTS:
        np.testing.assert_allclose(np.linalg.inv(picture._to_xyz("bt709")) @ picture._to_xyz(name) @ np.ones(3), 1.0, atol=1e-9)


@pytest.mark.parametrize(
    ("description", "tags", "needed"),
    [
        ("hevc (Main 10) (hvc1 / 0x3), yuv420p10le(tv, bt2020nc/bt2020/arib-std-b67, progressive), 8x8", "arib-std-b67", "bt2020"),
        ("hevc (Main 10), yuv420p10le(tv, bt2020nc/bt2020/smpte2084), 8x8", "smpte2084", "bt2020"),
        ("vp9 (Profile 2), yuv420p10le(tv, bt2020nc/unknown/smpte2084), 8x8", "smpte2084", "bt2020"),
        ("h264 (High), yuv420p(tv, bt2020nc/unknown/unknown), 8x8", "unknown", "bt2020"),
        ("h264 (High), yuv420p(pc, bt709/smpte432/iec61966-2-1, progressive), 8x8", "iec61966-2-1", "smpte432"),
        ("h264 (High), yuv420p(tv, bt709, progressive), 8x8", "bt709", ""),
        ("h264 (High), yuv420p(tv, smpte170m/bt470bg/smpte170m), 8x8", "smpte170m", ""),
        ("mpeg4 (Simple Profile) (mp4v / 0x7634706D), yuv420p, 512x512", "unknown", ""),
        ("rawvideo (RGB[24]), rgb24, 8x8", "unknown", ""),
    ],
)
def test_what_ffmpeg_says_about_colors_is_understood(description, tags, needed):
    assert color_tags(description)[2] == tags
    assert color_correction(description).primaries == needed


def test_dolby_vision_that_nothing_can_convert_is_refused(tmp_path, monkeypatch):
    side = "\nDOVI configuration record: version: 1.0, profile: 5, level: 6, rpu flag: 1, el flag: 0, bl flag: 1, compatibility id: 0"
    (tmp_path / "a.mp4").write_bytes(b"x")
    info = VideoInfo(8, 8, 25.0, 4.0, None, picture="hevc (Main 10), yuv420p10le(pc), 8x8" + side)
    monkeypatch.setattr(picture, "probe", lambda path: info)
    with pytest.raises(InputError, match=r"Dolby Vision profile 5.*export"):
        corrections(tmp_path / "a.mp4")


# -------- Interlacing


def test_fields_are_judged_by_the_picture_and_the_header_only_breaks_ties():
    assert judge_fields(60, 0, 2, 10, "") == "tff" and judge_fields(0, 20, 0, 52, "tff") == "bff"
    assert judge_fields(0, 0, 70, 2, "tff") == ""  # progressive frames in an interlaced stream
    assert judge_fields(20, 22, 33, 0, "") == ""  # noise, fine patterns
    assert judge_fields(28, 0, 44, 0, "") == "tff"  # films transferred to 60 fields a second: two of five frames are combed
    assert judge_fields(0, 0, 0, 72, "bff") == "bff" and judge_fields(0, 0, 0, 72, "") == "" == judge_fields(0, 0, 0, 0, "")


def moving(path: Path, order: str, flag: str, *codec: str) -> Path:
    """2 s of vertical bars that move, 50 fields a second (or `order` "": progressive)."""
    bars = "color=gray:s=256x128:r=50:d=2[a];color=white:s=24x128:r=50:d=2[b];[a][b]overlay=x='mod(100*t,200)':y=0"
    weave = f"tinterlace=interleave_{order}," if order else "fps=25,"
    ffmpeg("-f", "lavfi", "-i", f"{bars},{weave}setfield={flag},format=yuv420p", *codec, path)
    return path


def combed(path: Path, **options) -> float:
    """Mean difference of neighboring rows, which none of the bars has, in levels."""
    return float(np.mean([np.abs(np.diff(frame[..., 1].astype(int), axis=0)).mean() for frame in frames(path, (256, 128), **options)]))


INTERLACED = ("-flags", "+ilme+ildct")


@pytest.mark.parametrize(
    ("name", "order", "flag", "codec"),
    [
        ("a.mts", "top", "tff", ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", *INTERLACED)),
        ("a.mpg", "bottom", "bff", ("-c:v", "mpeg2video", "-q:v", "2", *INTERLACED)),
        ("a.mov", "top", "tff", ("-c:v", "prores_ks", *INTERLACED)),
        ("a.mkv", "bottom", "prog", ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12")),
    ],
)
def test_combed_frames_are_deinterlaced_whatever_the_header_says(tmp_path, name, order, flag, codec):
    path = moving(tmp_path / name, order, flag, *codec)
    assert corrections(path).fields == {"top": "tff", "bottom": "bff"}[order]
    assert combed(path) < 2.0
    assert sum(1 for _ in frames(path, (256, 128))) in (49, 50, 51)
    (note,) = corrections(path).notes
    assert "interlaced" in note and order in note


def test_progressive_pictures_stay_as_they_are(tmp_path):
    path = moving(tmp_path / "a.mkv", "", "tff", "-c:v", "mpeg2video", "-q:v", "2", *INTERLACED)
    assert "first" in probe(path).picture and corrections(path) == Corrections()


def test_a_file_is_looked_at_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, looked = tmp_path / "a.mp4", []
    path.write_bytes(b"1")
    monkeypatch.setattr(picture, "probe", lambda path: looked.append(path) or VideoInfo(8, 8, 25.0, 4.0, None))
    monkeypatch.setattr(picture, "field_order", lambda *_: "")
    corrections(path), corrections(path)
    assert len(looked) == 1
    path.write_bytes(b"22")
    corrections(path)
    assert len(looked) == 2


def test_what_can_not_be_read_is_left_to_the_decoder(tmp_path):
    assert corrections(tmp_path / "absent.mp4") == Corrections()
    (tmp_path / "text.mp4").write_text("no video")
    assert corrections(tmp_path / "text.mp4") == Corrections()


def test_the_tools_say_what_they_corrected(mediapipe, avatar, tmp_path, caplog):
    source = tmp_path / "a.mp4"
    ffmpeg("-i", avatar / "video.mp4", "-t", "1", "-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc",
           "-color_primaries", "bt2020", "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc", "-c:v", "libx264", "-preset", "ultrafast",
           "-c:a", "copy", source)  # fmt: skip
    with caplog.at_level("INFO"):
        crop_tool.crop(source, tmp_path / "face.mp4", size=64, options=EncoderOptions(preset="ultrafast"))
    assert "HDR (HLG, BT.2020) was tone-mapped to BT.709" in caplog.text
