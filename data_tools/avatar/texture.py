"""Procedural texture atlas of an avatar speaker: skin, face, hair, cloth, eyes and teeth."""

from collections.abc import Callable

import cv2
import numpy as np

from data_tools.avatar import geometry
from data_tools.avatar.speakers import Speaker
from data_tools.landmarks68 import canonical_face

# -------- Drawing primitives (pixels, float32)


def noise(shape: tuple[int, int], sigma: float, generator: np.random.Generator) -> np.ndarray:
    """[H, W] smooth noise with standard deviation 1 and features of about `sigma` pixels."""
    value = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    return value / value.std()


def mottle(shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] factor around 1: uneven skin with redder areas."""
    coarse, middle, fine = (noise(shape, sigma, generator) for sigma in (24.0, 6.0, 1.4))
    value = 1.0 + 0.012 * coarse + 0.010 * middle + 0.014 * fine
    red = 0.012 * noise(shape, 18.0, generator)
    return np.stack([value + red, value - 0.5 * red, value - 0.5 * red], axis=-1)


def seamless(shape: tuple[int, int], painter: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """A horizontally seamless tile: the result of `painter` cross-faded with itself shifted by half its width."""
    width = shape[1]
    image = painter(shape)
    shifted = np.roll(image, width // 2, axis=1)
    weight = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(width) + 0.5) / width)
    weight = weight.reshape(1, width, *[1] * (image.ndim - 2))
    return image * weight + shifted * (1.0 - weight)


def blob(shape: tuple[int, int], center: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    """[H, W, 1] Gaussian spot, 1 at its `center` (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return np.exp(-(((x - center[0]) / radius[0]) ** 2) - ((y - center[1]) / radius[1]) ** 2)[..., None]


def stroke(shape: tuple[int, int], points: np.ndarray, thickness: int, blur: float, closed: bool = False) -> np.ndarray:
    """[H, W, 1] polyline through `points` [N, 2], blurred by `blur` pixels."""
    canvas = np.zeros(shape, np.float32)
    cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], closed, 1.0, thickness, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (0, 0), blur)[..., None]


# -------- Skin tiles of skull, neck and ears, with baked shadows


def _uv(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x + 0.5) / shape[1], (y + 0.5) / shape[0]


