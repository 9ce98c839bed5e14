"""The texture atlas of a speaker: one picture with a tile per material, painted once by rule."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.avatar.head_parts import parting
from data_tools.avatar.paint import mottle, noise, smoothstep
from data_tools.avatar.paint_face import paint_face
from data_tools.avatar.paint_hair import paint_curtain, paint_hair
from data_tools.avatar.paint_skin import paint_ear, paint_neck, paint_skull
from data_tools.avatar.speakers import Speaker
from data_tools.face.canonical import canonical_face

FACE_SIZE = 1024
TILES = {
    # name: x, y, width, height in atlas pixels
    "face": (0, 0, FACE_SIZE, FACE_SIZE),
    "hair": (1024, 0, 1024, 512),
    "cloth": (1024, 512, 512, 512),
    "collar": (1536, 512, 512, 64),
    "neck": (1536, 576, 512, 256),
    "ear": (1536, 832, 256, 192),
    "skull": (1792, 832, 256, 192),
    "eye": (2048, 0, 256, 256),
    "upper_teeth": (2048, 256, 256, 128),
    "lower_teeth": (2048, 384, 256, 128),
    "tongue": (2048, 512, 256, 64),
    "mouth": (2048, 576, 256, 64),
    "sclera": (2048, 640, 256, 64),
    "curtain": (2048, 704, 256, 320),
}
ATLAS_SHAPE = (1024, 2304, 3)
_MARGIN = 2.0
"""Pixels kept free inside a tile's edge, so that interpolation never reads the neighbour."""


def tile_uv(name: str, uv: np.ndarray) -> np.ndarray:
    """Part coordinates [..., 2] in 0..1 (v down) -> atlas pixels, float32."""
    x, y, width, height = TILES[name]
    size = np.array([width, height]) - 1.0 - 2.0 * _MARGIN
    return (np.array([x, y]) + _MARGIN + np.asarray(uv) * size).astype(np.float32)


def face_uv() -> np.ndarray:
    """[468, 2] the face's texture coordinates with v down, 0..1."""
    uv = canonical_face()["uv"].copy()
    uv[:, 1] = 1.0 - uv[:, 1]
    return uv


def make_atlas(speaker: Speaker) -> np.ndarray:
    """[1024, 2304, 3] float32 sRGB 0..255."""
    generator = np.random.default_rng([speaker.seed, 3])
    atlas = np.zeros(ATLAS_SHAPE, np.float32)
    skin, hair = np.array(speaker.skin, np.float32), np.array(speaker.hair, np.float32)
    painters = {
        "face": lambda shape: paint_face(shape, tile_uv("face", face_uv()), speaker, generator),
        "hair": lambda shape: paint_hair(shape, hair, skin, parting(speaker), _MARGIN, generator),
        "cloth": lambda shape: _cloth(shape, np.array(speaker.cloth), generator),
        "eye": lambda shape: _eye(shape, np.array(speaker.iris), generator),
        "upper_teeth": lambda shape: _teeth(shape, edge_at_bottom=True),
        "lower_teeth": lambda shape: _teeth(shape, edge_at_bottom=False),
        "neck": lambda shape: paint_neck(shape, skin, generator),
        "ear": lambda shape: paint_ear(shape, skin, generator),
        "skull": lambda shape: paint_skull(shape, skin, generator),
        "curtain": lambda shape: paint_curtain(shape, hair, generator),
        "tongue": lambda shape: np.array([176, 92, 92]) * mottle(shape, generator),
        "mouth": lambda shape: np.full((*shape, 3), (46, 20, 20)),
        "sclera": lambda shape: np.full((*shape, 3), (190, 160, 152)),
        "collar": lambda shape: _collar(shape, np.array(speaker.cloth)),
    }
    for name, painter in painters.items():
        x, y, width, height = TILES[name]
        atlas[y : y + height, x : x + width] = painter((height, width))
    return np.clip(atlas, 0.0, 255.0)


