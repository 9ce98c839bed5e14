"""Geometry of the avatar: meshes and named loops of the face mesh, skull, hair, ears, neck, torso, eyeballs, teeth, tongue."""

import functools
from dataclasses import dataclass

import numpy as np

from data_tools.avatar.speakers import Speaker
from data_tools.landmarks68 import canonical_face

# -------- Procedural meshes


@dataclass(frozen=True)
class Mesh:
    """Topology of one part.

    Attributes:
      triangles: [M, 3] int32 indices into the part's vertices, counter-clockwise seen from outside.
      corner_uv: [M, 3, 2] float32 texture coordinates per triangle corner, 0..1 inside the part's tile of the texture atlas.
    """

    triangles: np.ndarray
    corner_uv: np.ndarray


def grid(n_rows: int, n_columns: int, closed: bool, flip: bool = False) -> Mesh:
    """A sheet of n_rows x n_columns vertices (row-major); `closed` joins the last column to the first, `flip` reverses the winding.

    u runs along the columns, v along the rows. All procedural parts are made from this grid.
    """
    n_cells = n_columns if closed else n_columns - 1
    row, column = np.meshgrid(np.arange(n_rows - 1), np.arange(n_cells), indexing="ij")
    row, column = row.ravel(), column.ravel()
    following = (column + 1) % n_columns
    corners = np.stack(
        [row * n_columns + column, row * n_columns + following, (row + 1) * n_columns + following, (row + 1) * n_columns + column], 1
    )
    u = np.stack([column, column + 1, column + 1, column], 1) / n_cells
    v = np.stack([row, row, row + 1, row + 1], 1) / (n_rows - 1)
    uv = np.stack([u, v], axis=-1)
    pick = np.array([[0, 1, 2], [0, 2, 3]])
    if flip:
        pick = pick[:, ::-1]
    triangles = corners[:, pick].reshape(-1, 3).astype(np.int32)
    return Mesh(triangles, uv[:, pick].reshape(-1, 3, 2).astype(np.float32))


def fan(ring: np.ndarray) -> np.ndarray:
    """[N - 2, 3] int32 triangles that fill a ring of vertex indices [N], by zigzag from one end to the other."""
    ring = np.asarray(ring)
    low, high, triangles = 0, len(ring) - 1, []
    while high - low >= 2:
        triangles.append((ring[low], ring[low + 1], ring[high]))
        low += 1
        if high - low >= 2:
            triangles.append((ring[low], ring[high - 1], ring[high]))
            high -= 1
    return np.array(triangles, np.int32)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals at the vertices [V, 3] (area-weighted) and the triangles' unscaled normals [M, 3]."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    normals = np.empty_like(vertices)
    flat = triangles.ravel()
    for axis in range(3):
        normals[:, axis] = np.bincount(flat, np.repeat(faces[:, axis], 3), len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9), faces


# -------- Named vertices and loops of MediaPipe's 468-vertex face mesh

# Upper and lower halves run from the image's left to its right and share both corners; entry k of one lies opposite entry k of the other.
OUTER_UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
UPPER_CREASES = ((247, 30, 29, 27, 28, 56, 190), (414, 286, 258, 257, 259, 260, 467))
"""The row of vertices above each upper lid, opposite the lid's seven inner vertices."""
LOWER_CREASES = ((25, 110, 24, 23, 22, 26, 112), (341, 256, 252, 253, 254, 339, 255))
SOCKETS = ((113, 225, 224, 223, 222, 221, 189), (413, 441, 442, 443, 444, 445, 342))

# Upper edge then lower edge, from the outer end to the inner one for the first brow and mirrored for the second.
BROWS = (((70, 63, 105, 66, 107), (46, 53, 52, 65, 55)), ((300, 293, 334, 296, 336), (276, 283, 282, 295, 285)))

