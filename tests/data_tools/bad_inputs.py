"""User videos with typical defects, each made from a few seconds of the avatar, and the outcome of `prepare` for each.

The table in docs/data-tools.md is written from this list.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from synthetic_video import color_video, ffmpeg

from data_tools.errors import InputError
from data_tools.prepare import prepare

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "14")
COPY_SOUND = (*H264, "-c:a", "copy")
SECONDS = 3.2
SKIN = "0xd9a68a"


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: its name, a function that makes it from the avatar's clip in a folder (returns its path), and whether it is refused before
    any picture is decoded."""

    name: str
    make: Callable[[Path, Path], Path]
    quick: bool = False


def _filtered(video_filter: str, *options: str, name: str = "clip.mp4") -> Callable[[Path, Path], Path]:
    def make(clip: Path, folder: Path) -> Path:
        ffmpeg("-i", clip, "-filter_complex", video_filter, *(options or COPY_SOUND), folder / name)
        return folder / name

    return make


def _options(*options: str, name: str = "clip.mp4") -> Callable[[Path, Path], Path]:
    def make(clip: Path, folder: Path) -> Path:
        ffmpeg("-i", clip, *options, folder / name)
        return folder / name

    return make


def _content(data: bytes, name: str = "clip.mp4") -> Callable[[Path, Path], Path]:
    def make(clip: Path, folder: Path) -> Path:
        (folder / "neighbour.mp4").write_bytes(clip.read_bytes())
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _rotated(clip: Path, folder: Path) -> Path:
    ffmpeg("-i", clip, "-vf", "transpose=clock", *COPY_SOUND, folder / "lying.mp4")
    ffmpeg("-display_rotation", "90", "-i", folder / "lying.mp4", "-c", "copy", folder / "clip.mp4")
    return folder / "clip.mp4"


def _cut_off(share: float, *options: str) -> Callable[[Path, Path], Path]:
    def make(clip: Path, folder: Path) -> Path:
        ffmpeg("-i", clip, "-c", "copy", *options, folder / "whole.mp4")
        data = (folder / "whole.mp4").read_bytes()
        (folder / "clip.mp4").write_bytes(data[: int(len(data) * share)])
        return folder / "clip.mp4"

    return make


def _hand(seconds: float) -> Callable[[Path, Path], Path]:
    """A skin-colored rectangle over the face for a while."""
    return _filtered(f"drawbox=x=iw*0.3:y=ih*0.25:w=iw*0.4:h=ih*0.5:color={SKIN}:t=fill:enable='between(t,1,{1 + seconds})'")


def _renamed(name: str) -> Callable[[Path, Path], Path]:
    def make(clip: Path, folder: Path) -> Path:
        (folder / name).write_bytes(clip.read_bytes())
        return folder / name

    return make


def _tagged(transfer: str) -> Callable[[Path, Path], Path]:
    """10 bits per channel with the tags of an HDR video."""
    tags = f"format=yuv420p10le,setparams=range=tv:color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc"
    return _filtered(tags, "-c:v", "libx265", "-x265-params", "log-level=none", "-c:a", "copy")


def _photo(clip: Path, folder: Path) -> Path:
    """The first frame for the whole clip, with the speech."""
    return _filtered("[0:v]trim=end_frame=1,loop=loop=-1:size=1,setpts=N/25/TB[v]", "-map", "[v]", "-map", "0:a", "-shortest", *COPY_SOUND)(
        clip, folder
    )


def _folder(clip: Path, folder: Path) -> Path:
    (folder / "clip.mp4").mkdir()
    return folder / "clip.mp4"


def _fifo(clip: Path, folder: Path) -> Path:
    os.mkfifo(folder / "clip.mp4")
    return folder / "clip.mp4"


def _without_length(clip: Path, folder: Path) -> Path:
    """As a browser records: nothing can be written into the headers afterwards."""
    ffmpeg("-i", clip, "-c", "copy", "-f", "matroska", "-live", "1", folder / "clip.webm")
    return folder / "clip.webm"


