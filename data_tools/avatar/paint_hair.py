"""Hair tiles: single strands drawn along a direction field, thinning out over the skin at the hairline."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.avatar.paint import noise, smoothstep

_N_LOCKS, _N_STRANDS, _N_EDGE = 420, 4200, 3000
_STATIONS = 8
_HAIRLINE = 0.15
"""Share of the cap's depth within which the hair closes over the skin."""


def paint_hair(
    shape: tuple[int, int], hair: np.ndarray, skin: np.ndarray, part: float, margin: float, generator: np.random.Generator
) -> np.ndarray:
    """[H, W, 3] sRGB of the cap: u runs around the head from the top, v from the hairline backwards.

    Args:
      shape: of the tile.
      hair: [3] sRGB.
      skin: [3] sRGB, seen between the strands at the hairline.
      part: u of the parting, -0.5..0.5, 0 over the middle of the forehead.
      margin: pixels outside u = 0 and u = 1, which show the same place.
      generator: of the strands.
    """
    tone = np.full(shape, 0.62, np.float32)
    cover = np.zeros(shape, np.float32)
    locks = generator.normal(0.0, 1.0, 65)

    def lock_of(u: np.ndarray) -> np.ndarray:
        return np.interp(u, np.linspace(-0.5, 0.5, 65), locks)

    for n, thickness, spread in ((_N_LOCKS, 13, 0.06), (_N_STRANDS, 2, 0.12), (_N_EDGE, 1, 0.12)):
        u = generator.uniform(-0.5, 0.5, n)
        if thickness == 1:
            v = np.abs(generator.normal(0.0, 0.06, n)) + 0.03 * np.maximum(lock_of(u), -0.8)
        else:
            v = generator.uniform(0.05, 1.0, n)
        lengths = generator.uniform(0.18, 0.42, n)
        tones = 0.90 + 0.05 * lock_of(u) + generator.normal(0.0, spread, n)
        for path, value in zip(_paths(u, v, lengths, part, generator), tones.tolist(), strict=True):
            for shift in (-1.0, 0.0, 1.0):  # around the back, where the tile begins again
                points = np.round(((path + (shift, 0.0)) * (shape[1] - 1 - 2 * margin, shape[0]) + (margin, 0.0)) * 16).astype(np.int32)
                if points[:, 0].max() < 0 or points[:, 0].min() > shape[1] * 16:
                    continue
                cv2.polylines(tone, [points], False, max(value, 0.35), thickness, cv2.LINE_AA, 4)
                if thickness < 13:
                    cv2.polylines(cover, [points], False, 1.0, thickness, cv2.LINE_AA, 4)
    x, y = np.meshgrid((np.arange(shape[1]) - margin) / (shape[1] - 1 - 2 * margin), np.arange(shape[0]) / shape[0])
    tone = cv2.GaussianBlur(tone, (0, 0), sigmaX=0.9, sigmaY=2.0)
    cover = np.maximum(cv2.GaussianBlur(cover, (0, 0), 0.7), smoothstep(y, 0.4 * _HAIRLINE, 1.2 * _HAIRLINE))
    # A broken band of shine where the cap turns over.
    ragged = 0.035 * np.interp(x[0] % 1.0 * 180.0, np.arange(180), generator.normal(0.0, 1.0, 180))
    shine = np.exp(-(((y - 0.27 - ragged) / 0.09) ** 2))
    side = (x - part + 0.5) % 1.0 - 0.5
    parting = np.exp(-((side / 0.0035) ** 2)) * smoothstep(y, 0.45, 0.30)
    value = tone * (1.0 + 0.20 * shine) * (1.0 - 0.35 * parting) * (0.80 + 0.20 * smoothstep(y, 0.02, 0.22))
    colour = hair * value[..., None] + 16.0 * (shine * (tone - 0.5))[..., None]
    alpha = cover[..., None]
    return skin * np.array([0.74, 0.68, 0.66]) * (1.0 - alpha) + colour * alpha


def _paths(u: np.ndarray, v: np.ndarray, lengths: np.ndarray, part: float, generator: np.random.Generator) -> np.ndarray:
    """[N, _STATIONS, 2] (u, v) of each strand: swept towards the parting near the hairline, straight back behind."""
    bend = generator.normal(0.0, 0.02, len(u))
    at = [np.stack([u % 1.0, v], axis=1)]
    step = lengths / (_STATIONS - 1)
    for _ in range(_STATIONS - 1):
        here = at[-1]
        side = (here[:, 0] - part + 0.5) % 1.0 - 0.5
        lean = -0.34 * side / (np.abs(side) + 0.03) * np.exp(-((here[:, 1] / 0.3) ** 2)) * np.exp(-((side / 0.3) ** 2))
        at.append(here + np.stack([(lean + bend) * step, step], axis=1))
    return np.stack(at, axis=1)


def paint_curtain(shape: tuple[int, int], hair: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB of long hair that hangs down: strands along v, in locks, darker towards the neck's middle."""
    fine = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=0.8, sigmaY=40.0)
    value = 0.92 + 0.12 * fine / fine.std() + 0.05 * noise((1, shape[1]), 6.0, generator)
    return hair * np.clip(value, 0.4, 1.6)[..., None]