def _collar(shape: tuple[int, int], colour: np.ndarray) -> np.ndarray:
    """Ribs across a rolled edge, shaded where it meets the neck and the shoulders."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ribs = 1.0 + 0.09 * np.cos(2.0 * np.pi * 44.0 * x / shape[1])
    roll = 0.62 + 0.30 * np.sin(np.pi * np.clip(y / shape[0], 0.0, 1.0))
    return colour * (ribs * roll)[..., None]


def _cloth(shape: tuple[int, int], colour: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Fine knitwear with two broad bands, soft folds, and the collar's shade; rows are equally long on the body (`body.torso_mesh`)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    # Columns of stitches that are wider than a pixel of the picture everywhere they are seen, so they cannot beat with it.
    ribs = 1.0 + 0.035 * np.cos(2.0 * np.pi * 96.0 * x / shape[1])
    yarn = 1.0 + 0.02 * noise(shape, 1.2, generator)
    folds = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=16.0, sigmaY=70.0)
    folds = 1.0 + 0.05 * folds / folds.std()
    image = colour * (ribs * yarn)[..., None]
    for row in (150, 195):
        band = np.clip((11.0 - np.abs(y - row - 10.0)) / 1.5, 0.0, 1.0)[..., None]
        image = image * (1.0 - 0.85 * band) + 0.85 * band * np.array([206, 200, 188]) * yarn[..., None]
    shade = 1.0 - 0.42 * np.exp(-((y / 55.0) ** 2))
    return image * (folds * shade)[..., None]


def _eye(shape: tuple[int, int], iris: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sclera, iris with radial fibres, pupil and a window's reflection; the tile is the eyeball's cap from the front."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    x, y = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    iris_radius, pupil_radius = 56.0, 23.0
    fibres = generator.standard_normal(180)
    value = 1.0 + 0.18 * np.interp(angle, np.linspace(-np.pi, np.pi, 180), fibres)
    value *= 0.75 + 0.5 * np.clip((radius - pupil_radius) / (iris_radius - pupil_radius), 0.0, 1.0)
    value *= 1.0 - 0.65 * np.clip((radius - 0.80 * iris_radius) / (0.2 * iris_radius), 0.0, 1.0)  # the limbal ring
    value *= 1.0 + 0.30 * np.clip(y / iris_radius, -0.6, 1.0)  # light from above falls through to the iris' lower half
    sclera = np.array([234, 228, 222]) * (1.0 - 0.30 * np.clip((radius - 56) / 66.0, 0.0, 1.0))[..., None]

    def inside(limit: float) -> np.ndarray:
        return np.clip(limit - radius + 1.0, 0.0, 2.0)[..., None] / 2.0

    image = sclera * (1 - inside(iris_radius)) + (1.15 * iris * value[..., None]) * inside(iris_radius)
    image = image * (1 - inside(pupil_radius)) + 14.0 * inside(pupil_radius)
    image *= 1.0 - 0.38 * smoothstep(y, -14.0, -58.0)[..., None]  # the upper lid's shadow
    shine = np.exp(-(((x + 17) / 11.0) ** 4) - ((y + 19) / 11.0) ** 4) + 0.30 * np.exp(-(((x - 20) / 9.0) ** 2) - ((y - 22) / 9.0) ** 2)
    shine = np.minimum(shine, 1.0)[..., None]
    return image * (1 - 0.95 * shine) + 254.0 * 0.95 * shine


def _teeth(shape: tuple[int, int], edge_at_bottom: bool) -> np.ndarray:
    """A row of teeth with dark gaps, darker towards the sides; gums at the other end."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across = x / (shape[1] - 1) * 2.0 - 1.0
    image = np.array([232, 224, 206]) * (1.0 - 0.55 * np.abs(across) ** 1.6)[..., None]
    gaps = np.abs((across * 6.0) % 1.0 - 0.5)  # an even number of teeth: a gap in the middle
    image *= 1.0 - 0.30 * np.exp(-(((0.5 - gaps) / 0.05) ** 2))[..., None]
    height = y / (shape[0] - 1)
    from_gum = height if edge_at_bottom else 1.0 - height
    gum = np.clip((0.34 - from_gum) / 0.06, 0.0, 1.0)[..., None]
    return image * (1 - gum) + np.array([170, 84, 84]) * (1.0 - 0.4 * np.abs(across))[..., None] * gum
