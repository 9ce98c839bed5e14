"""The avatar's speakers: proportions, colors and expressiveness, and the rest-pose vertices of their faces."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from data_tools.avatar.speech import appearance_of

# -------- Speaker parameters, drawn from a generator seeded by the name


@dataclass(frozen=True)
class Speaker:
    """Parameters of one person. Proportions are factors around 1 or lengths in cm around 0; colors are sRGB 0..255."""

    name: str
    seed: int
    face_width: float
    face_height: float
    jaw_width: float
    chin_length: float
    cheek: float
    nose_width: float
    nose_length: float
    eye_size: float
    eye_spacing: float
    brow_height: float
    brow_weight: float
    lip_thickness: float
    mouth_width: float
    expressiveness: float
    hair_volume: float
    hair_length: float
    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    cloth: tuple[float, float, float]
    wall: tuple[float, float, float]


# Palettes; `make_speaker` picks an entry and varies it.
_SKINS = ((226, 178, 150), (236, 196, 172), (198, 146, 112), (150, 102, 74), (214, 166, 130), (112, 76, 58), (240, 205, 185))
_HAIRS = ((58, 40, 30), (32, 26, 26), (140, 96, 54), (92, 58, 36), (176, 138, 84), (110, 104, 100), (120, 52, 30))
_DARK_SKIN = 400.0
"""Sum of a skin's three channels below which only the first, dark entries of hair and iris are used."""
_N_DARK_HAIRS, _N_DARK_IRISES = 2, 1
_IRISES = ((88, 60, 36), (70, 104, 130), (92, 112, 76), (60, 44, 34))
_CLOTHS = ((52, 74, 116), (120, 46, 52), (64, 92, 74), (70, 64, 78), (150, 118, 72), (40, 96, 108))
_WALLS = ((150, 162, 168), (176, 166, 150), (138, 152, 142), (160, 150, 166))


def make_speaker(name: str) -> Speaker:
    """The person of that name, deterministically; any string is a valid name."""
    seed = zlib.crc32(f"avatar speaker {name}".encode())
    generator = np.random.default_rng(seed)

    def near(center: float, spread: float) -> float:
        return float(np.clip(generator.normal(center, spread), center - 2 * spread, center + 2 * spread))

    def one_of(colors: tuple, spread: float) -> tuple[float, float, float]:
        # Varies mostly the brightness and hardly the hue: dark hair would turn violet.
        color = np.array(colors[generator.integers(len(colors))], float) * generator.normal(1.0, 0.01 * spread)
        red, green, blue = np.clip(color + generator.normal(0.0, 0.25 * spread, 3), 12.0, 246.0)
        return float(red), float(green), float(blue)

    proportions = {
        "face_width": near(1.0, 0.03),
        "face_height": near(1.0, 0.025),
        "jaw_width": near(0.97, 0.05),
        "chin_length": near(0.0, 0.3),
        "cheek": near(0.0, 0.25),
        "nose_width": near(1.0, 0.1),
        "nose_length": near(0.0, 0.2),
        "eye_size": near(1.08, 0.07),
        "eye_spacing": near(0.0, 0.12),
        "brow_height": near(0.0, 0.2),
        "brow_weight": near(1.0, 0.2),
        "lip_thickness": near(1.0, 0.15),
        "mouth_width": near(1.0, 0.07),
        "expressiveness": near(1.0, 0.07),
        "hair_volume": near(0.9, 0.2),
        "hair_length": float(generator.uniform(0.0, 1.0)),
    }
    skin = one_of(_SKINS, 5.0)
    lips = tuple(float(c) for c in np.clip(np.array(skin) * (0.86, 0.58, 0.60) + generator.normal(0.0, 4.0, 3), 12.0, 246.0))
    dark = sum(skin) < _DARK_SKIN
    hairs, irises = (_HAIRS[:_N_DARK_HAIRS], _IRISES[:_N_DARK_IRISES]) if dark else (_HAIRS, _IRISES)
    colors = {"hair": one_of(hairs, 5.0), "iris": one_of(irises, 6.0), "cloth": one_of(_CLOTHS, 8.0), "wall": one_of(_WALLS, 6.0)}
    speaker = Speaker(name=name, seed=seed, skin=skin, lips=lips, **proportions, **colors)
    return replace(speaker, **appearance_of(name))
