"""A speaker's complete figure as one triangle mesh: assembled once, posed for every frame."""

from dataclasses import dataclass, field

import numpy as np

from data_tools.avatar import geometry
from data_tools.avatar.speakers import Speaker
from data_tools.avatar.texture import face_uv, tile_uv

BEHIND, BODY, COLLAR, OPENING_BACK, OPENING, OPENING_FRONT, HAIR_BACK, HEAD, HAIR = range(9)
"""Drawing layers, back to front. Parts inside an opening of the face are drawn before the face, so no depth test is needed there."""


@dataclass
class Figure:
    """Topology and material of all parts of one speaker.

    triangles [M, 3], corner_uv [M, 3, 2] atlas pixels, layer [M], is_head [M] bool, shade [V] (ambient occlusion factor), gloss [V]
    (specular strength).
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

    def add(self, mesh: geometry.Mesh, n_vertices: int, tile: str, layer: int, is_head: bool, shade=1.0, gloss=0.0, indices=None) -> None:
        """Appends a part with `n_vertices` new vertices.

        `indices` maps its vertex numbers to the figure's if it shares vertices with an earlier part.
        """
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


def _ring_fan(vertices: tuple[int, ...]) -> geometry.Mesh:
    """A filled ring of one color."""
    triangles = geometry.fan(np.array(vertices))
    return geometry.Mesh(triangles, np.full((len(triangles), 3, 2), 0.5, np.float32))


class Avatar:
    """One speaker's figure; `pose` computes its vertices for a frame."""

    def __init__(self, speaker: Speaker):
        self.speaker = speaker
        self.rest = geometry.rest_vertices(speaker)
        self._neck, self._neck_head_weight = geometry.neck_vertices(speaker)
        self._torso = np.concatenate([geometry.torso_vertices().reshape(-1, 3), geometry.collar_vertices().reshape(-1, 3)])
        # Parts that move rigidly with the head are attached to the face at rest.
        rigid = [geometry.hair_vertices(self.rest, speaker), geometry.curtain_vertices(speaker)]
        rigid += [geometry.ear_vertices(speaker, side) for side in (-1.0, 1.0)]
        rigid += [geometry.upper_teeth(self.rest)]
        self._rigid = np.concatenate([part.reshape(-1, 3) for part in rigid])
        self._skull_rest = geometry.skull_vertices(self.rest)
        self.figure = self._build()

    def _build(self) -> Figure:
        builder = _Builder()
        builder.add(geometry.Mesh(geometry.skin_triangles(), face_uv()[geometry.skin_triangles()]), 468, "face", HEAD, True, gloss=0.10)
        n_skull = (geometry.SKULL_ROWS - 1) * 36
        skull = np.concatenate([geometry.FACE_OVAL, np.arange(468, 468 + n_skull)])
        builder.add(geometry.skull_mesh(), n_skull, "skull", HEAD, True, indices=skull)
        hair = np.arange(builder.n_vertices, builder.n_vertices + geometry.HAIR_ROWS * geometry.HAIR_COLUMNS)
        for mesh, layer in zip(geometry.hair_meshes(self._rigid), (HAIR_BACK, HAIR), strict=True):
            builder.add(mesh, hair.size if layer == HAIR_BACK else 0, "hair", layer, True, gloss=0.07, indices=hair)
        curtain_size = geometry.CURTAIN_ROWS * geometry.CURTAIN_COLUMNS
        if self.speaker.hair_length > geometry.LONG_HAIR:
            curtain = geometry.curtain_mesh()
            both_sides = geometry.Mesh(
                np.concatenate([curtain.triangles, curtain.triangles[:, ::-1]]),
                np.concatenate([curtain.corner_uv, curtain.corner_uv[:, ::-1]]),
            )
            builder.add(both_sides, curtain_size, "curtain", BEHIND, True, shade=0.9)
        else:
            builder.add(geometry.Mesh(np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32)), curtain_size, "curtain", BEHIND, True)
        for side in (-1.0, 1.0):
            builder.add(geometry.ear_mesh(side), geometry.EAR_ROWS * geometry.EAR_COLUMNS, "ear", HEAD, True, gloss=0.06)
        n_teeth = geometry.TEETH_ROWS * geometry.TEETH_COLUMNS
        builder.add(geometry.teeth_mesh(), n_teeth, "upper_teeth", OPENING_FRONT, True, shade=0.82, gloss=0.1)
        builder.add(geometry.teeth_mesh(), n_teeth, "lower_teeth", OPENING, True, shade=0.68, gloss=0.1)
        builder.add(geometry.tongue_mesh(), geometry.TONGUE_ROWS * geometry.TONGUE_COLUMNS, "tongue", OPENING, True, shade=0.75, gloss=0.1)
        for _ in (0, 1):
            builder.add(geometry.ball_mesh(), geometry.BALL_ROWS * geometry.BALL_COLUMNS, "eye", OPENING, True, gloss=0.1)
        # The back walls of the openings share the face's vertices.
        face = np.arange(468)
        mouth = (*geometry.INNER_UPPER_LIP, *geometry.INNER_LOWER_LIP[::-1][1:-1])
        builder.add(_ring_fan(mouth[::-1]), 0, "mouth", OPENING_BACK, True, indices=face)
        for upper, lower in zip(geometry.UPPER_LIDS, geometry.LOWER_LIDS, strict=True):
            builder.add(_ring_fan((*upper, *lower[::-1][1:-1])[::-1]), 0, "sclera", OPENING_BACK, True, indices=face)
        builder.add(geometry.neck_mesh(), geometry.NECK_ROWS * geometry.NECK_COLUMNS, "neck", BODY, False)
        builder.add(geometry.torso_mesh(), geometry.TORSO_ROWS * geometry.TORSO_COLUMNS, "cloth", BODY, False)
        collar = np.arange(builder.n_vertices, builder.n_vertices + geometry.COLLAR_ROWS * geometry.TORSO_COLUMNS)
        for mesh, layer in zip(geometry.collar_meshes(), (BEHIND, COLLAR), strict=True):
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
        body_translation: np.ndarray,
    ) -> np.ndarray:
        """[V, 3] float64 positions of all vertices in the camera frame, cm.

        Args:
          face: [468, 3] cm in the canonical head frame.
          jaw: 0..1, moves lower teeth and tongue.
          tongue: 0..1, raises the tip.
          gaze: (yaw, pitch) of both eyes, radians.
          rotation: [3, 3] head to camera.
          translation: [3] head to camera, cm.
          body_translation: [3] body frame to camera, cm.
        """
        # The skin under the chin follows the jaw, with a weight that fades towards the neck.
        jaw_weight = (1.0 - np.linspace(0.0, 1.0, geometry.SKULL_ROWS)[1:, None, None]) ** 2
        skull = self._skull_rest + jaw_weight * (face - self.rest)[list(geometry.FACE_OVAL)]
        head = [face, skull.reshape(-1, 3), self._rigid, geometry.lower_teeth(self.rest, jaw).reshape(-1, 3)]
        head += [geometry.tongue_vertices(self.rest, jaw, tongue).reshape(-1, 3)]
        head += [geometry.ball_vertices(self.rest, eye, gaze).reshape(-1, 3) for eye in (0, 1)]
        head_camera = np.concatenate(head) @ rotation.T + translation
        neck_on_body = self._neck + body_translation
        neck_on_head = self._neck @ rotation.T + translation
        head_weight = self._neck_head_weight[..., None]
        neck = (1 - head_weight) * neck_on_body + head_weight * neck_on_head
        return np.concatenate([head_camera, neck.reshape(-1, 3), self._torso + body_translation])
