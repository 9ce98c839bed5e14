"""ffmpeg: finding the program, running it with limits, passing a user's file to it safely, and probing media files.

ffmpeg is always run by `Process`, as a subprocess with a list of arguments, never through a shell. Options and filters are those of ffmpeg
4.2 (December 2019) that later versions still have.
"""

import contextlib
import dataclasses
import functools
import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from data_tools.errors import InputError

PROTOCOLS = ("-protocol_whitelist", "file,pipe")
"""Input option that keeps the content of a user's file from making ffmpeg open network addresses."""

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,mxf,nut,yuv4mpegpipe,"  # with a picture
    "wav,w64,rf64,aiff,au,caf,mp3,aac,ac3,eac3,flac,ogg,amr,amrnb,amrwb,wv,ape,tta,dts"  # sound alone
)
"""Demuxers allowed for a user's file. ffmpeg chooses the demuxer by content, so a playlist, a list of files or a picture pattern that is
named like a video is refused before any file it refers to is opened."""

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3g2 .mkv .webm .avi .divx .ts .mts .m2ts .m2t .mpg .mpeg .mpe .vob .wmv .asf .flv .f4v .mxf .ogv".split()
)
SOUND_SUFFIXES = frozenset(
    ".wav .wave .w64 .rf64 .bwf .aif .aiff .aifc .au .snd .caf .mp3 .mp2 .m4a .m4b .aac .ac3 .eac3 .flac .ogg .oga .opus .spx .mka .weba "
    ".wma .amr .awb .wv .ape .tta .dts".split()
)
"""Ends of the names that files of `CONTAINERS` have: what is taken from a folder. Of what kind a file is, its content decides."""

OLDEST = (4, 2)
"""Oldest version of ffmpeg that the options fit."""


@functools.cache
def ffmpeg_executable() -> str:
    """Path of ffmpeg: `$IMAGEIO_FFMPEG_EXE`, else the one on PATH if it can do the work, else the static binary of imageio-ffmpeg.

    Raises:
      InputError: none of the three can be used.
    """
    if chosen := os.environ.get("IMAGEIO_FFMPEG_EXE"):
        return chosen
    on_path = shutil.which("ffmpeg")
    reason = unsuitable(on_path) if on_path else "was found neither on PATH nor"
    if on_path and not reason:
        return on_path
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        found = f"ffmpeg at {on_path} {reason}, and there is none" if on_path else f"ffmpeg {reason}"
        raise InputError(
            f"{found} in the package imageio-ffmpeg: run `pip install imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE to the path of an "
            f"ffmpeg {OLDEST[0]}.{OLDEST[1]} or newer with libx264."
        ) from error


