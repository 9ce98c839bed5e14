"""Uploads of visitors, checked and re-encoded, in the studio's private workspace folder."""

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.errors import InputError
from data_tools.ffmpeg import ffmpeg_executable, input_arguments, probe
from geneface_jax.inference.person import MIN_SECONDS
from geneface_jax.studio.security import MIB, Limits

# -------- Private folder of a studio process: uploads, results and Gradio's files, readable by this user only, deleted at exit
#
# A studio that was killed can't delete its folder, so the next one does: a running studio holds a lock in its folder, and an unlocked
# folder is removed.

PREFIX = "geneface-studio-"
LOCK = "lock"


class SessionFolder:
    """Context manager that creates the private folder and deletes it.

    Args:
      parent: where the folder is created; None for the system's temporary folder.

    Attributes:
      folder: the private folder, mode 0700.
      uploads: re-encoded uploads. results: rendered files. cache: Gradio's files.
    """

    def __init__(self, parent: str | os.PathLike[str] | None = None):
        self._parent = Path(parent or tempfile.gettempdir())
        self._lock: IO[str] | None = None
        self.folder = self._parent

    def __enter__(self) -> "SessionFolder":
        remove_abandoned_folders(self._parent)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))  # created with mode 0700
        self._lock = (self.folder / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for name in ("uploads", "results", "cache"):
            (self.folder / name).mkdir(mode=0o700)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    @property
    def uploads(self) -> Path:
        return self.folder / "uploads"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def new_file(self, kind: str, suffix: str) -> Path:
        """An unguessable file name in `uploads` or `results`; the file is not created."""
        return self.folder / kind / f"{uuid.uuid4().hex}{suffix}"

    def size(self) -> int:
        """Total size of the folder in bytes."""
        total = 0
        for root, _, names in os.walk(self.folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(root, name)).st_size
                except FileNotFoundError:
                    continue  # deleted while counting
        return total

    def expire(self, before: float) -> None:
        """Deletes uploads and results last modified before a time (seconds since 1970)."""
        for folder in (self.uploads, self.results):
            for path in folder.iterdir():
                if path.lstat().st_mtime < before:
                    path.unlink(missing_ok=True)


def remove_abandoned_folders(parent: Path) -> None:
    """Removes the private folders of this user's studios that are no longer running."""
    for folder in parent.glob(f"{PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
            continue
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (FileNotFoundError, BlockingIOError):
            continue  # being created, or in use


# -------- Uploads: identified by content, limited in size and length, and re-encoded (videos: copied after a probe)

PICTURE_FORMATS = ("PNG", "JPEG", "WEBP")


def accept_audio(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """Decodes an upload to a 16 kHz wav in the private folder.

    At most `audio_seconds` plus one second are decoded, because a small file can hold days of silence.

    Raises:
      InputError: no upload, a file outside the private folder, too large or too long, or not audio by its content.
    """
    path = _checked_upload(source, workspace, limits.audio_bytes, "a recording of speech")
    command = [ffmpeg_executable(), "-v", "error", "-nostdin", *input_arguments(path), "-map", "0:a:0", "-vn"]
    command += ["-t", f"{limits.audio_seconds + 1}", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "pipe:1"]
    decoded = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout
    samples = np.frombuffer(decoded[: len(decoded) // 2 * 2], "<i2").astype(np.float32) / 32767.0
    if not samples.size:
        raise InputError("That file has no sound that can be decoded: send a recording as wav, mp3, ogg, m4a, flac, webm or mp4.")
    if samples.size > limits.audio_seconds * SAMPLE_RATE:
        raise InputError(f"That recording is longer than {limits.audio_seconds:g} s: send a shorter part of it.")
    wav = workspace.new_file("uploads", ".wav")
    save_wav(wav, samples)
    try:
        load_audio(wav, SAMPLE_RATE, min_seconds=MIN_SECONDS)
    except InputError as error:
        wav.unlink()
        message = str(error).replace(str(wav), "that recording")
        raise InputError(message[0].upper() + message[1:]) from error
    return wav


def accept_picture(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """Re-encodes an uploaded background picture as PNG in the private folder.

    Raises:
      InputError: as `accept_audio`, for pictures.
    """
    path = _checked_upload(source, workspace, limits.image_bytes, "a background picture")
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            if image.width * image.height > limits.image_pixels:
                raise InputError(f"That picture has more than {limits.image_pixels / 1e6:g} million pixels: send a smaller one.")
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError("That file is not a readable picture: send a PNG, JPEG or WebP.") from error
    png = workspace.new_file("uploads", ".png")
    picture.save(png, "PNG")
    return png


def accept_video(source: str | os.PathLike[str] | None, target: Path, workspace: SessionFolder, limits: Limits) -> Path:
    """Copies an uploaded training video to `target` after checking that it is a video with sound of an allowed length.

    Raises:
      InputError: as `accept_audio`, for videos.
    """
    path = _checked_upload(source, workspace, limits.video_bytes, "a talking video")
    try:
        info = probe(path)
    except InputError as error:
        raise InputError("That file is not a readable video: send an mp4, mov, mkv or webm.") from error
    if info.seconds > limits.video_seconds:
        raise InputError(f"That video lasts {info.seconds:.0f} s, longer than {limits.video_seconds:g} s: send a part of it.")
    if info.audio is None:
        raise InputError("That video has no sound, which the lips are learned from: send one with speech.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(path, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _checked_upload(source: str | os.PathLike[str] | None, workspace: SessionFolder, max_bytes: int, what: str) -> Path:
    """The upload's path, if it is a regular file in the private folder and small enough."""
    if source is None or not str(source):
        raise InputError(f"The input is missing: choose or record {what} first.")
    path = Path(source)
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(workspace.folder.resolve()):
        raise InputError(f"That file is not an upload of this page: send {what} with the upload field.")
    if path.stat().st_size > max_bytes:
        raise InputError(f"That file is larger than {max_bytes // MIB} MiB: send a smaller one.")
    return path
