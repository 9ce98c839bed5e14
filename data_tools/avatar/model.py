"""A speaker's whole figure as one triangle mesh: parts put together once, posed for every frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_tools.avatar.mesh import FACE_OVAL, INNER_LOWER_LIP, INNER_UPPER_LIP, LOWER_LIDS, UPPER_LIDS, Mesh, fan, skin_triangles
from data_tools.avatar.parts import (
    BALL_COLUMNS,
    BALL_ROWS,
    COLLAR_ROWS,
    CURTAIN_COLUMNS,
    CURTAIN_ROWS,
    EAR_COLUMNS,
    EAR_ROWS,
    HAIR_COLUMNS,
    HAIR_ROWS,
    LONG_HAIR,
    NECK_COLUMNS,
    NECK_ROWS,
    SKULL_ROWS,
    TEETH_COLUMNS,
    TEETH_ROWS,
    TONGUE_COLUMNS,
    TONGUE_ROWS,
    TORSO_COLUMNS,
    TORSO_ROWS,
    ball_mesh,
    ball_vertices,
    collar_meshes,
    collar_vertices,
    curtain_mesh,
    curtain_vertices,
    ear_mesh,
    ear_vertices,
    hair_meshes,
    hair_vertices,
    lower_teeth,
    neck_mesh,
    neck_vertices,
    skull_mesh,
    skull_vertices,
    teeth_mesh,
    tongue_mesh,
    tongue_vertices,
    torso_mesh,
    torso_vertices,
    upper_teeth,
)
from data_tools.avatar.speakers import Speaker, rest_vertices
from data_tools.avatar.texture import face_uv, tile_uv

BEHIND, BODY, COLLAR, OPENING_BACK, OPENING, OPENING_FRONT, HAIR_BACK, HEAD, HAIR = range(9)
"""Drawing layers, back to front. What lies behind an opening of the face is drawn before the face, so no depth test is needed there."""


@dataclass
class Figure:
    """All parts of one speaker.

    triangles [M, 3], corner_uv [M, 3, 2] atlas pixels, layer [M], is_head [M] bool, shade [V] (factor where little light arrives),
    gloss [V] (strength of the highlight).
    """

    triangles: np.ndarray
    corner_uv: np.ndarray
    layer: np.ndarray
    is_head: np.ndarray
    shade: np.ndarray
    gloss: np.ndarray


@dataclass
class _Builder:
    parts: list = field(default_factory=list)
    n_vertices: int = 0

    def add(self, mesh: Mesh, n_vertices: int, tile: str, layer: int, is_head: bool, shade=1.0, gloss=0.0, indices=None) -> None:
        """`indices` maps the part's vertex numbers to the figure's where they are shared with an earlier part."""
        numbers = np.arange(self.n_vertices, self.n_vertices + n_vertices) if indices is None else indices
        n_triangles = len(mesh.triangles)
        self.parts.append(
            (
                numbers[mesh.triangles],
                tile_uv(tile, mesh.corner_uv),
                np.full(n_triangles, layer),
                np.full(n_triangles, is_head),
                np.broadcast_to(np.asarray(shade, np.float64), (n_vertices,)),
                np.full(n_vertices, gloss),
            )
        )
        self.n_vertices += n_vertices

    def figure(self) -> Figure:
        return Figure(*(np.concatenate(column) for column in zip(*self.parts, strict=True)))


def _ring_fan(vertices: tuple[int, ...]) -> Mesh:
    triangles = fan(np.array(vertices))
    return Mesh(triangles, np.full((len(triangles), 3, 2), 0.5, np.float32))


class Avatar:
    """One speaker's figure; `pose` gives its vertices for a frame."""

    def __init__(self, speaker: Speaker):
        self.speaker = speaker
        self.rest = rest_vertices(speaker)
        self._neck, self._neck_share = neck_vertices(speaker)
        self._torso = np.concatenate([torso_vertices().reshape(-1, 3), collar_vertices().reshape(-1, 3)])
        # Rigid parts of the head hang on the face at rest.
        self._rigid = [hair_vertices(self.rest, speaker), curtain_vertices(speaker)]
        self._rigid += [ear_vertices(speaker, side) for side in (-1.0, 1.0)]
        self._rigid += [upper_teeth(self.rest)]
        self._rigid = np.concatenate([part.reshape(-1, 3) for part in self._rigid])
        self._skull_rest = skull_vertices(self.rest)
        self.figure = self._build()

    def _build(self) -> Figure:
        builder = _Builder()
        builder.add(Mesh(skin_triangles(), face_uv()[skin_triangles()]), 468, "face", HEAD, True, gloss=0.10)
        skull = np.concatenate([FACE_OVAL, np.arange(468, 468 + (SKULL_ROWS - 1) * 36)])
        n_skull = (SKULL_ROWS - 1) * 36
        builder.add(skull_mesh(), n_skull, "skull", HEAD, True, indices=skull)
        hair = np.arange(builder.n_vertices, builder.n_vertices + HAIR_ROWS * HAIR_COLUMNS)
        for mesh, layer in zip(hair_meshes(self._rigid), (HAIR_BACK, HAIR), strict=True):
            builder.add(mesh, hair.size if layer == HAIR_BACK else 0, "hair", layer, True, gloss=0.07, indices=hair)
        curtain_size = CURTAIN_ROWS * CURTAIN_COLUMNS
        if self.speaker.hair_length > LONG_HAIR:
            curtain = curtain_mesh()
            both_sides = Mesh(
                np.concatenate([curtain.triangles, curtain.triangles[:, ::-1]]),
                np.concatenate([curtain.corner_uv, curtain.corner_uv[:, ::-1]]),
            )
            builder.add(both_sides, curtain_size, "curtain", BEHIND, True, shade=0.9)
        else:
            builder.add(Mesh(np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32)), curtain_size, "curtain", BEHIND, True)
        for side in (-1.0, 1.0):
            builder.add(ear_mesh(side), EAR_ROWS * EAR_COLUMNS, "ear", HEAD, True, gloss=0.06)
        n_teeth = TEETH_ROWS * TEETH_COLUMNS
        builder.add(teeth_mesh(), n_teeth, "upper_teeth", OPENING_FRONT, True, shade=0.82, gloss=0.1)
        builder.add(teeth_mesh(), n_teeth, "lower_teeth", OPENING, True, shade=0.68, gloss=0.1)
        builder.add(tongue_mesh(), TONGUE_ROWS * TONGUE_COLUMNS, "tongue", OPENING, True, shade=0.75, gloss=0.1)
        ball_shade = np.broadcast_to(1.0, (BALL_ROWS, BALL_COLUMNS)).reshape(-1)
        for _ in (0, 1):
            builder.add(ball_mesh(), ball_shade.size, "eye", OPENING, True, shade=ball_shade, gloss=0.1)
        # Backs of the openings share the face's vertices.
        face = np.arange(468)
        mouth = (*INNER_UPPER_LIP, *INNER_LOWER_LIP[::-1][1:-1])
        builder.add(_ring_fan(mouth[::-1]), 0, "mouth", OPENING_BACK, True, indices=face)
        for upper, lower in zip(UPPER_LIDS, LOWER_LIDS, strict=True):
            builder.add(_ring_fan((*upper, *lower[::-1][1:-1])[::-1]), 0, "sclera", OPENING_BACK, True, indices=face)
        builder.add(neck_mesh(), NECK_ROWS * NECK_COLUMNS, "neck", BODY, False)
        builder.add(torso_mesh(), TORSO_ROWS * TORSO_COLUMNS, "cloth", BODY, False)
        collar = np.arange(builder.n_vertices, builder.n_vertices + COLLAR_ROWS * TORSO_COLUMNS)
        for mesh, layer in zip(collar_meshes(), (BEHIND, COLLAR), strict=True):
            builder.add(mesh, collar.size if layer == BEHIND else 0, "collar", layer, False, indices=collar)
        return builder.figure()

    def pose(
        self,
        face: np.ndarray,
        jaw: float,
        tongue: float,
        gaze: np.ndarray,
        rotation: np.ndarray,
        translation: np.ndarray,
        body_at: np.ndarray,
    ) -> np.ndarray:
        """[V, 3] float64 camera-frame cm of every vertex.

        Args:
          face: [468, 3] cm in the canonical head frame.
          jaw: 0..1, moves lower teeth and tongue.
          tongue: 0..1, raises its tip.
          gaze: (yaw, pitch) of both eyes, radians.
          rotation: [3, 3] head to camera.
          translation: [3] head to camera, cm.
          body_at: [3] translation of the body frame to the camera, cm.
        """
        # The skin under the chin follows the jaw less and less towards the neck.
        fading = (1.0 - np.linspace(0.0, 1.0, SKULL_ROWS)[1:, None, None]) ** 2
        skull = self._skull_rest + fading * (face - self.rest)[list(FACE_OVAL)]
        head = [face, skull.reshape(-1, 3), self._rigid, lower_teeth(self.rest, jaw).reshape(-1, 3)]
        head += [tongue_vertices(self.rest, jaw, tongue).reshape(-1, 3)]
        head += [ball_vertices(self.rest, eye, gaze).reshape(-1, 3) for eye in (0, 1)]
        head_camera = np.concatenate(head) @ rotation.T + translation
        neck_still = self._neck + body_at
        neck_turned = self._neck @ rotation.T + translation
        share = self._neck_share[..., None]
        neck = (1 - share) * neck_still + share * neck_turned
        return np.concatenate([head_camera, neck.reshape(-1, 3), self._torso + body_at])
