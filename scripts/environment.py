"""Creates a virtual environment in .venv and installs this clone in it; used by demo.py and test.sh.

    python scripts/environment.py [EXTRAS]     installs '-e .[EXTRAS]' and prints the environment's Python

Standard library only: this runs before anything is installed.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIN_PYTHON, END_PYTHON = (3, 11), (3, 14)
"""The first supported Python and the first unsupported one; also in pyproject.toml and environment.sh."""


class SetupError(Exception):
    """The environment can't be created; the message is one sentence that ends with a remedy."""


def say(message: str) -> None:
    """Prints to stderr: stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def python_in(venv: Path, windows: bool = os.name == "nt") -> Path:
    """Path of a virtual environment's interpreter."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def prepare(extras: str = "", root: Path = ROOT) -> Path:
    """Creates .venv and installs the clone, unless that is already done; returns the environment's Python.

    Args:
      extras: extras of pyproject.toml, comma-separated.
      root: the clone.

    Raises:
      SetupError: this Python is too old or too new, or has no venv module, or pip failed.
    """
    python = python_in(root / ".venv")
    if not python.exists():
        _create(root / ".venv")
    target = f".[{extras}]" if extras else "."
    stamp = root / ".venv" / ("geneface-installed" + (f"-{extras}" if extras else ""))
    fingerprint = _fingerprint(python, root)
    if not stamp.is_file() or stamp.read_text(encoding="utf-8").strip() != fingerprint:
        say(f"+ pip install -e {target}   (about 1.6 GB on disk; one to two minutes)")
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", target]
        if subprocess.run(command, cwd=root, stdout=sys.stderr).returncode:
            raise SetupError("pip could not install this clone: fix the error above, then run this again.")
        stamp.write_text(fingerprint + "\n", encoding="utf-8")
    return python


def ensure_system_libraries(python: Path, root: Path = ROOT) -> list[str]:
    """Installs MediaPipe's system libraries with apt if run as root, otherwise prints the command; returns the packages still missing."""
    packages = missing_packages(python, root)
    if not packages:
        return []
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    line = f"apt-get update && {' '.join(install)}"
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        say(f"MediaPipe's system libraries are missing, so steps that need them are left out; to install them run as root: {line}")
        return packages
    say(f"+ {line}")
    if any(subprocess.run([*command, "-qq"], stdout=sys.stderr).returncode for command in (["apt-get", "update"], install)):
        say("The installation failed: steps that need these libraries are left out.")
    return missing_packages(python, root)


def missing_packages(python: Path, root: Path = ROOT) -> list[str]:
    """The Debian packages of MediaPipe's libraries that can't be loaded, determined by the installed clone."""
    return _output([python, "-m", "geneface_jax.system_libraries"], root).split()


def _create(venv: Path) -> None:
    if not MIN_PYTHON <= sys.version_info[:2] < END_PYTHON:
        version = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(f"This is Python {version}: run it with 3.11, 3.12 or 3.13 (on Windows, for example, `py -3.12` for `python`).")
    say(f"+ {sys.executable} -m venv {venv.name}")
    if subprocess.run([sys.executable, "-m", "venv", venv], stdout=sys.stderr).returncode:
        raise SetupError("Python can't create a virtual environment: on Debian and Ubuntu run 'apt-get install -y python3-venv'.")


def _fingerprint(python: Path, root: Path) -> str:
    """Identifies everything an installation depends on: requirements, the environment's Python, and the clone's location."""
    files = b"".join((root / name).read_bytes() for name in ("pyproject.toml", "requirements.txt"))
    version = _output([python, "-c", "import sys; print(sys.version.split()[0])"], root)
    return f"{hashlib.sha256(files).hexdigest()} {version} {root}"


def _output(command: Sequence[str | Path], root: Path) -> str:
    return subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main() -> None:
    """Prepares the environment and prints its Python, for shell scripts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="?", default="", help="extras of pyproject.toml, comma-separated (default: none)")
    options = parser.parse_args()
    try:
        python = prepare(options.extras)
        ensure_system_libraries(python)
    except SetupError as error:
        say(str(error))
        sys.exit(2)
    print(python)


if __name__ == "__main__":
    main()