def _silent_track_first(clip: Path, folder: Path) -> Path:
    """As a screen recorder makes them: the desktop's sound, then the microphone's."""
    silence = ("-f", "lavfi", "-t", f"{SECONDS}", "-i", "anullsrc")
    ffmpeg("-i", clip, *silence, "-map", "0:v", "-map", "1:a", "-map", "0:a", "-c:v", "copy", "-c:a", "aac", folder / "clip.mp4")
    return folder / "clip.mp4"


def _no_frames(clip: Path, folder: Path) -> Path:
    ffmpeg("-i", clip, "-c:a", "copy", "-vf", "select=0", *H264, folder / "clip.mp4")
    return folder / "clip.mp4"


def _picture(clip: Path, folder: Path) -> Path:
    ffmpeg("-i", clip, "-frames:v", "1", "-f", "image2", "-c:v", "png", "-update", "1", folder / "clip.mp4")
    return folder / "clip.mp4"


_INTERLACED = "color=0x8a948c:s=384x256:r=50[b];[0:v]fps=50[v];[b][v]overlay=x='30*t':shortest=1,tinterlace=interleave_top,setfield=tff"
"""The avatar moves sideways, so that the two halves of every frame differ."""
_POSTER = (
    "[0:v]split[a][b];[a]pad=576:320:0:32:gray[a];[b]trim=end_frame=1,loop=loop=-1:size=1,setpts=N/25/TB,scale=320:320[b];"
    "[a][b]overlay=x=256:y=0:shortest=1"
)
_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nneighbour.mp4\n#EXT-X-ENDLIST\n"
_PASSER = "[0]split[a][b];[a]pad=512:256:0:0:gray[a];[b]scale=150:150[b];[a][b]overlay=x='256+90*t':y=60:enable='between(t,0.6,1.1)'"

