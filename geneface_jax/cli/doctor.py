"""Shows the installation, its packages, devices, models and weights, and what is missing with the command that fixes it."""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import data_tools
from data_tools.errors import InputError
from geneface_jax import __version__, system_libraries
from geneface_jax.io import configs

EXTRAS = {
    "ui": ("gradio", "the web page"),
    "mic": ("sounddevice", "the microphone of geneface live"),
    "speech": ("espeakng_loader", "re-recording the avatar's voices"),
    "import": ("torch", "importing PyTorch checkpoints"),
    "test": ("pytest", "the tests"),
}
"""Extra -> (module that indicates it is installed, purpose)."""

DISK_NEEDED = 2e9
MEMORY_NEEDED = 3e9


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
      name: of the checked item.
      found: description of its state.
      ok: whether it is present and works.
      needed: whether the main job (prepare, train, infer) requires it.
      remedy: the command that fixes it; empty if `ok`.
    """

    name: str
    found: str
    ok: bool = True
    needed: bool = True
    remedy: str = ""


def examine() -> Iterator[Check]:
    """Yields every check, in display order."""
    for group in (_python, _installation, _packages, _devices, _libraries, _ffmpeg, _models, _weights, _extras, _programs, _free_space):
        yield from group()


def healthy(checks: list[Check]) -> bool:
    """Whether every needed check passes."""
    return all(check.ok or not check.needed for check in checks)


def _python() -> Iterator[Check]:
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check("Python", f"{platform.python_version()} at {sys.executable}", ok, remedy="" if ok else "install Python 3.11, 3.12 or 3.13")


def _installation() -> Iterator[Check]:
    """Version, clone or wheel, and the folders that come with it."""
    root = configs.clone()
    kind = f"the clone {root}" if root else f"a wheel, installed in {configs.INSTALLED.parent}"
    yield Check("geneface_jax", f"{__version__}, from {kind}")
    for name in ("configs", "checkpoints"):
        try:
            yield Check(f"{name}/", str(configs.shipped(name)))
        except InputError as error:
            yield Check(f"{name}/", str(error), False, remedy=_reinstall(name))


def _reinstall(name: str) -> str:
    """The command that brings back a missing file or folder of the installation, relative to a clone."""
    wheel = f"pip install --force-reinstall --no-deps geneface_jax-{__version__}-py3-none-any.whl"
    return f"git checkout -- {name}" if configs.clone() else wheel


def _requirements(extra: str = "") -> list[str]:
    """What the installed package needs, or what one of its extras adds, as pip takes it."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in importlib.metadata.requires("geneface_jax") or []]
    except importlib.metadata.PackageNotFoundError:
        return []
    chosen = (
        one for one in needed if ("extra" in str(one.marker)) == bool(extra) and (not one.marker or one.marker.evaluate({"extra": extra}))
    )
    return [f"{one.name}{_brackets(one.extras)}{one.specifier}" for one in chosen]


