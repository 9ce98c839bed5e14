"""Triangle meshes of the avatar: procedural grids, vertex normals, and named vertices and loops of MediaPipe's face mesh."""

import functools
from dataclasses import dataclass

import numpy as np

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