JAW_LINE = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
CHIN = (199, 175, 200, 18, 83, 313, 201, 421, 208, 428, 171, 396)
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
FACE_OVAL += (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
"""The mesh's only boundary, clockwise in the image from the top of the forehead."""

ANCHORS = (4, 1, 2, 98, 327, 5, 195, 197, 6, 168, 9, 151, 10, 50, 280, 101, 330, 117, 346, 123, 352, 127, 356, 234, 454, 93, 323, 132, 361)
ANCHORS += (103, 332, 67, 297, 54, 284, 21, 251, 162, 389, 109, 338, 129, 358, 48, 278)
"""Nose, cheekbones, temples and hairline: not moved by mouth, lids or brows."""


@functools.cache
def skin_triangles() -> np.ndarray:
    """[M, 3] int32 triangles of the face without those that span the two eye openings and the mouth."""
    triangles = canonical_face()["triangles"]
    holes = [INNER_UPPER_LIP + INNER_LOWER_LIP, *(upper + lower for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True))]
    return triangles[~np.any([np.all(np.isin(triangles, hole), axis=1) for hole in holes], axis=0)]


@functools.cache
def neighbors_matrix() -> np.ndarray:
    """[468, 468] float64: graph Laplacian of the skin with open mouth and eyes (degree on the diagonal, -1 per edge)."""
    laplacian = np.zeros((468, 468))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        edges = skin_triangles()[:, [a, b]]
        laplacian[edges[:, 0], edges[:, 1]] = laplacian[edges[:, 1], edges[:, 0]] = -1.0
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    return laplacian


# -------- Rest pose of a speaker's face

MOUTH_CENTER = np.array([0.0, -4.27, 5.4])
"""cm, middle between the canonical lips."""

