"""Compiled programs, kept between runs in `$XDG_CACHE_HOME/geneface_jax/xla/KEY` (`~/.cache/...`) by jax's own cache.

XLA's programs for a CPU hold the instructions of the machine that compiled them. jax's key of a program does not promise to tell two
machines apart, and homes and images are shared between machines: every kind of machine has a folder of its own.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import os
import platform
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_BYTES, MAX_FILES = 10**9, 10_000
"""Of the programs of all keys. `infer` makes 90, of 1 MB together."""

MIN_SECONDS = 0.0
"""Compilation time from which on a program is kept: `infer` starts 15 % faster than with only those of 0.2 s and more."""

SWITCH, FOLDER, THRESHOLD = "JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
ZLIB = b"\x78"
"""First byte of what zlib compressed."""

CHECKED = "checked"
"""Empty file whose modification time is that of the last check of the folder."""


@functools.cache
def keep_programs() -> Path | None:
    """Lets jax keep this process's compiled programs for the next one; to be called before the first compilation.

    A folder that the user gave to jax is left to jax, and `JAX_ENABLE_COMPILATION_CACHE=false` switches the cache off. jax is not imported:
    if it isn't yet, it reads the environment when it is. A folder that can't be used costs one line in the log, and programs are not kept.

    Returns:
      the folder; None if programs are not kept.
    """
    jax = sys.modules.get("jax")
    if not (jax.config.jax_enable_compilation_cache if jax else _switched_on()):
        return None
    chosen = jax.config.jax_compilation_cache_dir if jax else os.environ.get(FOLDER)
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geneface_jax" / "xla" / machine_key()
        _prepare(folder)
    except (OSError, RuntimeError, importlib.metadata.PackageNotFoundError) as error:  # RuntimeError: no home; the last: no jax
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        logger.warning("Compiled programs are not kept for the next run (%s): name a folder of yours in %s.", reason, FOLDER)
        return None
    if jax is None:
        os.environ[FOLDER] = str(folder)
        os.environ.setdefault(THRESHOLD, str(MIN_SECONDS))
    else:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if THRESHOLD not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    return folder


def machine_key() -> str:
    """Name of the folder: hash of jaxlib's version, XLA_FLAGS, the usable cores (programs are split for them) and the processor."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = (importlib.metadata.version("jaxlib"), os.environ.get("XLA_FLAGS", ""), cores, platform.system(), *_processor())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(found.st_size for _, found in _files(folder))


def _switched_on() -> bool:
    """What jax will make of the environment."""
    return os.environ.get(SWITCH, "true").strip().lower() not in ("0", "false", "off", "no", "n", "f")


def _processor() -> list[str]:
    """Model and instruction sets: on Linux the lines of /proc/cpuinfo that don't differ between cores or from moment to moment."""
    names = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")
    arm = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision")
    general = [platform.machine(), platform.processor()]
    if sys.platform == "darwin":  # where the above says no more than "arm"
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return [*general, subprocess.run(command, capture_output=True, text=True, check=False).stdout]
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return general
    # A set: a processor with two kinds of cores names both.
    return general + sorted({line for line in text.splitlines() if line.partition(":")[0].strip() in (*names, *arm)})


def _prepare(folder: Path) -> None:
    """Makes the folder, deletes what is damaged in it, and bounds all folders of programs.

    Raises:
      OSError: it can't be made or written, or others can write in it. A program is machine code that this process runs.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(None, f"other users can write in {folder}")
    stamp = folder / CHECKED
    checked = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()
    for path, found in list(_files(folder)):
        if found.st_mtime >= checked and _cut_off(path):
            path.unlink(missing_ok=True)
    _prune(folder.parent)


def _cut_off(path: Path) -> bool:
    """Whether a program was not written to its end (Ctrl-C, full disk). jax would warn and compile it again at every start, for ever."""
    if not path.name.endswith("-cache"):
        return False
    try:
        data = path.read_bytes()
        # Where the package zstandard is installed, jax compresses with it: such a file is left to jax.
        if data[:1] in (b"", ZLIB):
            zlib.decompress(data)
    except zlib.error:
        return True
    except OSError:
        return False
    return False


def _prune(root: Path) -> None:
    """Deletes the programs that were not used for longest until the rest fits `MAX_BYTES` and `MAX_FILES`.

    Another process that was about to read one compiles it instead. jax bounds its cache by itself, but only with the package filelock.
    Linux writes the time of reading at most once a day, which is enough here.
    """
    total = 0
    files = sorted(_files(root), key=lambda file: max(file[1].st_atime, file[1].st_mtime), reverse=True)
    for number, (path, found) in enumerate(files, start=1):
        total += found.st_size
        if total > MAX_BYTES or number > MAX_FILES:
            with contextlib.suppress(OSError):  # in use, on Windows
                path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files below a folder; what vanishes meanwhile is left out."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                yield path, found
