"""System libraries that MediaPipe and OpenCV load: which are missing, and the line that installs them.

`python -m geneface_jax.system_libraries` prints the missing Debian packages on one line, nothing when all are there.
"""

import ctypes
import sys

LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
}
"""File that is loaded -> Debian / Ubuntu package that brings it."""


def missing() -> dict[str, str]:
    """The entries of LIBRARIES that can't be loaded here; none on macOS and Windows, where the wheels bring what they need."""
    if not sys.platform.startswith("linux"):
        return {}
    return {library: package for library, package in LIBRARIES.items() if not _loads(library)}


def install_line(packages: list[str]) -> str:
    """The line to type as root."""
    return f"apt-get update && apt-get install -y {' '.join(packages)}"


def _loads(library: str) -> bool:
    """Whether the dynamic loader finds the library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(" ".join(missing().values()))