NOSE_TIP = np.array([0.0, -0.46, 7.6])


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Cubic step from 0 at `low` to 1 at `high`; decreasing if `low` > `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(vertices: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    """[468] Gaussian of the distance in x and y."""
    return np.exp(-np.sum((vertices[:, :2] - np.asarray(center)[:2]) ** 2, axis=1) / (2.0 * radius**2))


def rest_vertices(speaker: Speaker) -> np.ndarray:
    """[468, 3] float64 cm in the canonical head frame: the face of `speaker` with closed mouth and open eyes."""
    vertices = canonical_face()["vertices"].astype(np.float64).copy()
    _close_lips(vertices)
    x, y = vertices[:, 0].copy(), vertices[:, 1].copy()
    # Each feature is a smooth displacement field, so neighboring vertices never cross.
    vertices[:, 0] *= speaker.face_width * (1.0 + (speaker.jaw_width - 1.0) * smoothstep(-y, 0.0, 6.0))
    vertices[:, 1] -= speaker.chin_length * smoothstep(-y, 5.0, 9.0)
    for side in (-1.0, 1.0):
        cheek = _bump(vertices, np.array([side * 4.6, -2.0]), 2.0)
        vertices[:, 0] += side * speaker.cheek * cheek
        vertices[:, 2] += 0.6 * speaker.cheek * cheek
    nose = _bump(vertices, NOSE_TIP, 1.5)
    vertices[:, 0] += (speaker.nose_width - 1.0) * x * nose
    vertices[:, 1] -= speaker.nose_length * _bump(vertices, NOSE_TIP, 1.2)
    for lids, side in zip(UPPER_LIDS, (-1.0, 1.0), strict=True):
        center = canonical_face()["vertices"][list(lids)].mean(axis=0)
        eye = _bump(vertices, center, 1.5)[:, None]
        vertices[:, :2] += (speaker.eye_size - 1.0) * eye * (vertices[:, :2] - center[:2])
        vertices[:, 0] += side * speaker.eye_spacing * eye[:, 0]
    vertices[:, 1] += speaker.brow_height * _bump(vertices, np.array([-3.5, 5.0]), 1.2)
    vertices[:, 1] += speaker.brow_height * _bump(vertices, np.array([3.5, 5.0]), 1.2)
    mouth = np.exp(-((x / 3.4) ** 2) - ((y - MOUTH_CENTER[1]) / 1.5) ** 2)
    vertices[:, 0] += (speaker.mouth_width - 1.0) * x * mouth
    vertices[:, 1] += (speaker.lip_thickness - 1.0) * (vertices[:, 1] - MOUTH_CENTER[1]) * mouth
    vertices[:, 2] += 0.5 * (speaker.lip_thickness - 1.0) * mouth
    vertices[:, 1] *= speaker.face_height
    return vertices


def _close_lips(vertices: np.ndarray) -> None:
    """The canonical lips are a few millimeters apart; moves the inner contours together and the outer ones half as far."""
    shift = 0.5 * (vertices[list(INNER_UPPER_LIP)] - vertices[list(INNER_LOWER_LIP)])
    lips = ((INNER_UPPER_LIP, -1.0), (INNER_LOWER_LIP, 1.0), (OUTER_UPPER_LIP, -0.5), (OUTER_LOWER_LIP, 0.5))
    for loop, share in lips:
        # Both loops contain the corners, whose shift is zero.
        vertices[list(loop)] += share * shift


# -------- Neck and torso, in the body frame: the canonical head frame of an upright head (cm)

NECK_ROWS, NECK_COLUMNS = 9, 28
TORSO_ROWS, TORSO_COLUMNS = 12, 40
COLLAR_ROWS = 5

_NECK_TOP, _NECK_BOTTOM = -3.5, -15.0
_TORSO_Y = (-13.6, -14.0, -14.7, -15.8, -17.0, -18.4, -20.2, -22.5, -25.0, -28.0, -31.0, -35.0)
_TORSO_HALF_WIDTH = (6.7, 7.8, 10.4, 13.8, 16.8, 19.2, 21.2, 22.6, 23.4, 23.8, 24.0, 24.0)
_TORSO_HALF_DEPTH = (6.5, 7.0, 7.6, 8.4, 9.0, 9.6, 10.2, 10.8, 11.4, 11.8, 12.0, 12.0)


def neck_mesh() -> Mesh:
    return grid(NECK_ROWS, NECK_COLUMNS, closed=True, flip=True)


def neck_vertices(speaker: Speaker) -> tuple[np.ndarray, np.ndarray]:
    """[NECK_ROWS, NECK_COLUMNS, 3] vertices, and their skinning weights [NECK_ROWS, NECK_COLUMNS] to the head (1) or the body (0)."""
    down = np.linspace(0.0, 1.0, NECK_ROWS)[:, None]
    # Column 0 is at the back, which hides the texture seam.
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, NECK_COLUMNS, endpoint=False)[None]
    radius = speaker.jaw_width * (5.1 + 0.5 * (2.0 * down - 1.0) ** 2 + 1.2 * np.maximum(down - 0.7, 0.0) / 0.3)
    y = _NECK_TOP + down * (_NECK_BOTTOM - _NECK_TOP)
    z = -3.6 - 1.6 * down + radius * 1.05 * np.cos(angle)
    points = np.stack(np.broadcast_arrays(radius * np.sin(angle), y, z), axis=-1)
    weight = 1.0 - down * down * (3.0 - 2.0 * down)
    return points, np.broadcast_to(weight, points.shape[:2])


def torso_mesh() -> Mesh:
    """Texture rows follow the arc length of the cloth, since the mesh's rows are denser at the shoulders."""
    mesh = grid(TORSO_ROWS, TORSO_COLUMNS, closed=True, flip=True)
    length = np.cumsum(np.hypot(np.diff(_TORSO_Y, prepend=_TORSO_Y[0]), 0.5 * np.diff(_TORSO_HALF_WIDTH, prepend=_TORSO_HALF_WIDTH[0])))
    uv = mesh.corner_uv.copy()
    uv[..., 1] = np.interp(uv[..., 1] * (TORSO_ROWS - 1), np.arange(TORSO_ROWS), length / length[-1])
    return Mesh(mesh.triangles, uv)


def _section(half_width: np.ndarray, half_depth: np.ndarray, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """x, z of rounded cross-sections; column 0 is at the back, which hides the texture seam."""
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, n_columns, endpoint=False)[None]
    sine, cosine = np.sin(angle), np.cos(angle)
    return half_width * np.sign(sine) * np.abs(sine) ** 0.85, half_depth * cosine


def torso_vertices() -> np.ndarray:
    """[TORSO_ROWS, TORSO_COLUMNS, 3]: shoulders and chest, to below the picture's lower edge."""
    x, z = _section(np.array(_TORSO_HALF_WIDTH)[:, None], np.array(_TORSO_HALF_DEPTH)[:, None], TORSO_COLUMNS)
    front = np.maximum(z, 0.0) / 12.0
    y = np.array(_TORSO_Y)[:, None] - 1.6 * front * np.linspace(1.0, 0.3, TORSO_ROWS)[:, None]
    return np.stack(np.broadcast_arrays(x, y, z - 5.0), axis=-1)


def collar_meshes() -> tuple[Mesh, Mesh]:
    """The half of the collar behind the neck and the half in front of it."""
    mesh = grid(COLLAR_ROWS, TORSO_COLUMNS, closed=True, flip=True)
    front = np.abs(mesh.corner_uv[..., 0].mean(axis=1) - 0.5) < 0.25
    return tuple(Mesh(mesh.triangles[half], mesh.corner_uv[half]) for half in (~front, front))


def collar_vertices() -> np.ndarray:
    """[COLLAR_ROWS, TORSO_COLUMNS, 3]: a rolled edge where the clothes meet the neck."""
    roll = np.linspace(-0.5 * np.pi, 0.75 * np.pi, COLLAR_ROWS)[:, None]
    x, z = _section(7.0 + 0.75 * np.sin(roll), 6.6 + 0.75 * np.sin(roll), TORSO_COLUMNS)
    y = -13.65 + 0.9 * np.cos(roll) - 1.5 * np.maximum(z, 0.0) / 12.0
    return np.stack(np.broadcast_arrays(x, y, z - 5.0), axis=-1)


# -------- Skull, hair and ears, in the canonical head frame (cm)

SKULL_CENTER = np.array([0.0, 3.9, -3.4])
SKULL_RADII = np.array([7.55, 8.7, 9.4])
_BACK = np.array([0.0, -0.12, -1.0])

SKULL_ROWS = 8
HAIR_ROWS, HAIR_COLUMNS = 9, 108
CURTAIN_ROWS, CURTAIN_COLUMNS = 8, 24
EAR_ROWS, EAR_COLUMNS = 10, 28

# Where the hair starts, between the face's boundary (0) and the back of the head (1), from the top of the forehead down to the chin.
_HAIRLINE_SHORT = (-0.035, -0.035, -0.035, -0.03, -0.02, 0.0, 0.03, 0.08, 0.30, 0.42, 0.5, 0.58, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95)
_HAIRLINE_LONG = (-0.05, -0.055, -0.065, -0.065, -0.055, -0.03, -0.01, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95)
LONG_HAIR = 0.5
"""Above this hair length the hair covers the ears and reaches the neck."""


def _around(face: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolated points of the face's boundary at fractional positions `columns` (0..36, clockwise from the top)."""
    loop = face[list(FACE_OVAL)]
    low = np.floor(columns).astype(int)
    part = (columns - low)[:, None]
    return loop[low % 36] * (1 - part) + loop[(low + 1) % 36] * part


def _sweep(start: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Spherical interpolation on the skull's ellipsoid, from boundary points [C, 3] (t = 0) to the back of the head (t = 1).

    t [R, C] -> [R, C, 3].
    """
    unit = (start - SKULL_CENTER) / SKULL_RADII
    radius = np.linalg.norm(unit, axis=1)
    direction = unit / radius[:, None]
    back = _BACK / np.linalg.norm(_BACK)
    angle = np.arccos(np.clip(direction @ back, -1.0, 1.0))
    sine = np.sin(angle)
    turned = (np.sin((1 - t) * angle) / sine)[..., None] * direction + (np.sin(t * angle) / sine)[..., None] * back
    blend = np.clip(t, 0.0, 1.0) ** 0.6
    return SKULL_CENTER + SKULL_RADII * turned * (radius * (1 - blend) + blend)[..., None]


def skull_mesh() -> Mesh:
    """The skull; row 0 is the face's boundary, the other rows are `skull_vertices`."""
    return grid(SKULL_ROWS, 36, closed=True)


def skull_vertices(face: np.ndarray) -> np.ndarray:
    """[SKULL_ROWS - 1, 36, 3]: the rows behind the boundary of a face [468, 3]."""
    t = np.linspace(0.0, 1.0, SKULL_ROWS)[1:] * 0.999
    return _sweep(_around(face, np.arange(36.0)), np.repeat(t[:, None], 36, axis=1))


def parting(speaker: Speaker) -> float:
    """u of the hair parting: fraction of the way around the head, 0 over the middle of the forehead, > 0 on the image's right."""
    side = 1.0 if np.random.default_rng([speaker.seed, 5]).random() < 0.4 else -1.0
    return side * (0.012 if speaker.hair_length > LONG_HAIR else 0.05)


def hair_meshes(vertices: np.ndarray) -> tuple[Mesh, Mesh]:
    """The hair behind the ears and the hair in front of them; `vertices` as from `hair_vertices`."""
    mesh = grid(HAIR_ROWS, HAIR_COLUMNS, closed=True)
    front = vertices.reshape(-1, 3)[mesh.triangles, 2].mean(axis=1) > SKULL_CENTER[2]
    return tuple(Mesh(mesh.triangles[half], mesh.corner_uv[half]) for half in (~front, front))


def hair_vertices(face: np.ndarray, speaker: Speaker) -> np.ndarray:
    """[HAIR_ROWS, HAIR_COLUMNS, 3]: a cap that starts at the hairline, thin there and thicker further back, with random locks."""
    generator = np.random.default_rng([speaker.seed, 1])
    columns = np.arange(HAIR_COLUMNS) * 36.0 / HAIR_COLUMNS
    from_top = np.minimum(columns, 36.0 - columns)
    hairline = _HAIRLINE_LONG if speaker.hair_length > LONG_HAIR else _HAIRLINE_SHORT
    first = np.interp(from_top, np.arange(19), hairline) + generator.normal(0.0, 0.004, HAIR_COLUMNS)
    along = np.linspace(0.0, 1.0, HAIR_ROWS) ** 1.4
    t = first + along[:, None] * (0.999 - first)
    points = _sweep(_around(face, columns), t)
    locks = 0.07 * np.convolve(np.pad(generator.standard_normal(HAIR_COLUMNS), 3, mode="wrap"), np.hanning(9)[1:-1], mode="valid")
    # Shape and locks fade towards the back of the head, where the columns converge.
    fade = np.clip(1.5 - 2.0 * along[:, None], 0.0, 1.0)
    # Thick above the forehead, with a dip at the parting; close to the skull at the temples.
    crown = np.interp(from_top, (0.0, 4.0, 7.0, 10.0, 18.0), (0.5, 0.3, -0.1, -0.3, 0.0))
    offset = (columns / 36.0 - parting(speaker) + 0.5) % 1.0 - 0.5
    crown -= 0.16 * np.exp(-((offset / 0.015) ** 2))
    thickness = speaker.hair_volume * (0.04 + (1.0 + (crown + locks) * fade) * np.minimum(along[:, None] * 4.0, 1.0) ** 0.7)
    outward = (points - SKULL_CENTER) / SKULL_RADII**2
    return points + thickness[..., None] * outward / np.linalg.norm(outward, axis=-1, keepdims=True)


def curtain_mesh() -> Mesh:
    return grid(CURTAIN_ROWS, CURTAIN_COLUMNS, closed=False, flip=True)


def curtain_vertices(speaker: Speaker) -> np.ndarray:
    """[CURTAIN_ROWS, CURTAIN_COLUMNS, 3]: long hair behind the neck, curved forwards at its sides; not drawn for short hair."""
    generator = np.random.default_rng([speaker.seed, 2])
    length = 2.0 + 13.0 * (speaker.hair_length - LONG_HAIR) / (1.0 - LONG_HAIR) if speaker.hair_length > LONG_HAIR else 0.0
    angle = np.linspace(-0.62 * np.pi, 0.62 * np.pi, CURTAIN_COLUMNS)
    down = np.linspace(0.0, 1.0, CURTAIN_ROWS)[:, None]
    width = 7.9 + 0.8 * speaker.hair_volume + 0.6 * np.sin(np.pi * down)
    ends = generator.uniform(-0.5, 0.5, CURTAIN_COLUMNS)
    x = width * np.sin(angle) * (1.0 - 0.06 * down)
    z = -3.6 - 7.6 * np.cos(angle) * (1.0 - 0.25 * down)
    y = 3.0 - down * (5.5 + length + ends * (length > 0))
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def ear_mesh(side: float) -> Mesh:
    return grid(EAR_ROWS, EAR_COLUMNS, closed=True, flip=side > 0)


def ear_vertices(speaker: Speaker, side: float) -> np.ndarray:
    """[EAR_ROWS, EAR_COLUMNS, 3]; side -1 is the image's left. Rows run from the concha out to the rim and back to the head."""
    # Column 0 is at the front, where the face hides the texture seam.
    angle = np.pi + np.linspace(0.0, 2.0 * np.pi, EAR_COLUMNS, endpoint=False)
    # Concha, inner ridge, groove, rolled rim, back.
    radius = np.array([0.02, 0.24, 0.44, 0.58, 0.70, 0.82, 0.92, 1.0, 0.98, 0.86])[:, None]
    relief = np.array([-0.55, -0.50, -0.20, 0.24, 0.20, 0.10, 0.42, 0.34, 0.05, -0.5])[:, None]
    # Wide and round at the top, narrow at the lobe.
    backwards = 1.75 * np.cos(angle) * (1.0 + 0.28 * np.sin(angle))
    upwards = 3.1 * np.sin(angle)
    axis_back = np.array([side * 0.42, 0.0, -0.9])
    axis_up = np.array([side * 0.08, 0.98, -0.18])
    axis_out = np.array([side * 0.9, 0.0, 0.42])
    center = np.array([side * 7.75 * speaker.face_width, 0.1, -4.3])
    flat = radius[..., None] * (backwards[:, None] * axis_back + upwards[:, None] * axis_up)
    return center + flat + relief[..., None] * axis_out * np.ones((1, EAR_COLUMNS, 1))


JAW_HINGE = np.array([0.0, 0.0, -2.0])
"""cm; the axis runs along x through this point, slightly in front of the ears."""

JAW_FULL_ANGLE = np.deg2rad(15.0)


def jaw_rotation(points: np.ndarray, opening: np.ndarray) -> np.ndarray:
    """Rotates points [P, 3] about the jaw's hinge by `opening` ([T] or [T, P], 1 = fully open): [T, P, 3]."""
    angle = np.asarray(opening, np.float64) * JAW_FULL_ANGLE
    angle = angle[:, None] if angle.ndim == 1 else angle
    y, z = points[:, 1] - JAW_HINGE[1], points[:, 2] - JAW_HINGE[2]
    turned_y = np.cos(angle) * y - np.sin(angle) * z
    turned_z = np.sin(angle) * y + np.cos(angle) * z
    x = np.broadcast_to(points[:, 0], turned_y.shape)
    return np.stack([x, turned_y + JAW_HINGE[1], turned_z + JAW_HINGE[2]], axis=-1)


# -------- Eyeballs, teeth and tongue: the parts inside the openings of the face, in the canonical head frame (cm)

BALL_RADIUS = 1.42
BALL_ROWS, BALL_COLUMNS = 8, 28
BALL_EXTENT = np.deg2rad(72.0)
TEETH_ROWS, TEETH_COLUMNS = 3, 15
TONGUE_ROWS, TONGUE_COLUMNS = 6, 9


def ball_mesh() -> Mesh:
    """The front cap of an eyeball; its texture is an orthographic front view."""
    mesh = grid(BALL_ROWS, BALL_COLUMNS, closed=True)
    angle = 2.0 * np.pi * mesh.corner_uv[..., 0]
    radius = np.sin(mesh.corner_uv[..., 1] * BALL_EXTENT) / np.sin(BALL_EXTENT)
    uv = np.stack([0.5 + 0.5 * radius * np.sin(angle), 0.5 - 0.5 * radius * np.cos(angle)], axis=-1)
    return Mesh(mesh.triangles, uv.astype(np.float32))


def ball_vertices(rest: np.ndarray, eye: int, gaze: np.ndarray) -> np.ndarray:
    """[BALL_ROWS, BALL_COLUMNS, 3]; eye 0 is the image's left, `gaze` is (yaw, pitch) in radians from straight ahead."""
    upper, lower = rest[list(UPPER_LIDS[eye])], rest[list(LOWER_LIDS[eye])]
    middle = 0.5 * (upper[3:6] + lower[3:6]).mean(axis=0)
    polar = np.linspace(1e-3, BALL_EXTENT, BALL_ROWS)[:, None]
    around = np.linspace(0.0, 2.0 * np.pi, BALL_COLUMNS, endpoint=False)[None]
    x, y, z = np.sin(polar) * np.sin(around), np.sin(polar) * np.cos(around), np.cos(polar) * np.ones_like(around)
    yaw, pitch = gaze
    y, z = y * np.cos(pitch) + z * np.sin(pitch), z * np.cos(pitch) - y * np.sin(pitch)
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    center = middle - np.array([0.0, 0.0, BALL_RADIUS + 0.06])
    return center + BALL_RADIUS * np.stack([x, y, z], axis=-1)


def teeth_mesh() -> Mesh:
    return grid(TEETH_ROWS, TEETH_COLUMNS, closed=False, flip=True)


def _arch(rest: np.ndarray) -> tuple[np.ndarray, float]:
    """Dental arch (x, z) [TEETH_COLUMNS, 2] and the height y of the bite, from the lips at rest."""
    middle = rest[INNER_UPPER_LIP[5]]
    angle = np.linspace(-1.15, 1.15, TEETH_COLUMNS)
    half_width = 0.98 * abs(rest[INNER_UPPER_LIP[0], 0])
    return np.stack([half_width * np.sin(angle) / np.sin(1.15), middle[2] - 0.75 - 2.2 * (1.0 - np.cos(angle))], 1), middle[1]


def upper_teeth(rest: np.ndarray) -> np.ndarray:
    """[TEETH_ROWS, TEETH_COLUMNS, 3], rigid with the skull; gums at row 0, edges at the last row."""
    arch, bite = _arch(rest)
    y = bite + np.array([1.0, 0.45, -0.22])[:, None]
    tilt = np.array([-0.15, 0.0, 0.08])[:, None]
    return np.stack(np.broadcast_arrays(arch[:, 0], y, arch[:, 1] + tilt), axis=-1)


def lower_teeth(rest: np.ndarray, jaw: float) -> np.ndarray:
    """[TEETH_ROWS, TEETH_COLUMNS, 3], moving with the jaw (0..1); edges at row 0."""
    arch, bite = _arch(rest)
    y = bite + np.array([-0.28, -0.75, -1.4])[:, None]
    points = np.stack(np.broadcast_arrays(0.92 * arch[:, 0], y, arch[:, 1] - 0.2), axis=-1)
    return jaw_rotation(points.reshape(-1, 3), np.array([jaw]))[0].reshape(points.shape)


def tongue_mesh() -> Mesh:
    return grid(TONGUE_ROWS, TONGUE_COLUMNS, closed=False, flip=True)


def tongue_vertices(rest: np.ndarray, jaw: float, raised: float) -> np.ndarray:
    """[TONGUE_ROWS, TONGUE_COLUMNS, 3], behind the lower teeth; `raised` (0..1) lifts the tip towards the upper teeth."""
    middle = rest[INNER_UPPER_LIP[5]]
    along = np.linspace(0.0, 1.0, TONGUE_ROWS)[:, None]  # root to the tip's underside
    across = np.linspace(-1.0, 1.0, TONGUE_COLUMNS)[None]
    width = 1.75 * np.sqrt(np.maximum(1.0 - (1.15 * np.maximum(along - 0.45, 0.0) / 0.65) ** 2, 0.08))
    x = width * across
    arch = np.sin(np.pi * np.clip(along * 1.05, 0.0, 1.0)) ** 0.7
    y = middle[1] - 1.15 + 0.75 * arch * (1.0 - 0.35 * across**2) + 0.8 * raised * along
    z = middle[2] - 4.2 + 3.1 * np.minimum(along / 0.8, 1.0) + 0.35 * raised * along - 0.2 * across**2
    points = np.stack(np.broadcast_arrays(x, y, z), axis=-1)
    return jaw_rotation(points.reshape(-1, 3), np.array([0.9 * jaw]))[0].reshape(points.shape)