CASES = [
    Case("the avatar, 256x256, 25 fps, sound", _options("-c", "copy")),
    # Formats.
    Case("turned by 90 degrees in its metadata", _rotated),
    Case(
        "10 bits per color channel (HEVC)",
        _options("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le", "-c:a", "copy"),
    ),
    Case("HDR of phones (HLG, 10 bits)", _tagged("arib-std-b67")),
    Case("HDR (PQ, 10 bits)", _tagged("smpte2084")),
    Case("colors of BT.2020, no HDR", _tagged("bt2020-10")),
    Case(
        "interlaced, 50 fields a second (MTS)",
        _filtered(_INTERLACED, *COPY_SOUND, "-pix_fmt", "yuv420p", "-flags", "+ilme+ildct", name="clip.mts"),
    ),
    Case("4K (3840x2160)", _filtered("scale=1600:1600,pad=3840:2160:1300:300:gray")),
    Case("23.976 fps", _filtered("fps=24000/1001")),
    Case("60 fps", _filtered("fps=60")),
    Case("pixels that are not square (SAR 4:3)", _filtered("scale=192:256,setsar=4/3")),
    Case("recorded by a browser: no length in the headers", _without_length),
    Case("8 channels of sound", _options("-c:v", "copy", "-ac", "8", "-c:a", "aac")),
    Case("sound 1 s longer than the picture", _filtered("[0:a]apad=pad_dur=1", "-map", "0:v", "-c:v", "copy", "-c:a", "aac")),
    Case("sound 0.8 s shorter than the picture", _filtered("[0:v]tpad=stop_duration=0.8:stop_mode=clone", *H264, "-c:a", "copy")),
    Case("sound that begins 0.9 s late", _filtered("[0:a]atrim=0.9", "-map", "0:v", "-c:v", "copy", "-c:a", "aac")),
    Case("a silent sound track before the one with speech", _silent_track_first),
    Case(
        "two sound channels that cancel each other out",
        _options("-c:v", "copy", "-af", "pan=stereo|c0=c0|c1=-1*c0", "-c:a", "aac"),
    ),
    Case("a title that looks like ffmpeg's messages", _options("-c", "copy", "-metadata", "title=My Video: part 1, 3x3, 1 fps")),
    Case("a name that starts with - and holds a number pattern", _renamed("-i %03d.mp4")),
    # What the picture shows.
    Case("black for the first 0.3 s", _filtered("drawbox=color=black:t=fill:enable='lt(t,0.3)'")),
    Case("black for the first 1.5 s", _filtered("drawbox=color=black:t=fill:enable='lt(t,1.5)'")),
    Case("a hand over the face for 0.3 s", _hand(0.3)),
    Case("a hand over the face for 1 s", _hand(1.0)),
    Case(
        "a cut to another scene at 2 s",
        _filtered("split[a][b];[b]hflip,scale=160:160,negate,pad=256:256:90:60:navy[b];[a][b]overlay=enable='gte(t,2)'"),
    ),
    Case("a smaller second face passes by", _filtered(_PASSER)),
    Case("two people of one size", _filtered("split[a][b];[a][b]hstack")),
    Case("a larger photo of a face beside the person", _filtered(_POSTER)),
    Case("a face of 1/10 of the height, in a corner", _filtered("scale=160:160,pad=1280:720:0:0:gray")),
    Case("a face of 1/30 of the height", _filtered("scale=26:26,pad=640:360:300:150:gray")),
    Case("half of the face outside the picture", _filtered("crop=126:256:130:0")),
    Case("lying on the side", _filtered("transpose=clock")),
    Case("standing on the head", _filtered("hflip,vflip")),
    Case("a photo, with speech", _photo),
    Case("no person", lambda clip, folder: color_video(folder / "clip.mp4", seconds=SECONDS)),
    # What is missing.
    Case("no sound", _options("-c:v", "copy", "-an"), quick=True),
    Case("no sound, and a comment that names some", _options("-c:v", "copy", "-an", "-metadata", "comment=Audio: aac"), quick=True),
    Case("silence", _options("-c:v", "copy", "-af", "volume=0", "-c:a", "aac")),
    Case("2 s", _options("-t", "2", *COPY_SOUND), quick=True),
    Case("cut off, index at the end", _cut_off(0.6), quick=True),
    Case("cut off, index in front", _cut_off(0.5, "-movflags", "+faststart")),
    Case("no frames", _no_frames, quick=True),
    Case("sound alone", _options("-vn", "-c:a", "copy"), quick=True),
    # What is no video.
    Case("a playlist (m3u8) named .mp4", _content(_PLAYLIST), quick=True),
    Case("a playlist named .m3u8", _content(_PLAYLIST, "clip.m3u8"), quick=True),
    Case("a list of files (ffconcat) named .mp4", _content(b"ffconcat version 1.0\nfile neighbour.mp4\n"), quick=True),
    Case("a picture named .mp4", _picture, quick=True),
    Case("text named .mp4", _content(b"no video"), quick=True),
    Case("0 bytes", _content(b""), quick=True),
    Case("a folder", _folder, quick=True),
    Case("a pipe (FIFO)", _fifo, quick=True),
    Case("nothing there", lambda clip, folder: folder / "clip.mp4", quick=True),
]


def outcome(case: Case, clip: Path, folder: Path) -> tuple[bool, list[str]]:
    """(finished, what was noted) of a case; `folder` is emptied for it."""
    folder.mkdir()
    path = case.make(clip, folder)
    try:
        dataset = prepare(path, folder / "dataset", size=64, progress=False)
    except InputError as error:
        return False, [re.sub(rf"\S*{re.escape(str(folder))}/", "", str(error))]
    return True, json.loads((dataset / "meta.json").read_text(encoding="utf-8"))["source"]["changes"]


def table(results: dict[str, tuple[bool, list[str]]]) -> str:
    """Markdown; notes that the plain clip has too are left out of the other rows."""
    usual = results[CASES[0].name][1]
    rows = ["| the clip | | what is noted or said |", "|---|---|---|"]
    for i, (name, (finished, notes)) in enumerate(results.items()):
        shown = [note.replace("|", "\\|") for note in notes if i == 0 or note not in usual]
        rows.append(f"| {name} | {'finished' if finished else 'refused'} | {'; '.join(shown)} |")
    return "\n".join(rows)
