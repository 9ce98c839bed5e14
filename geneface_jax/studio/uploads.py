"""Uploads of visitors, checked and re-encoded, in the studio's private workspace folder."""

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from data_tools.audio.sound import SAMPLE_RATE, load_audio, save_wav
from data_tools.errors import InputError
from data_tools.ffmpeg import probe
from geneface_jax.inference.person import MIN_SECONDS
from geneface_jax.studio.security import MIB, Limits

# -------- Private folder of a studio process: uploads, results and Gradio's files, readable by this user only, deleted at exit
#
# A studio that was killed can't delete its folder, so the next one does: a running studio holds a lock in its folder, and an unlocked
# folder is removed.

PREFIX = "geneface-studio-"
LOCK = "lock"
SPARE = 64 * MIB
"""Bytes of the disk that stay free."""


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
        self._left = threading.Event()
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
        self._left.set()
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
        """An unguessable file name in `uploads`, `results` or `cache`; the file is not created."""
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
        """Deletes uploads, results and Gradio's files last modified before a time (seconds since 1970)."""
        for folder in (self.uploads, self.results, self.cache):
            for root, folders, names in os.walk(folder, topdown=False):
                for path in (Path(root, name) for name in names):
                    with contextlib.suppress(FileNotFoundError):
                        if path.lstat().st_mtime < before:
                            path.unlink()
                for name in folders:
                    with contextlib.suppress(OSError):  # not empty
                        Path(root, name).rmdir()

    def remove_half_uploads(self, before: float) -> None:
        """Deletes the files of page uploads that were aborted, last modified before a time.

        Gradio writes an upload to `cache/tmp*`, moves it to a folder of its own once it is complete, and forgets it when the client leaves.
        """
        for path in self.cache.glob("tmp*"):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.lstat().st_mtime < before:
                    path.unlink()

    def keep_tidy(self, keep_seconds: float) -> None:
        """Calls `expire` once a minute, or more often for short times, until the folder is left."""

        def tidy() -> None:
            while not self._left.wait(min(60.0, keep_seconds / 4)):
                self.expire(time.time() - keep_seconds)

        threading.Thread(target=tidy, daemon=True).start()


class Quota:
    """The bytes that the private folder may hold. They are reserved before they are written, so that parallel uploads can't pass the limit.

    Args:
      workspace: the private folder.
      max_bytes: its largest size.
    """

    def __init__(self, workspace: SessionFolder, max_bytes: int):
        self._workspace, self._max_bytes = workspace, max_bytes
        self._lock = threading.Lock()
        self._uploads: dict[QuotaUpload, float] = {}

    @property
    def folder(self) -> Path:
        return self._workspace.folder

    def free(self) -> int:
        """Bytes that are neither used nor reserved, also of the disk."""
        reserved = sum(upload.pending for upload in list(self._uploads))
        on_disk = shutil.disk_usage(self.folder).free - SPARE
        return min(self._max_bytes - self._workspace.size(), on_disk) - reserved

    def require(self, what: str = "a video") -> None:
        """Raises StorageFull if nothing more can be stored."""
        if self.free() <= 0:
            raise StorageFull(f"The studio's disk space is used up, {what} can't be stored: try again later.")

    def begin(self) -> "QuotaUpload":
        """An upload that begins to arrive; `end` must follow."""
        upload = QuotaUpload(self)
        with self._lock:
            self._uploads[upload] = time.time()
        return upload

    def reserve(self, upload: "QuotaUpload", count: int) -> bool:
        """See `QuotaUpload.reserve`."""
        with self._lock:
            if self.free() < count:
                return False
            upload.pending += count
            return True

    def end(self, upload: "QuotaUpload") -> None:
        """See `QuotaUpload.end`."""
        with self._lock:
            self._uploads.pop(upload, None)
            # A file begun before all uploads that are arriving belongs to none of them. Clocks of file systems lag by a few milliseconds.
            before = min(self._uploads.values(), default=math.inf) - 1.0
        self._workspace.remove_half_uploads(before)


class QuotaUpload:
    """One upload that is arriving; `pending` bytes of it are reserved and not yet in a file."""

    def __init__(self, quota: Quota):
        self._quota, self.pending = quota, 0

    def reserve(self, count: int) -> bool:
        """Reserves bytes; False if there is no room."""
        return self._quota.reserve(self, count)

    def wrote(self, count: int) -> None:
        """So many reserved bytes are in a file now, and counted there."""
        self.pending = max(self.pending - count, 0)

    def end(self) -> None:
        """Frees the reserved bytes, and deletes what an aborted upload has left."""
        self._quota.end(self)


class StorageFull(InputError):
    """The private folder has reached its limit, or the disk is full."""


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
    """Decodes an upload to a 16 kHz wav in the private folder, which the caller deletes.

    Decoding ends at `audio_seconds`, whatever the file says about its length, because a small file can hold days of silence. Call it only
    from the running job: one recording is decoded at a time.

    Raises:
      InputError: no upload, a file outside the private folder, too large or too long, or not audio by its content.
    """
    path = check_recording(source, workspace, limits)
    samples = _decode(path, limits)
    wav = workspace.new_file("uploads", ".wav")
    save_wav(wav, samples)
    return wav


def check_recording(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """The checks of `accept_audio` that need no decoding; returns the upload's path."""
    return _checked_upload(source, workspace, limits.audio_bytes, "a recording of speech")


def accept_picture(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """Re-encodes an uploaded background picture as PNG in the private folder, which the caller deletes.

    Raises:
      InputError: as `accept_audio`, for pictures.
    """
    path = check_picture(source, workspace, limits)
    unreadable = InputError("That file is not a readable picture: send a PNG, JPEG or WebP.")
    try:
        # Only reads the header: the number of pixels is known before any is decoded.
        image = Image.open(path, formats=PICTURE_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits) from error
    except Exception as error:  # Pillow's readers raise many kinds
        raise unreadable from error
    with image:
        if image.width * image.height > limits.image_pixels:
            raise _too_many_pixels(limits)
        try:
            ImageOps.exif_transpose(image, in_place=True)
            picture = image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:
            raise unreadable from error
        png = workspace.new_file("uploads", ".png")
        picture.save(png, "PNG")
    return png


def check_picture(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """The checks of `accept_picture` that need no decoding; returns the upload's path."""
    return _checked_upload(source, workspace, limits.image_bytes, "a background picture")


def _too_many_pixels(limits: Limits) -> InputError:
    return InputError(f"That picture has more than {limits.image_pixels / 1e6:g} million pixels: send a smaller one.")


def check_video(source: str | os.PathLike[str] | None, workspace: SessionFolder, limits: Limits) -> Path:
    """Checks that an upload is a video with sound of an allowed length; returns its path.

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
    return path


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


def _decode(path: Path, limits: Limits) -> np.ndarray:
    """[n] samples of a recording, the first track with sound; sentences call it "that recording"."""
    try:
        return load_audio(path, SAMPLE_RATE, MIN_SECONDS, max_seconds=limits.audio_seconds)
    except InputError as error:
        raise InputError(str(error).replace(f"The audio of {path}", "That recording").replace(str(path), "That recording")) from error
