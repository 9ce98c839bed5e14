"""What a speaker does beside talking: head movement, body sway, blinks and brows, smooth and fixed by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_tools.audio.features import FPS

HEAD_SD_DEGREES = {"yaw": 5.5, "pitch": 2.8, "roll": 1.8}
"""Standard deviation over a long stretch."""

BODY_SD_CM = (0.25, 0.08, 0.2)
"""Sway of the shoulders along x, y, z."""

SLOWEST_HZ, FASTEST_HZ, N_WAVES = 0.04, 0.55, 24
"""Movement is a sum of sines; amplitudes fall as 1/frequency, as in recorded head movement."""

BLINKS_PER_MINUTE = 15.0
SHORTEST_BLINK_INTERVAL = 1.0
BLINK_CLOSING, BLINK_SHUT, BLINK_OPENING = 0.10, 0.05, 0.19
"""Seconds; lids close faster than they open."""

_LONG = 120.0
"""Seconds over which the standard deviations hold; a short clip is its beginning."""


@dataclass(frozen=True)
class Behaviour:
    """Per frame: `angles` [T, 3] radians (yaw, pitch, roll), `sway` [T, 3] cm, `blink` [T] 0..1, `brow` [T] -1..1."""

    angles: np.ndarray
    sway: np.ndarray
    blink: np.ndarray
    brow: np.ndarray


def make_behaviour(n_frames: int, seed: int) -> Behaviour:
    """Movement of one clip of T frames; another seed gives another one."""
    generator = np.random.default_rng([seed, 7])
    n_long = max(int(_LONG * FPS), n_frames)
    cut = slice(0, n_frames)
    angles = np.stack([np.deg2rad(sd) * _wander(generator, n_long)[cut] for sd in HEAD_SD_DEGREES.values()], axis=1)
    sway = np.stack([sd * _wander(generator, n_long)[cut] for sd in BODY_SD_CM], axis=1)
    brow = np.tanh(0.5 * _wander(generator, n_long)[cut])
    return Behaviour(angles, sway, _blinks(generator, n_frames), brow)


def _wander(generator: np.random.Generator, n_frames: int) -> np.ndarray:
    """[T] smooth aimless movement with mean 0 and standard deviation 1."""
    hertz = np.geomspace(SLOWEST_HZ, FASTEST_HZ, N_WAVES) * generator.uniform(0.95, 1.05, N_WAVES)
    phase = generator.uniform(0.0, 2.0 * np.pi, N_WAVES)
    waves = np.sin(2.0 * np.pi * np.arange(n_frames)[:, None] / FPS * hertz + phase) / hertz**0.8
    value = waves.sum(axis=1)
    return (value - value.mean()) / value.std()


def _blinks(generator: np.random.Generator, n_frames: int) -> np.ndarray:
    """[T] lid closure: blinks at irregular intervals, `BLINKS_PER_MINUTE` on average."""
    times = (np.arange(n_frames) + 0.5) / FPS
    closure = np.zeros(n_frames)
    onset = generator.uniform(0.3, 2.0)
    # The mean interval less its shortest part, drawn as a gamma of shape 2.
    spare = 60.0 / BLINKS_PER_MINUTE - SHORTEST_BLINK_INTERVAL
    while onset < n_frames / FPS:
        since = times - onset
        closing = np.clip(since / BLINK_CLOSING, 0.0, 1.0)
        opening = np.clip((since - BLINK_CLOSING - BLINK_SHUT) / BLINK_OPENING, 0.0, 1.0)
        pulse = closing * closing * (3.0 - 2.0 * closing) * (1.0 - opening * opening * (3.0 - 2.0 * opening))
        closure = np.maximum(closure, pulse)
        onset += SHORTEST_BLINK_INTERVAL + generator.gamma(2.0, spare / 2.0)
    return closure
