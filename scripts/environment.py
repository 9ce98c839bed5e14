"""A virtual environment in .venv with this clone installed in it: what demo.py and test.sh do first.

    python scripts/environment.py [EXTRAS]     installs '-e .[EXTRAS]' and prints the environment's Python

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIN_PYTHON, END_PYTHON = (3, 11), (3, 14)
"""The first Python that will do and the first that won't; pyproject.toml and environment.sh say the same."""


class Unprepared(Exception):
    """The environment can't be made; told in one sentence that ends with the way out."""


def say(message: str) -> None:
    """Prints to stderr: stdout belongs to results."""
    print(message, file=sys.stderr, flush=True)


def python_in(venv: Path, windows: bool = os.name == "nt") -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def prepare(extras: str = "", root: Path = ROOT) -> Path:
    """Makes .venv and installs the clone; what is there already is kept.

    Args:
      extras: of pyproject.toml, separated by commas.
      root: the clone.

    Returns:
      The environment's Python.

    Raises:
      Unprepared: this Python is too old or too new, or has no venv module, or pip failed.
    """
    python = python_in(root / ".venv")
    if not python.exists():
        _make(root / ".venv")
    target = f".[{extras}]" if extras else "."
    stamp = root / ".venv" / ("geneface-installed" + (f"-{extras}" if extras else ""))
    wanted = _fingerprint(python, root)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8").strip() != wanted:
        say(f"+ pip install -e {target}   (about 1.6 GB on disk; one to two minutes)")
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", target]
        if subprocess.run(command, cwd=root, stdout=sys.stderr).returncode:
            raise Unprepared("pip could not install this clone: mend what it says above, then run this again.")
        stamp.write_text(wanted + "\n", encoding="utf-8")
    return python


def ensure_system_libraries(python: Path, root: Path = ROOT) -> list[str]:
    """Installs MediaPipe's system libraries as root with apt, otherwise says what to type.

    Returns:
      The Debian packages that are still missing: whatever needs them has to be left out.
    """
    packages = missing_packages(python, root)
    if not packages:
        return []
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    line = f"apt-get update && {' '.join(install)}"
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        say(f"MediaPipe needs system libraries that are missing, and whatever needs them is left out until root types: {line}")
        return packages
    say(f"+ {line}")
    if any(subprocess.run([*command, "-qq"], stdout=sys.stderr).returncode for command in (["apt-get", "update"], install)):
        say("That failed; whatever needs them is left out.")
    return missing_packages(python, root)


def missing_packages(python: Path, root: Path = ROOT) -> list[str]:
    """The Debian packages of MediaPipe's libraries that can't be loaded, asked of the installed clone."""
    return _output([python, "-m", "geneface_jax.system_libraries"], root).split()


def _make(venv: Path) -> None:
    if not MIN_PYTHON <= sys.version_info[:2] < END_PYTHON:
        here = ".".join(map(str, sys.version_info[:3]))
        raise Unprepared(f"This is Python {here}: run it with 3.11, 3.12 or 3.13 (on Windows, for example, `py -3.12` for `python`).")
    say(f"+ {sys.executable} -m venv {venv.name}")
    if subprocess.run([sys.executable, "-m", "venv", venv], stdout=sys.stderr).returncode:
        raise Unprepared("Python can't make a virtual environment: on Debian and Ubuntu type 'apt-get install -y python3-venv'.")


def _fingerprint(python: Path, root: Path) -> str:
    """What an installation depends on: requirements, the environment's Python, and where the clone lies."""
    files = b"".join((root / name).read_bytes() for name in ("pyproject.toml", "requirements.txt"))
    version = _output([python, "-c", "import sys; print(sys.version.split()[0])"], root)
    return f"{hashlib.sha256(files).hexdigest()} {version} {root}"


def _output(command: Sequence[str | Path], root: Path) -> str:
    return subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> None:
    """Prepares the environment for a shell script."""
    try:
        python = prepare(*sys.argv[1:2])
        ensure_system_libraries(python)
    except Unprepared as problem:
        say(str(problem))
        sys.exit(2)
    print(python)


if __name__ == "__main__":
    main()
