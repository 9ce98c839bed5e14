"""Named vertices and loops of MediaPipe's 468-point mesh, and its triangles with the eyes and the mouth cut open."""

from __future__ import annotations

import functools

import numpy as np

from data_tools.face.canonical import canonical_face

# Upper and lower halves run from the image's left to its right and share both corners; entry k of one faces entry k of the other.
OUTER_UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
INNER_UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)

UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
UPPER_CREASES = ((247, 30, 29, 27, 28, 56, 190), (414, 286, 258, 257, 259, 260, 467))
"""The row of vertices above each upper lid, facing the lid's seven inner vertices."""
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
"""Nose, cheekbones, temples and hairline: they stay where they are, whatever mouth, lids and brows do."""


def _inside(loop: set[int], triangles: np.ndarray) -> np.ndarray:
    return np.all(np.isin(triangles, list(loop)), axis=1)


@functools.cache
def skin_triangles() -> np.ndarray:
    """[M, 3] int32 triangles of the face without those that span the two eye openings and the mouth."""
    triangles = canonical_face()["triangles"]
    holes = [set(INNER_UPPER_LIP) | set(INNER_LOWER_LIP)]
    holes += [set(upper) | set(lower) for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True)]
    return triangles[~np.any([_inside(hole, triangles) for hole in holes], axis=0)]


@functools.cache
def neighbours_matrix() -> np.ndarray:
    """[468, 468] float64: graph Laplacian of the skin (degree on the diagonal, -1 per edge), mouth and eyes open."""
    laplacian = np.zeros((468, 468))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        edges = skin_triangles()[:, [a, b]]
        laplacian[edges[:, 0], edges[:, 1]] = laplacian[edges[:, 1], edges[:, 0]] = -1.0
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    return laplacian