def _brackets(extras: set[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""


def install_extra(extra: str) -> str:
    """The command that installs an extra: a wheel is nowhere to be named, so its packages are."""
    return f'pip install -e ".[{extra}]"' if configs.clone() else "pip install " + " ".join(f'"{one}"' for one in _requirements(extra))


def _packages() -> Iterator[Check]:
    """Compares the installed packages with the requirements of geneface_jax."""
    from packaging.requirements import Requirement

    for line in _requirements():
        requirement = Requirement(line)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, "not installed", False, remedy=f'pip install "{line}"')
            continue
        ok = requirement.specifier.contains(version, prereleases=True)
        yield Check(requirement.name, version, ok, needed=False, remedy="" if ok else f'tested with another version: pip install "{line}"')
    yield from _one_opencv()


def _one_opencv() -> Iterator[Check]:
    """Several OpenCV packages share one cv2/ folder and break each other."""
    found = sorted(
        {dist.metadata["Name"] for dist in importlib.metadata.distributions() if (dist.metadata["Name"] or "").startswith("opencv-")}
    )
    ok = len(found) == 1
    repair = f"pip uninstall -y {' '.join(found)} && pip install opencv-contrib-python" if found else "pip install opencv-contrib-python"
    yield Check("OpenCV", ", ".join(found) or "not installed", ok, needed=not found, remedy="" if ok else repair)


def _devices() -> Iterator[Check]:
    import jax
    from packaging.version import Version

    devices = jax.local_devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    yield Check("JAX devices", f"{len(devices)} x {jax.default_backend()} ({kinds}): training and rendering run here")
    gpu = shutil.which("nvidia-smi") is not None
    if gpu and jax.default_backend() == "cpu":
        yield Check("NVIDIA GPU", "present, but JAX runs on the CPU", False, needed=False, remedy=install_extra("cuda"))
    if jax.default_backend() == "gpu":
        slow = Version("0.10.2") <= Version(jax.__version__) < Version("0.11.1")
        remedy = f"{install_extra('cuda')} (scatter-add of jaxlib 0.10.2 to 0.11.0 is hundreds of times slower)"
        yield Check("scatter-add on CUDA", "slow" if slow else "fast", not slow, needed=False, remedy=remedy if slow else "")


def _libraries() -> Iterator[Check]:
    missing = system_libraries.missing()
    line = system_libraries.install_line(list(missing.values())) if missing else ""
    found = f"missing: {', '.join(missing)}" if missing else ", ".join(system_libraries.LIBRARIES)
    yield Check("MediaPipe's libraries", found, not missing, remedy=line)


def _ffmpeg() -> Iterator[Check]:
    """Encodes and decodes a second of picture and sound: a version alone says little about what a build can do."""
    from data_tools.ffmpeg import ffmpeg_executable, unsuitable

    remedy = "pip install --force-reinstall imageio-ffmpeg"
    try:
        executable = ffmpeg_executable()
        version = subprocess.run([executable, "-version"], capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")[0]
        found = f"{version} at {executable}"
        if (first := shutil.which("ffmpeg")) and first != executable and (reason := unsuitable(first)):
            found += f" (the one at {first} {reason})"
        if problem := _encode_and_decode():
            remedy = "unset IMAGEIO_FFMPEG_EXE, or put an ffmpeg 4.2 or newer with libx264 and aac on PATH"
            yield Check("ffmpeg", f"{found}: {problem}", False, remedy=remedy)
            return
    except (InputError, OSError, subprocess.SubprocessError) as error:
        yield Check("ffmpeg", str(error), False, remedy=remedy)
        return
    yield Check("ffmpeg", f"{found}, encodes and decodes", True)


def _encode_and_decode() -> str:
    """What goes wrong when a second of gray picture and a tone are written to an mp4 and read back; "" if nothing does."""
    try:
        import numpy as np

        from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio
        from data_tools.ffmpeg import probe
        from data_tools.video import read_video, write_video
    except ImportError as error:
        return f"not tried ({error})"

    tone = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.2)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.mp4"
        try:
            write_video(path, (np.full((64, 64, 3), 100, np.uint8) for _ in range(FPS)), tone)
            info, frames, heard = probe(path), list(read_video(path)), load_audio(path)
        except InputError as error:
            return str(error)
    if (info.width, info.height, len(frames)) != (64, 64, FPS) or np.abs(frames[0].astype(int) - 100).max() > 4:
        return "pictures don't come back as they were written"
    if abs(len(heard) - SAMPLE_RATE) > SAMPLE_RATE // 10 or not 0.15 < heard[4000:12000].std() < 0.3:
        return "sound does not come back as it was written"
    return ""


def _models() -> Iterator[Check]:
    """Checks the model files of data_tools against the hashes in the NOTICE of their folder."""
    tools = Path(data_tools.__file__).parent
    for notice in sorted(tools.glob("*/models/NOTICE")):
        for digest, name in re.findall(r"^sha256 ([0-9a-f]{64})\s+(\S+)$", notice.read_text(encoding="utf-8"), re.MULTILINE):
            path = notice.with_name(name)
            ok = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
            state = "sha256 as in its NOTICE" if ok else ("sha256 differs from its NOTICE" if path.is_file() else "missing")
            yield Check(name, state, ok, remedy="" if ok else _reinstall(str(path.relative_to(tools.parent))))


def _weights() -> Iterator[Check]:
    from geneface_jax.io import checkpoints

    try:
        root = configs.shipped("checkpoints")
    except InputError:
        return  # said by `_installation`
    for name in ("avatar/syncnet", "avatar/audio2motion", "demo/postnet", "demo/head", "demo/torso"):
        steps = checkpoints.steps(root / name)
        found = f"step {steps[-1]}" if steps else "missing"
        yield Check(f"checkpoints/{name}", found, bool(steps), needed=False, remedy="" if steps else _reinstall(f"checkpoints/{name}"))


def _extras() -> Iterator[Check]:
    for extra, (module, purpose) in EXTRAS.items():
        ok = importlib.util.find_spec(module) is not None
        remedy = "" if ok else install_extra(extra)
        yield Check(f"extra: {extra}", f"{'installed' if ok else 'not installed'} ({purpose})", ok, needed=False, remedy=remedy)


def _programs() -> Iterator[Check]:
    """Where compiled programs are kept."""
    from geneface_jax.io import compilation_cache

    folder = compilation_cache.keep_programs()
    found = f"{folder}, {compilation_cache.size_of(folder) / 1e6:.1f} MB" if folder else "not kept, so that every start compiles again"
    remedy = "" if folder else f"name a folder that only you can write in {compilation_cache.FOLDER}, unset {compilation_cache.SWITCH}"
    yield Check("compiled programs", found, folder is not None, needed=False, remedy=remedy)


def _free_space() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= DISK_NEEDED
    yield Check("free disk", f"{free / 1e9:.1f} GB", ok, remedy="" if ok else f"free {(DISK_NEEDED - free) / 1e9:.1f} GB")
    memory = _available_memory()
    if memory is not None:
        ok = memory >= MEMORY_NEEDED
        yield Check(
            "free memory", f"{memory / 1e9:.1f} GB", ok, needed=False, remedy="" if ok else "close other programs, or use --size 256"
        )


def _available_memory() -> float | None:
    """Bytes available without swapping (Linux); None on other systems."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return float(found.group(1)) * 1024 if found else None


# -------- The verb

PIPE_WIDTH = 160
"""Columns of the table if stdout is not a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options."""


def run(args: argparse.Namespace) -> int:
    """Runs the verb; the exit code is 1 if something needed is missing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    checks = list(examine())
    table = Table(title="geneface doctor", title_justify="left")
    table.add_column("")
    table.add_column("what")
    table.add_column("found", overflow="fold")
    table.add_column("fix it with", overflow="fold")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("MISSING", "bold red") if check.needed else Text("-", "yellow")
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.remedy))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
    if healthy(checks):
        print("Everything the main job needs is installed.")
        return 0
    print("Something needed is missing: run the commands in the last column.")
    return 1