def paint_skull(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: skin behind the face's boundary, darker in the shadow of hair, ears and jaw."""
    u, _ = _uv(shape)
    # Continues the border of the face's tile (`paint_face`): in the hair's shadow above, in the jaw's below.
    shade = 0.16 + 0.18 * geometry.smoothstep(np.abs((u + 0.5) % 1.0 - 0.5), 0.32, 0.24)
    return skin * seamless(shape, lambda s: mottle(s, generator)) * (1.0 - shade[..., None] * np.array([0.85, 1.0, 1.05]))


def paint_neck(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: u around the neck from the back, v down; the head's soft shadow under the chin, tendons, the collar's shadow."""
    u, v = _uv(shape)
    side = (u - 0.5) * 2.0 * np.pi  # 0 at the front, > 0 on the image's right
    # The shadow's lower edge is lowest under the chin, on the side away from the key light.
    edge = 0.70 + 0.10 * np.exp(-(((side - 0.25) / 0.75) ** 2))
    shadow = 0.42 * geometry.smoothstep(v, edge + 0.16, edge - 0.12)
    tendons = sum(np.exp(-(((side - s * (0.95 - 0.75 * v)) / 0.16) ** 2)) for s in (-1.0, 1.0)) * geometry.smoothstep(v, 0.5, 0.9)
    notch = np.exp(-((side / 0.16) ** 2) - ((v - 1.0) / 0.09) ** 2)
    factor = (1.0 - shadow) * (1.0 + 0.045 * tendons) * (1.0 - 0.10 * notch) * (1.0 - 0.30 * geometry.smoothstep(v, 0.90, 1.0))
    warm = np.stack([np.ones(shape), 1.0 - 0.10 * shadow, 1.0 - 0.14 * shadow], axis=-1)
    return skin * seamless(shape, lambda s: mottle(s, generator)) * factor[..., None] * warm


def paint_ear(shape: tuple[int, int], skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB: u runs around the ear from its front via the lobe, v from the concha over the rim to the head."""
    u, v = _uv(shape)
    angle = (2.0 * np.pi * u + np.pi) % (2.0 * np.pi)
    lobe = np.exp(-(((angle - 1.5 * np.pi) / 0.55) ** 2))
    front = np.exp(-(((angle - np.pi) / 0.6) ** 2))
    hollow = 0.60 * geometry.smoothstep(v, 0.36, 0.12) * (1.0 - 0.5 * lobe)
    groove = 0.36 * np.exp(-(((v - 0.56) / 0.07) ** 2)) * (1.0 - lobe) * (1.0 - front)
    behind = 0.28 * geometry.smoothstep(v, 0.84, 1.0)
    ridge = 0.07 * np.exp(-(((v - 0.40) / 0.06) ** 2)) + 0.08 * np.exp(-(((v - 0.72) / 0.07) ** 2))
    factor = (1.0 - hollow) * (1.0 - groove) * (1.0 - behind) * (1.0 + ridge)
    # Subsurface scattering in thin skin: darker areas are redder.
    dark = 1.0 - factor
    tint = np.stack([1.03 + 0.08 * dark, 0.95 - 0.14 * dark, 0.94 - 0.16 * dark], axis=-1)
    return skin * seamless(shape, lambda s: mottle(s, generator)) * factor[..., None] * tint


# -------- Face tile: skin, baked shadows, brows, lids and lips, positioned by the mesh's vertices


def paint_face(shape: tuple[int, int], points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> np.ndarray:
    """[H, W, 3] sRGB of the face's tile.

    The tile shows the face upside down: y grows from chin to forehead.

    Args:
      shape: of the tile.
      points: [468, 2] the mesh's vertices in pixels of the tile.
      speaker: colors and brows.
      generator: of all random details.
    """
    skin = np.array(speaker.skin, np.float32)
    image = skin * mottle(shape, generator)
    for vertex in (50, 280):  # cheeks
        image *= 1.0 + blob(shape, points[vertex], (85, 75)) * np.array([0.03, -0.06, -0.05])
    image *= 1.0 + blob(shape, points[4], (55, 45)) * np.array([0.02, -0.05, -0.05])
    _freckles(image, points, speaker, generator)
    for eye in (0, 1):
        _paint_eye_surround(image, points, eye)
        _paint_brow(image, points, eye, speaker, generator)
    _paint_shadows(image, points)
    for crease in ((98, 206, 216, 212), (327, 426, 436, 432)):  # nasolabial folds
        image *= 1.0 - 0.13 * stroke(shape, points[list(crease)], 6, 7.0)
    for nostril in (79, 309):
        image *= 1.0 - 0.55 * blob(shape, points[nostril], (12, 7))
    image *= 1.0 - 0.22 * blob(shape, 0.5 * points[17] + 0.5 * points[18], (52, 15))
    _paint_lips(image, points, speaker, generator)
    return image


def _paint_shadows(image: np.ndarray, points: np.ndarray) -> None:
    """Shadows under the hair, at the nose and along the jaw, and highlights on nose, forehead, chin and cheeks."""
    shape = image.shape[:2]
    warm = np.array([0.85, 1.0, 1.05])
    oval = points[list(geometry.FACE_OVAL)]
    hair = np.concatenate([oval[-9:], oval[:10]])
    image *= 1.0 - 0.34 * np.minimum(1.6 * stroke(shape, hair, 46, 20.0), 1.0) * warm
    image *= 1.0 - 0.16 * np.minimum(1.4 * stroke(shape, oval[9:28], 40, 24.0), 1.0) * warm
    image *= 1.0 - 0.24 * blob(shape, points[2] - (0, 10), (46, 17)) * warm
    for bridge, wing in ((193, 129), (417, 358)):
        image *= 1.0 - 0.13 * blob(shape, points[bridge], (20, 30)) * warm
        image *= 1.0 - 0.15 * blob(shape, points[wing], (14, 22)) * warm
    for vertex, gain, radius in ((4, 0.07, (15, 13)), (6, 0.05, (12, 46)), (151, 0.05, (110, 45)), (175, 0.03, (50, 26))):
        image *= 1.0 + gain * blob(shape, points[vertex], radius)
    for cheek in (117, 346):
        image *= 1.0 + 0.05 * blob(shape, points[cheek], (60, 26))


def _freckles(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    """A mole and, on fair skin, freckles: details by which a model's reproduction can be judged."""
    n_freckles = int(generator.integers(20, 120)) if sum(speaker.skin) > 560 else 6
    canvas = np.zeros(image.shape[:2], np.float32)
    middle, spread = points[[50, 280]].mean(axis=0), np.array([150.0, 60.0])
    for x, y in generator.normal(middle, spread, (n_freckles, 2)):
        radius, strength = int(generator.uniform(1.0, 2.4) * 16), float(generator.uniform(0.08, 0.26))
        cv2.circle(canvas, (int(x * 16), int(y * 16)), radius, strength, -1, cv2.LINE_AA, 4)
    # One mole, on a cheek or the chin: near an eye or the nose it would look like dirt.
    at = points[(205, 425, 214, 434)[generator.integers(4)]] + generator.uniform(-18, 18, 2)
    cv2.circle(canvas, (int(at[0]), int(at[1])), 3, 0.5, -1, cv2.LINE_AA)
    image *= 1.0 - cv2.GaussianBlur(canvas, (0, 0), 1.1)[..., None] * np.array([0.45, 0.6, 0.65])


def _paint_eye_surround(image: np.ndarray, points: np.ndarray, eye: int) -> None:
    shape = image.shape[:2]
    upper, lower = points[list(geometry.UPPER_LIDS[eye])], points[list(geometry.LOWER_LIDS[eye])]
    image *= 1.0 - 0.24 * blob(shape, upper.mean(axis=0) + (0, 16), (62, 32)) * np.array([0.85, 1.0, 1.0])
    image *= 1.0 - 0.08 * blob(shape, lower.mean(axis=0) - (0, 22), (55, 20))
    image *= 1.0 - 0.30 * stroke(shape, points[list(geometry.UPPER_CREASES[eye])], 3, 2.0)
    image *= 1.0 - 0.80 * np.minimum(1.5 * stroke(shape, upper - (0, 2), 6, 1.2), 1.0)  # lashes
    image *= 1.0 - 0.35 * stroke(shape, lower + (0, 1), 3, 1.2)


def _paint_brow(image: np.ndarray, points: np.ndarray, eye: int, speaker: Speaker, generator: np.random.Generator) -> None:
    """Single hairs that lean outwards, between the brow's upper and lower edge."""
    top, bottom = (points[list(edge)] for edge in geometry.BROWS[eye])
    canvas = np.zeros(image.shape[:2], np.float32)
    along = 4.0 * generator.beta(1.15, 1.15, 560)
    across = np.clip(generator.normal(0.5, 0.19 * speaker.brow_weight, 560), 0.0, 1.0)
    knots = np.arange(5)
    outward = -1.0 if eye == 0 else 1.0
    for a, b in zip(along, across, strict=True):
        edge = [np.array([np.interp(a, knots, side[:, 0]), np.interp(a, knots, side[:, 1])]) for side in (top, bottom)]
        root = edge[0] * (1 - b) + edge[1] * b
        # Hairs are upright near the nose and flat towards the temple.
        tip = root + generator.uniform(10, 17) * np.array([outward * (1.0 - 0.14 * a), -0.25 - 0.16 * a])
        ends = [tuple(int(v * 16) for v in end) for end in (root, tip)]
        cv2.line(canvas, *ends, float(generator.uniform(0.35, 0.75)), 2, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(canvas, (0, 0), 6.0)
    alpha = np.clip(0.8 * cv2.GaussianBlur(canvas, (0, 0), 1.0) + 0.25 * soft, 0.0, 0.9)[..., None]
    image[:] = image * (1 - alpha) + 0.58 * np.array(speaker.hair, np.float32) * alpha


def _paint_lips(image: np.ndarray, points: np.ndarray, speaker: Speaker, generator: np.random.Generator) -> None:
    shape = image.shape[:2]
    outer = points[[*geometry.OUTER_UPPER_LIP, *geometry.OUTER_LOWER_LIP[::-1][1:-1]]]
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.round(outer * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    mask = 0.92 * cv2.GaussianBlur(mask, (0, 0), 3.6)[..., None]
    folds = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.8, sigmaY=12.0)
    lips = np.array(speaker.lips, np.float32) * (1.0 + 0.035 * folds / folds.std())[..., None]
    # The edges blend into the skin.
    lips *= 1.0 - 0.10 * stroke(shape, outer, 10, 6.0, closed=True)
    upper = points[[*geometry.OUTER_UPPER_LIP, *geometry.INNER_UPPER_LIP[::-1]]]
    shade = np.zeros(shape, np.float32)
    cv2.fillPoly(shade, [np.round(upper).astype(np.int32)], 1.0)
    lips *= 1.0 - 0.12 * cv2.GaussianBlur(shade, (0, 0), 3.0)[..., None]
    # Highlights of the key light on the lower lip and, weaker, on the upper lip's bow.
    middle = 0.5 * (points[14] + points[17])
    lips += (34.0 * blob(shape, middle - (8, 2), (30, 7)) + 16.0 * blob(shape, middle - (10, 3), (12, 4))) * np.array([1.0, 0.9, 0.88])
    lips += 12.0 * blob(shape, 0.55 * points[0] + 0.45 * points[13], (24, 5))
    image[:] = image * (1 - mask) + lips * mask
    for loop in (geometry.INNER_UPPER_LIP, geometry.INNER_LOWER_LIP):
        image *= 1.0 - 0.50 * stroke(shape, points[list(loop)], 4, 2.0)


# -------- Hair tiles: strands drawn along a direction field, sparser at the hairline

_N_LOCKS, _N_STRANDS, _N_EDGE = 420, 4200, 3000
_STATIONS = 8
_HAIRLINE = 0.15
"""Fraction of the cap's depth over which the hair becomes opaque."""


def paint_hair(
    shape: tuple[int, int], hair: np.ndarray, skin: np.ndarray, part: float, margin: float, generator: np.random.Generator
) -> np.ndarray:
    """[H, W, 3] sRGB of the cap: u runs around the head from the top, v from the hairline backwards.

    Args:
      shape: of the tile.
      hair: [3] sRGB.
      skin: [3] sRGB, visible between the strands at the hairline.
      part: u of the parting, from `geometry.parting`.
      margin: pixels outside u = 0 and u = 1, which wrap around.
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
            for shift in (-1.0, 0.0, 1.0):  # wrap around in u
                points = np.round(((path + (shift, 0.0)) * (shape[1] - 1 - 2 * margin, shape[0]) + (margin, 0.0)) * 16).astype(np.int32)
                if points[:, 0].max() < 0 or points[:, 0].min() > shape[1] * 16:
                    continue
                cv2.polylines(tone, [points], False, max(value, 0.35), thickness, cv2.LINE_AA, 4)
                if thickness < 13:
                    cv2.polylines(cover, [points], False, 1.0, thickness, cv2.LINE_AA, 4)
    x, y = np.meshgrid((np.arange(shape[1]) - margin) / (shape[1] - 1 - 2 * margin), np.arange(shape[0]) / shape[0])
    tone = cv2.GaussianBlur(tone, (0, 0), sigmaX=0.9, sigmaY=2.0)
    cover = np.maximum(cv2.GaussianBlur(cover, (0, 0), 0.7), geometry.smoothstep(y, 0.4 * _HAIRLINE, 1.2 * _HAIRLINE))
    # An irregular band of specular reflection where the cap curves over.
    ragged = 0.035 * np.interp(x[0] % 1.0 * 180.0, np.arange(180), generator.normal(0.0, 1.0, 180))
    shine = np.exp(-(((y - 0.27 - ragged) / 0.09) ** 2))
    side = (x - part + 0.5) % 1.0 - 0.5
    parting = np.exp(-((side / 0.0035) ** 2)) * geometry.smoothstep(y, 0.45, 0.30)
    value = tone * (1.0 + 0.20 * shine) * (1.0 - 0.35 * parting) * (0.80 + 0.20 * geometry.smoothstep(y, 0.02, 0.22))
    color = hair * value[..., None] + 16.0 * (shine * (tone - 0.5))[..., None]
    alpha = cover[..., None]
    return skin * np.array([0.74, 0.68, 0.66]) * (1.0 - alpha) + color * alpha


def _paths(u: np.ndarray, v: np.ndarray, lengths: np.ndarray, part: float, generator: np.random.Generator) -> np.ndarray:
    """[N, _STATIONS, 2] (u, v) of each strand: bent towards the parting near the hairline, straight backwards elsewhere."""
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
    """[H, W, 3] sRGB of hanging long hair: strands along v, in locks."""
    fine = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=0.8, sigmaY=40.0)
    value = 0.92 + 0.12 * fine / fine.std() + 0.05 * noise((1, shape[1]), 6.0, generator)
    return hair * np.clip(value, 0.4, 1.6)[..., None]


# -------- Texture atlas: one image with a tile per material

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
"""Pixels kept free inside a tile's edge, so that interpolation never reads the neighboring tile."""


def tile_uv(name: str, uv: np.ndarray) -> np.ndarray:
    """Texture coordinates [..., 2] of a part, 0..1 with v down -> atlas pixels, float32."""
    x, y, width, height = TILES[name]
    size = np.array([width, height]) - 1.0 - 2.0 * _MARGIN
    return (np.array([x, y]) + _MARGIN + np.asarray(uv) * size).astype(np.float32)


def face_uv() -> np.ndarray:
    """[468, 2] texture coordinates of the face, 0..1 with v down."""
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
        "hair": lambda shape: paint_hair(shape, hair, skin, geometry.parting(speaker), _MARGIN, generator),
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


def _collar(shape: tuple[int, int], color: np.ndarray) -> np.ndarray:
    """Ribs across a rolled edge, darker at the neck and the shoulders."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ribs = 1.0 + 0.09 * np.cos(2.0 * np.pi * 44.0 * x / shape[1])
    roll = 0.62 + 0.30 * np.sin(np.pi * np.clip(y / shape[0], 0.0, 1.0))
    return color * (ribs * roll)[..., None]


def _cloth(shape: tuple[int, int], color: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Fine knitwear with two broad bands, soft folds, and the collar's shadow; rows follow the cloth's length (`parts.torso_mesh`)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    # Columns of stitches are wider than a rendered pixel wherever they are visible, to avoid moire patterns.
    ribs = 1.0 + 0.035 * np.cos(2.0 * np.pi * 96.0 * x / shape[1])
    yarn = 1.0 + 0.02 * noise(shape, 1.2, generator)
    folds = cv2.GaussianBlur(generator.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=16.0, sigmaY=70.0)
    folds = 1.0 + 0.05 * folds / folds.std()
    image = color * (ribs * yarn)[..., None]
    for row in (150, 195):
        band = np.clip((11.0 - np.abs(y - row - 10.0)) / 1.5, 0.0, 1.0)[..., None]
        image = image * (1.0 - 0.85 * band) + 0.85 * band * np.array([206, 200, 188]) * yarn[..., None]
    shade = 1.0 - 0.42 * np.exp(-((y / 55.0) ** 2))
    return image * (folds * shade)[..., None]


def _eye(shape: tuple[int, int], iris: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sclera, iris with radial fibers, pupil and a window's reflection, as an orthographic front view."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    x, y = x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    iris_radius, pupil_radius = 56.0, 23.0
    fibers = generator.standard_normal(180)
    value = 1.0 + 0.18 * np.interp(angle, np.linspace(-np.pi, np.pi, 180), fibers)
    value *= 0.75 + 0.5 * np.clip((radius - pupil_radius) / (iris_radius - pupil_radius), 0.0, 1.0)
    value *= 1.0 - 0.65 * np.clip((radius - 0.80 * iris_radius) / (0.2 * iris_radius), 0.0, 1.0)  # limbal ring
    value *= 1.0 + 0.30 * np.clip(y / iris_radius, -0.6, 1.0)  # light from above reaches the iris' lower half
    sclera = np.array([234, 228, 222]) * (1.0 - 0.30 * np.clip((radius - 56) / 66.0, 0.0, 1.0))[..., None]

    def inside(limit: float) -> np.ndarray:
        return np.clip(limit - radius + 1.0, 0.0, 2.0)[..., None] / 2.0

    image = sclera * (1 - inside(iris_radius)) + (1.15 * iris * value[..., None]) * inside(iris_radius)
    image = image * (1 - inside(pupil_radius)) + 14.0 * inside(pupil_radius)
    image *= 1.0 - 0.38 * geometry.smoothstep(y, -14.0, -58.0)[..., None]  # the upper lid's shadow
    shine = np.exp(-(((x + 17) / 11.0) ** 4) - ((y + 19) / 11.0) ** 4) + 0.30 * np.exp(-(((x - 20) / 9.0) ** 2) - ((y - 22) / 9.0) ** 2)
    shine = np.minimum(shine, 1.0)[..., None]
    return image * (1 - 0.95 * shine) + 254.0 * 0.95 * shine


def _teeth(shape: tuple[int, int], edge_at_bottom: bool) -> np.ndarray:
    """A row of teeth with dark gaps, darker towards the sides; gums opposite the edge."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across = x / (shape[1] - 1) * 2.0 - 1.0
    image = np.array([232, 224, 206]) * (1.0 - 0.55 * np.abs(across) ** 1.6)[..., None]
    gaps = np.abs((across * 6.0) % 1.0 - 0.5)  # an even number of teeth, so that a gap is in the middle
    image *= 1.0 - 0.30 * np.exp(-(((0.5 - gaps) / 0.05) ** 2))[..., None]
    height = y / (shape[0] - 1)
    from_gum = height if edge_at_bottom else 1.0 - height
    gum = np.clip((0.34 - from_gum) / 0.06, 0.0, 1.0)[..., None]
    return image * (1 - gum) + np.array([170, 84, 84]) * (1.0 - 0.4 * np.abs(across))[..., None] * gum
