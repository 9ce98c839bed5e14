"""Small videos for tests, made by ffmpeg itself or from the avatar."""

from __future__ import annotations

import subprocess
from pathlib import Path

from data_tools.ffmpeg import ffmpeg_executable


def ffmpeg(*arguments: str | Path) -> None:
    """Runs ffmpeg; its message becomes the test's failure."""
    command = [ffmpeg_executable(), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()


def color_video(path: Path, *, seconds: float = 4.0, fps: float = 25, size: str = "160x120", sound: str | None = "sine=f=220") -> Path:
    """A faceless test picture with a tone, or with what `sound` describes, or without sound."""
    inputs = ["-f", "lavfi", "-i", f"testsrc=s={size}:r={fps}:d={seconds}"]
    inputs += ["-f", "lavfi", "-t", str(seconds), "-i", sound] if sound else []
    ffmpeg(*inputs, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", *(["-c:a", "aac"] if sound else []), path)
    return path