def unsuitable(executable: str) -> str:
    """Why an ffmpeg can't do the work, as the end of a sentence that begins with its name: "is version 3.4, ..."; "" if it can."""
    try:
        done = subprocess.run([executable, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return "can't be run"
    text = done.stdout.decode("utf-8", "replace")
    # Versions between releases ("N-109542-g...") are newer than any that is too old.
    if (version := re.match(r"ffmpeg version n?(\d+)\.(\d+)", text)) and (int(version[1]), int(version[2])) < OLDEST:
        return f"is version {version[1]}.{version[2]}, older than {OLDEST[0]}.{OLDEST[1]}"
    return "" if "--enable-libx264" in text else "has no libx264, which encodes the videos"


# -------- Running it: every wait for it and everything kept of its output has a limit

PATIENCE = 120.0
"""Seconds without a byte after which ffmpeg is stopped, and a second more for every megabyte of its input: it may have to pass over all of
it, for instance to the first frame after a key frame. Work that moves on is never stopped, however long it takes."""

MESSAGE_BYTES = {"error": 1 << 16, "info": 1 << 22}
"""What is kept of its messages at each level: a damaged file can cause one for every packet, a description holds the author's texts."""


def patience_for(*paths: str | os.PathLike) -> float:
    """Limit in seconds for an ffmpeg that reads these files (see `PATIENCE`)."""
    return PATIENCE + sum(os.path.getsize(path) for path in paths) / 1e6


class Process:
    """A running ffmpeg. A context manager, which ends it.

    Messages are read all the time and its output when asked for, so neither a full pipe nor a silent program is waited for without end.

    Args:
      arguments: without the program's name and the general options.
      patience: seconds that one call waits at most; `math.inf` if somebody else limits them.
      feed: whether `write` sends it data (`pipe:0`).
      level: `error`, or `info` for descriptions of files.
      pass_fds: file descriptors that it inherits.
      folder: in which it runs; None means this process's.

    Attributes:
      stalled: whether it was stopped because it did not answer in time.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        patience: float | None = None,
        feed: bool = False,
        level: str = "error",
        pass_fds: Sequence[int] = (),
        folder: str | None = None,
    ) -> None:
        self.stalled = False
        self._patience = PATIENCE if patience is None else patience
        self._limit = PATIENCE if math.isinf(self._patience) else self._patience
        self._messages, self._most_messages = bytearray(), MESSAGE_BYTES[level]
        self._waiting_since: float | None = None
        self._ended = threading.Event()
        command = [ffmpeg_executable(), "-hide_banner", "-nostdin", "-v", level, *arguments]
        stdin = subprocess.PIPE if feed else subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds, cwd=folder
        )
        # Pipes are buffered readers and writers; the input is None unless `feed`.
        self._input: Any
        self._output: Any
        self._said: Any
        self._input, self._output, self._said = self._process.stdin, self._process.stdout, self._process.stderr
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._keep_messages, self._watch)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def read(self, size: int) -> bytes:
        """The next `size` bytes of its output; fewer at the end of the output alone."""
        return self._limited(self._output.read, size)

    def read_some(self, size: int) -> bytes:
        """What there is of its output, at least one byte and at most `size`; b"" at the end."""
        return self._limited(self._output.read1, size)

    def read_line(self) -> bytes:
        """The next line of its output, with the line break; at most 4096 bytes."""
        return self._limited(self._output.readline, 4096)

    def write(self, data: bytes | memoryview) -> None:
        """Sends data; raises BrokenPipeError if it has ended or does not take them."""
        self._limited(self._input.write, data)

    def end_input(self) -> None:
        """Says that no more data will come; does nothing if it has ended."""
        with contextlib.suppress(BrokenPipeError):
            self._limited(self._input.close)

    def finish(self) -> bool:
        """Waits for the end; returns whether it did its work. Output that is no longer read is a failure, not waited for."""
        if self._input is not None:
            self.end_input()
        if self.read_some(1):
            self._process.kill()
        try:
            code = self._process.wait(self._limit)
        except subprocess.TimeoutExpired:
            self.stalled = True
            return False
        self._threads[0].join()
        return code == 0

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it; whoever waits for it in another thread goes on."""
        self._process.kill()

    def stop(self) -> None:
        """Ends it at any point, and closes its pipes."""
        self._ended.set()
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._input, self._output, self._said):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def messages(self) -> str:
        """Its messages, the first `MESSAGE_BYTES` of them."""
        return self._messages.decode("utf-8", "replace")

    def complaint(self, otherwise: str = "it stopped without a message") -> str:
        """Its first message, without the component's name: later ones are consequences of it. `otherwise` if there is none."""
        if self.stalled:
            return f"it did nothing for {self._limit:.0f} s"
        return first_complaint(self.messages, otherwise)

    def _limited(self, call, *arguments):
        self._waiting_since = time.monotonic()
        try:
            return call(*arguments)
        finally:
            self._waiting_since = None

    def _keep_messages(self) -> None:
        while chunk := self._said.read1(1 << 16):
            self._messages += chunk[: self._most_messages - len(self._messages)]

    def _watch(self) -> None:
        while not self._ended.wait(min(self._patience / 4, 1.0)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._patience:
                self.stalled = True
                self._process.kill()
                return


def first_complaint(messages: str, otherwise: str) -> str:
    """The first line of ffmpeg's messages, without the component's name; `otherwise` if there is none."""
    lines = (re.sub(r"^(\[[^\]]*\] *)+", "", line).strip() for line in messages.splitlines())
    return next((line[:200].rstrip(".") for line in lines if line), otherwise)


def file_argument(path: str | os.PathLike) -> str:
    """The path as an ffmpeg argument: absolute and prefixed with `file:`, so `-x.wav` is no option and `a:b.wav` no protocol."""
    return f"file:{Path(path).absolute()}"


def input_arguments(path: str | os.PathLike) -> list[str]:
    """`-i` for a user's file with the options that restrict ffmpeg to that one file (`PROTOCOLS`, `CONTAINERS`)."""
    return [*PROTOCOLS, "-format_whitelist", CONTAINERS, "-i", file_argument(path)]


def require_plain_file(path: str | os.PathLike, what: str = "video") -> Path:
    """The path, if it is a regular file that is not empty.

    Raises:
      InputError: the path does not exist, or is a folder, a pipe, a device or a file of 0 bytes.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a {what}: give the {what} file inside it.")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device, not a {what} file: save the {what} to a file first.")
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path of the {what}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): copy or export the {what} again.")
    return path


# -------- Probing: facts from a file's headers, before anything is decoded
#
# ffmpeg describes a file in lines that are indented by level. Only its `Stream #` lines, its `Duration:` line and what stands under "Side
# data:" are read: the rest is text of the file's author, who may write anything into a title, a comment or the name of a language.


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream: its kind ("Video", "Audio", ...), ffmpeg's description of it, and its side data (such as a rotation)."""

    kind: str
    description: str
    side_data: str = ""
    alpha_tag: bool = False


@dataclasses.dataclass(frozen=True)
class Media:
    """What ffmpeg says about a file.

    Attributes:
      streams: in the file's order; empty if the file can't be opened.
      seconds: of the whole file by its headers; 0.0 if they do not say it.
      start: seconds of the clock at which the file begins.
      guessed: whether `seconds` is an estimate from the bit rate.
      messages: everything that ffmpeg said; trustworthy only if there are no streams, since it quotes the file.
    """

    streams: tuple[Stream, ...]
    seconds: float
    start: float
    guessed: bool
    messages: str

    def of_kind(self, kind: str) -> list[Stream]:
        """The streams of a kind; pictures that are covers of a recording are left out."""
        return [stream for stream in self.streams if stream.kind == kind and "(attached pic)" not in stream.description]


def describe(path: str | os.PathLike) -> Media:
    """Reads a file's headers."""
    with Process(input_arguments(path), patience=patience_for(path), level="info") as process:
        process.finish()  # fails always, for lack of an output
        # The name is the user's, and can imitate a stream too.
        text = process.messages.replace(file_argument(path), "the file")
    return parse_description(text)


def parse_description(text: str) -> Media:
    """`Media` from ffmpeg's messages. Lines that contradict each other are imitations: then there are no streams, or no duration."""
    streams: dict[int, Stream] = {}
    durations: set[str] = set()
    last, block, depth, contradiction = -1, "", 0, False
    # Not splitlines(): a title may hold the other characters that it takes for line breaks.
    for line in text.split("\n"):
        indent, content = len(line) - len(line.lstrip(" ")), line.strip()
        if block and indent > depth:
            if last in streams and block == "Side data:":
                streams[last] = dataclasses.replace(streams[last], side_data=f"{streams[last].side_data}\n{content}")
            elif last in streams and re.fullmatch(r"alpha_mode\s*: 1", content, re.IGNORECASE):
                streams[last] = dataclasses.replace(streams[last], alpha_tag=True)
            continue
        block, depth = content if content in ("Metadata:", "Chapters:", "Side data:") else "", indent
        if indent and content.startswith("Duration: "):
            durations.add(content)
        # The language in front of the kind may be any text, the description behind it holds no ": Audio: ".
        elif indent and (found := re.fullmatch(r"Stream #0:(\d+).*: (Video|Audio|Subtitle|Data|Attachment): (.*)", content)):
            last, stream = int(found[1]), Stream(found[2], found[3])
            # A stream of two programs is described twice, in the same words.
            known = streams.setdefault(last, stream)
            contradiction |= (known.kind, known.description) != (stream.kind, stream.description)
    found_streams = () if contradiction else tuple(stream for _, stream in sorted(streams.items()))
    duration = durations.pop() if len(durations) == 1 else ""
    start = re.search(r"start: (-?[\d.]+)", duration)
    return Media(found_streams, parse_time(duration), float(start[1]) if start else 0.0, "Estimating duration from bitrate" in text, text)


def parse_time(text: str) -> float:
    """The first h:mm:ss.ss in a text, in seconds; 0.0 if there is none or it is negative."""
    found = re.search(r"(?<![-\d])(\d+):(\d+):([\d.]+)", text)
    return float(found[1]) * 3600 + float(found[2]) * 60 + float(found[3]) if found else 0.0


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Facts of a file's first video stream.

    Attributes:
      width, height: pixels as displayed (after rotation, with square pixels).
      fps: average frames per second.
      seconds: duration of the container.
      audio: codec, rate and channels of the first audio stream in ffmpeg's words; None without one.
      alpha: whether the picture has an alpha channel.
      picture: codec, pixel format, colors and scan of the picture in ffmpeg's words, and its side data in lines of their own.
      tracks: as `audio`, of every audio stream.
    """

    width: int
    height: int
    fps: float
    seconds: float
    audio: str | None
    alpha: bool = False
    picture: str = ""
    tracks: tuple[str, ...] = ()


def probe(path: str | os.PathLike) -> VideoInfo:
    """Reads a file's headers; a file without a duration in them (as browsers record) is read through once.

    Raises:
      InputError: the file is missing, not a regular file, not a video by its content, or has no video stream.
    """
    path = require_plain_file(path)
    media = describe(path)
    pictures, sounds = media.of_kind("Video"), tuple(stream.description for stream in media.of_kind("Audio"))
    if not pictures:
        raise InputError(_why_no_picture(path, media))
    stream = pictures[0]
    size = re.search(r", (\d{1,5})x(\d{1,5})", stream.description)
    fps = re.search(r"([\d.]+)(k?) fps", stream.description) or re.search(r"([\d.]+)(k?) tbr", stream.description)
    seconds, rate = media.seconds, float(fps[1]) * (1000.0 if fps[2] else 1.0) if fps else 0.0
    if size and not seconds:
        seconds, rate = _measure_duration(path)
    if not (size and rate and seconds):
        raise InputError(f"{path} is damaged: ffmpeg finds no size, frame rate or length in it; export the video again.")
    width, height = int(size[1]), int(size[2])
    if shape := re.search(r"\[SAR (\d+):(\d+)", stream.description):
        width = square_width(width, int(shape[1]), int(shape[2]))
    turned = re.search(r"rotation of (-?[\d.]+) degrees", stream.side_data)
    if turned and round(abs(float(turned[1]))) % 180 == 90:
        width, height = height, width
    # VP8 and VP9 keep alpha in a second picture, which matroska says by this tag alone.
    alpha = bool(re.search(r"\b(yuva|rgba|bgra|argb|abgr|gbrap|ya8|ya16)", stream.description))
    alpha |= stream.alpha_tag and stream.description.startswith(("vp8", "vp9"))
    picture = stream.description + stream.side_data
    return VideoInfo(width, height, rate, seconds, sounds[0] if sounds else None, alpha, picture, sounds)


def _why_no_picture(path: Path, media: Media) -> str:
    if media.of_kind("Audio"):
        return f"{path} holds sound but no picture: give the video with both."
    if not media.streams and "not on whitelist" in media.messages:
        return f"{path} is not a video by its content, but a playlist, a list of files or a picture: give the video file itself."
    if not media.streams and "moov atom not found" in media.messages and b"ftyp" in _first_bytes(path):
        return f"{path} is cut off, the index at its end is missing: copy it again, or record it again in a format such as mkv."
    return f"{path} is not a video that ffmpeg can read: give an mp4, mov, mkv or webm with a picture."


def square_width(width: int, across: int, down: int) -> int:
    """Even width of a picture after resampling from a pixel aspect ratio of `across` : `down` to square pixels (as `read.frames` does)."""
    return width if across == down or not across * down else int(width * across / down / 2.0) * 2


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(32)


def _measure_duration(path: Path) -> tuple[float, float]:
    """(seconds, frames per second) found by reading the whole file without decoding it."""
    seconds, frames = 0.0, 0
    command = [*input_arguments(path), "-map", "0:V:0", "-c", "copy", "-f", "null", "-nostats", "-progress", "pipe:1", os.devnull]
    with Process(command, patience=patience_for(path)) as process:
        while line := process.read_line().decode("ascii", "replace"):
            name, _, value = line.partition("=")
            seconds = parse_time(value) if name == "out_time" else seconds
            frames = int(value) if name == "frame" and value.strip().isdigit() else frames
    return (seconds, round(frames / seconds, 3)) if frames and seconds else (0.0, 0.0)
