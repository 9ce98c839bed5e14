"""The texture atlas of a speaker: one picture with a tile per material, painted once by rule."""

from __future__ import annotations

import cv2
import numpy as np

from data_tools.avatar import topology as topo
from data_tools.avatar.speakers import Speaker
from data_tools.face.canonical import canonical_face

FACE_SIZE = 1024
TILES = {
    # name: x, y, width, height in atlas pixels
    "face": (0, 0, FACE_SIZE, FACE_SIZE),
    "hair": (1024, 0, 512, 512),
    "cloth": (1024, 512, 512, 512),
    "eye": (1536, 0, 256, 256),
    "upper_teeth": (1536, 256, 256, 128),
    "lower_teeth": (1536, 384, 256, 128),
    "skin": (1536, 512, 256, 256),
    "tongue": (1536, 768, 256, 64),
    "mouth": (1536, 832, 256, 64),
    "sclera": (1536, 896, 256, 64),
    "collar": (1536, 960, 256, 64),
}
ATLAS_SHAPE = (1024, 1792, 3)
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
    """[1024, 1792, 3] float32 sRGB 0..255."""
    generator = np.random.default_rng([speaker.seed, 3])
    atlas = np.zeros(ATLAS_SHAPE, np.float32)
    plain = np.array(speaker.skin, np.float32)
    painters = {
        "face": lambda shape: _face(shape, speaker, generator),
        "hair": lambda shape: _hair(shape, np.array(speaker.hair), generator),
        "cloth": lambda shape: _cloth(shape, np.array(speaker.cloth), generator),
        "eye": lambda shape: _eye(shape, np.array(speaker.iris), generator),
        "upper_teeth": lambda shape: _teeth(shape, edge_at_bottom=True),
        "lower_teeth": lambda shape: _teeth(shape, edge_at_bottom=False),
        "skin": lambda shape: plain * _mottle(shape, generator),
        "tongue": lambda shape: np.array([176, 92, 92]) * _mottle(shape, generator),
        "mouth": lambda shape: np.full((*shape, 3), (46, 20, 20)),
        "sclera": lambda shape: np.full((*shape, 3), (190, 160, 152)),
        "collar": lambda shape: 0.72 * np.array(speaker.cloth) * _knit(shape),
    }
    for name, painter in painters.items():
        x, y, width, height = TILES[name]
        atlas[y : y + height, x : x + width] = painter((height, width))
    return np.clip(atlas, 0.0, 255.0)


def _noise(shape: tuple[int, int], sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Smooth noise with standard deviation 1 and features of about `sigma` pixels."""
    value = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    return value / value.std()


def _mottle(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] factor around 1: skin is a little uneven, redder in some places."""
    coarse, middle, fine = (_noise(shape, sigma, generator) for sigma in (24.0, 6.0, 1.4))
    value = 1.0 + 0.012 * coarse + 0.012 * middle + 0.018 * fine
    red = 0.012 * _noise(shape, 18.0, generator)
    return np.stack([value + red, value - 0.5 * red, value - 0.5 * red], axis=-1)


def _blob(shape: tuple[int, int], centre: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.exp(-(((x - centre[0]) / radius[0]) ** 2) - ((y - centre[1]) / radius[1]) ** 2)[..., None]


def _stroke(shape: tuple[int, int], points: np.ndarray, thickness: int, blur: float, closed: bool = False) -> np.ndarray:
    canvas = np.zeros(shape, np.float32)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], closed, 1.0, thickness, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (0, 0), blur)[..., None]


def _face(shape: tuple[int, int], speaker: Speaker, generator: np.random.Generator) -> np.ndarray:
    points = tile_uv("face", face_uv())
    skin = np.array(speaker.skin, np.float32)
    image = skin * _mottle(shape, generator)
    for vertex in (50, 280):  # cheeks
        image *= 1.0 + _blob(shape, points[vertex], (85, 75)) * np.array([0.03, -0.06, -0.05])
    image *= 1.0 + _blob(shape, points[4], (55, 45)) * np.array([0.02, -0.05, -0.05])
    _freckles(image, points, speaker, generator)
    for eye in (0, 1):
        _paint_eye_surround(image, points, eye)
        _paint_brow(image, points, eye, speaker, generator)
    for crease in ((98, 206, 216, 212), (327, 426, 436, 432)):  # from the nostril down beside the mouth
        image *= 1.0 - 0.10 * _stroke(shape, points[list(crease)], 4, 6.0)
    for nostril in (79, 309):  # a vertex under each wing of the nose
        image *= 1.0 - 0.55 * _blob(shape, points[nostril], (12, 7))
    image *= 1.0 - 0.14 * _blob(shape, 0.6 * points[17] + 0.4 * points[18], (52, 12))
    _paint_lips(image, points, speaker, generator)
    return image


