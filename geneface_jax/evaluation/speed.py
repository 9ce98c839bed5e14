"""Frames per second, without what happens once (compiling, the first frames) and without any scoring."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

WARM_UP = 3
"""Frames before the clock starts: the first compiles, and two batches are under way at any time."""

MIN_MEASURED = 4
"""Fewer say nothing."""

MEASURED = 20
"""Frames that are timed at most."""


def frames_per_second(images: Iterable[np.ndarray], warm_up: int = WARM_UP, measured: int = MEASURED) -> dict[str, Any] | None:
    """Times a stream of frames that are made when they are asked for.

    Args:
      images: the stream; read to its end, or to `warm_up + measured` frames.
      warm_up: frames that are not counted.
      measured: frames that are counted at most.

    Returns:
      {"frames_per_second", "frames" (counted), "device", "cores"}; None when fewer than `MIN_MEASURED` frames could be counted.
    """
    started, counted = 0.0, 0
    for i, _ in enumerate(images):
        counted = i + 1 - warm_up
        if counted == 0:
            started = time.perf_counter()
        if counted == measured:
            break
    if counted < MIN_MEASURED:
        return None
    rate = counted / max(time.perf_counter() - started, 1e-9)
    device = jax.devices()[0]
    return {
        "frames_per_second": rate,
        "frames": counted,
        "device": f"{device.platform} {device.device_kind}".strip(),
        "cores": os.cpu_count(),
    }
