"""Triangle meshes with texture coordinates per triangle corner, and the one grid all procedural parts are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """Topology of one part.

    triangles: [M, 3] int32 indices into the part's vertices, counter-clockwise seen from outside.
    corner_uv: [M, 3, 2] float32, 0..1 inside the part's tile of the texture atlas.
    """

    triangles: np.ndarray
    corner_uv: np.ndarray


def grid(n_rows: int, n_columns: int, closed: bool, flip: bool = False) -> Mesh:
    """A sheet of n_rows x n_columns vertices (row-major); `closed` joins the last column to the first.

    u runs along the columns, v along the rows. `flip` turns the outside around.
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