def _freckles(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    """A few moles and, for fair people, freckles: marks that a model can be seen to reproduce."""
    n_freckles = int(generator.integers(20, 120)) if sum(speaker.skin) > 560 else 6
    canvas = np.zeros(image.shape[:2], np.float32)
    middle, spread = points[[50, 280]].mean(axis=0), np.array([150.0, 60.0])
    for x, y in generator.normal(middle, spread, (n_freckles, 2)):
        cv2.circle(
            canvas,
            (int(x * 16), int(y * 16)),
            int(generator.uniform(1.0, 2.4) * 16),
            float(generator.uniform(0.1, 0.35)),
            -1,
            cv2.LINE_AA,
            4,
        )
    for x, y in generator.uniform((250, 300), (774, 900), (3, 2)):
        cv2.circle(canvas, (int(x), int(y)), 4, 0.7, -1, cv2.LINE_AA)
    image *= 1.0 - cv2.GaussianBlur(canvas, (0, 0), 0.8)[..., None] * np.array([0.55, 0.7, 0.75])


def _paint_eye_surround(image: np.ndarray, points: np.ndarray, eye: int) -> None:
    shape = image.shape[:2]
    upper, lower = points[list(topo.UPPER_LIDS[eye])], points[list(topo.LOWER_LIDS[eye])]
    image *= 1.0 - 0.17 * _blob(shape, upper.mean(axis=0) - (0, 12), (62, 34))
    image *= 1.0 - 0.06 * _blob(shape, lower.mean(axis=0) + (0, 22), (55, 20))
    image *= 1.0 - 0.30 * _stroke(shape, points[list(topo.UPPER_CREASES[eye])], 3, 2.0)
    image *= 1.0 - 0.80 * np.minimum(1.5 * _stroke(shape, upper - (0, 2), 6, 1.2), 1.0)  # lashes and the lid's edge
    image *= 1.0 - 0.35 * _stroke(shape, lower + (0, 1), 3, 1.2)


def _paint_brow(image: np.ndarray, points: np.ndarray, eye: int, speaker: Speaker, generator: np.random.Generator) -> None:
    """Hairs that lean outwards, in a band between the brow's upper and lower edge."""
    top, bottom = (points[list(edge)] for edge in topo.BROWS[eye])
    canvas = np.zeros(image.shape[:2], np.float32)
    along = generator.uniform(0.0, 4.0, 420)
    across = np.clip(generator.normal(0.5, 0.2 * speaker.brow_weight, 420), 0.0, 1.0)
    knots = np.arange(5)
    outward = -1.0 if eye == 0 else 1.0
    for a, b in zip(along, across, strict=True):
        edge = [np.array([np.interp(a, knots, side[:, 0]), np.interp(a, knots, side[:, 1])]) for side in (top, bottom)]
        root = edge[0] * (1 - b) + edge[1] * b
        # Near the nose the hairs stand up, towards the temple they lie flat.
        tip = root + generator.uniform(10, 17) * np.array([outward * (1.0 - 0.14 * a), -0.25 - 0.16 * a])
        ends = [tuple(int(v * 16) for v in end) for end in (root, tip)]
        cv2.line(canvas, *ends, float(generator.uniform(0.45, 0.9)), 2, cv2.LINE_AA, 4)
    alpha = np.clip(cv2.GaussianBlur(canvas, (0, 0), 0.9), 0.0, 0.95)[..., None]
    image[:] = image * (1 - alpha) + 0.6 * np.array(speaker.hair, np.float32) * alpha


def _paint_lips(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    shape = image.shape[:2]
    outer = points[[*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP[::-1][1:-1]]]
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outer * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    mask = cv2.GaussianBlur(mask, (0, 0), 2.0)[..., None]
    folds = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.6, sigmaY=14.0)
    lips = np.array(speaker.lips, np.float32) * (1.0 + 0.05 * folds / folds.std())[..., None]
    lips *= 1.0 + 0.12 * _blob(shape, points[17] - (0, 14), (44, 9))  # the lower lip catches the light
    upper = points[[*topo.OUTER_UPPER_LIP, *topo.INNER_UPPER_LIP[::-1]]]
    shade = np.zeros(shape, np.float32)
    cv2.fillPoly(shade, [np.round(upper).astype(np.int32)], 1.0)
    lips *= 1.0 - 0.13 * cv2.GaussianBlur(shade, (0, 0), 2.0)[..., None]
    image[:] = image * (1 - mask) + lips * mask
    for loop in (topo.INNER_UPPER_LIP, topo.INNER_LOWER_LIP):
        image *= 1.0 - 0.45 * _stroke(shape, points[list(loop)], 4, 1.6)


def _hair(shape: tuple[int, int], colour: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Strands along v (from the hairline backwards), in locks."""

    def streaks(across: float, along: float) -> np.ndarray:
        noise = generator.standard_normal(shape).astype(np.float32)
        # Wrapped around, so that the first and the last column of the cap match.
        margin = shape[1] // 4
        smooth = cv2.GaussianBlur(np.pad(noise, ((0, 0), (margin, margin)), mode="wrap"), (0, 0), sigmaX=across, sigmaY=along)
        return smooth[:, margin:-margin] / smooth.std()

    value = 1.0 + 0.15 * streaks(0.9, 40.0) + 0.13 * streaks(4.0, 60.0)
    return colour * np.clip(value, 0.4, 1.8)[..., None]


def _knit(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return (1.0 + 0.10 * np.sin(x * 2 * np.pi / 9.0) * np.cos(y * 2 * np.pi / 12.0))[..., None]


def _cloth(shape: tuple[int, int], colour: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Knitwear with two broad bands and soft folds."""
    image = colour * _knit(shape) * (1.0 + 0.05 * _noise(shape, 30.0, generator))[..., None]
    for row in (150, 195):
        image[row : row + 20] = image[row : row + 20] * 0.35 + 0.65 * np.array([212, 205, 192])
    return image


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
    sclera = np.array([232, 226, 220]) * (1.0 - 0.22 * np.clip((radius - 60) / 66.0, 0.0, 1.0))[..., None]

    def inside(limit: float) -> np.ndarray:
        return np.clip(limit - radius + 1.0, 0.0, 2.0)[..., None] / 2.0

    image = sclera * (1 - inside(iris_radius)) + (1.15 * iris * value[..., None]) * inside(iris_radius)
    image = image * (1 - inside(pupil_radius)) + 14.0 * inside(pupil_radius)
    shine = np.exp(-(((x + 17) / 9.0) ** 4) - ((y + 21) / 9.0) ** 4)[..., None]
    return image * (1 - 0.9 * shine) + 250.0 * 0.9 * shine


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
