"""Masks: person segmentation with MediaPipe, matting, head and torso regions, the clean background plate, inpainted torso images."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from data_tools.errors import InputError
from data_tools.face.track import SELFIE_SEGMENTER, mediapipe_image, open_task, verified_path
from data_tools.landmarks68 import CHIN, FACE_OVAL, FOREHEAD, JAW_LINE

# -------- The two segmenters: pictures in, mask layers out

NETWORK_SIZE = 256
"""Input size of the networks; larger pictures gain nothing and cost time."""

CLASSES = ("background", "hair", "body skin", "face skin", "clothes", "others")
"""Classes of the multiclass segmenter; "others" are accessories (GeneFace++ counts them as head)."""

BACKENDS = {"selfie": ("person",), "multiclass": ("person", "hair", "neck", "clothes")}
"""Backend -> names of its layers. The first is always the whole person."""


class Segmenter:
    """A MediaPipe segmenter, to be used as a context manager and called with pictures.

    Raises:
      InputError: MediaPipe or its libraries can't be loaded.
    """

    def __init__(self, model: str) -> None:
        def create():
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(base_options=BaseOptions(model_asset_path=model))
            return vision.ImageSegmenter.create_from_options(options)

        self._segmenter = open_task(create)

    def __enter__(self) -> "Segmenter":
        return self

    def __exit__(self, *_) -> None:
        self._segmenter.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] RGB (about 256x256) -> [L, H, W] float32 0..1, the layers of `BACKENDS`."""
        raise NotImplementedError

    def _confidences(self, frame: np.ndarray) -> np.ndarray:
        """[classes, H, W] float32."""
        # `numpy_view` is a view into `result`, which must stay alive until the copy: in a one-line call it would be freed earlier, and
        # another thread might overwrite the mask's first pixels.
        result = self._segmenter.segment(mediapipe_image(frame))
        return np.stack([np.array(mask.numpy_view(), np.float32).reshape(frame.shape[:2]) for mask in result.confidence_masks])


class SelfieSegmenter(Segmenter):
    """MediaPipe's selfie segmenter (the model file is committed here): person against background."""

    def __init__(self) -> None:
        super().__init__(verified_path(SELFIE_SEGMENTER))

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return self._confidences(frame)[:1]


class MulticlassSegmenter(Segmenter):
    """MediaPipe's selfie multiclass segmenter: person, hair, neck and clothes.

    Args:
      model: path of `selfie_multiclass_256x256.tflite` (16 MB, Apache-2.0, not shipped here).

    Raises:
      InputError: MediaPipe or its libraries can't be loaded, or the file is not that model.
    """

    def __init__(self, model: Path) -> None:
        try:
            super().__init__(str(model))
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{model} is not a segmenter that MediaPipe can load: give selfie_multiclass_256x256.tflite.") from error
        self._model = model

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        confidences = self._confidences(frame)
        if len(confidences) != len(CLASSES):
            raise InputError(
                f"{self._model} has {len(confidences)} classes instead of {len(CLASSES)}: give MediaPipe's "
                "selfie_multiclass_256x256.tflite."
            )
        return layers_of(confidences)


def layers_of(classes: np.ndarray) -> np.ndarray:
    """[6, H, W] confidences of `CLASSES` -> [4, H, W] person, hair, neck, clothes."""
    background, hair, body_skin, _, clothes, _ = classes
    return np.stack([1.0 - background, hair, body_skin, clothes]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class SegmenterChoice:
    """The segmenter to use: `backend` of `BACKENDS`, and the model file of `multiclass`."""

    backend: str = "selfie"
    model: Path | None = None

    @property
    def n_layers(self) -> int:
        return len(BACKENDS[self.backend])

    @classmethod
    def from_file(cls, model: str | Path | None) -> "SegmenterChoice":
        """`multiclass` with a user's file, `selfie` without one; raises InputError if the file does not exist."""
        if model is None:
            return cls()
        if not Path(model).is_file():
            raise InputError(
                f"--segmenter-model {model} does not exist: give the path of MediaPipe's selfie_multiclass_256x256.tflite, or remove the "
                "option to use the built-in person segmenter."
            )
        return cls("multiclass", Path(model).absolute())


def open_segmenter(choice: SegmenterChoice) -> Segmenter:
    """Loads the chosen segmenter; raises as the class does."""
    return MulticlassSegmenter(choice.model) if choice.model else SelfieSegmenter()


# -------- From the segmenter's 256x256 confidence to a soft person mask at the picture's size


def smooth_in_time(layers: np.ndarray, index: int) -> np.ndarray:
    """[T, ...] uint8 mask layers -> [...] float32 0..1 of frame `index`, filtered with weights 1/4, 1/2, 1/4 against flickering edges; the
    end frames are repeated."""
    last = len(layers) - 1
    before, now, after = (layers[i].astype(np.float32) for i in (max(index - 1, 0), index, min(index + 1, last)))
    return (before + 2.0 * now + after) / (4.0 * 255.0)


def refine(confidence: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Scales a confidence [h, w] up to the frame [H, W, 3] uint8 and aligns its edge with the frame's by a guided filter; float32 0..1."""
    size = frame.shape[0]
    mask = cv2.resize(confidence, (frame.shape[1], size), interpolation=cv2.INTER_LINEAR)
    # A gray guide is as good as a color guide here, and ten times faster.
    guide = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    mask = cv2.ximgproc.guidedFilter(guide, mask, radius=max(size // 64, 2), eps=(0.02 * 255) ** 2)
    # The network's confidences rarely reach 0 or 1: the range 0.15 to 0.75 is stretched to the soft edge.
    return np.clip((mask - 0.15) / 0.6, 0.0, 1.0)


# -------- Connected components


def connected_component(mask: np.ndarray, seed: tuple[float, float]) -> np.ndarray:
    """[H, W] bool mask -> its connected component at `seed` (x, y in pixels), or the largest one if the mask is False there."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask.copy()
    x, y = (int(np.clip(round(value), 0, side - 1)) for value, side in zip(seed, mask.shape[::-1], strict=True))
    label = labels[y, x] or 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return labels == label


def disconnected(soft: np.ndarray, seed: tuple[float, float], margin: int = 4) -> np.ndarray:
    """[H, W] float 0..1 soft mask -> [H, W] bool, True in components not connected to `seed` and up to `margin` pixels around them."""
    solid = soft > 0.5
    others = (solid & ~connected_component(solid, seed)).astype(np.uint8)
    return cv2.dilate(others, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)) > 0


# -------- Head and torso: divided along the jaw line, or by the classes of the multiclass segmenter

WORK_SIZE = 256
"""Side in pixels at which the masks are made; they are scaled up for larger pictures."""

JAW_MARGIN = 0.025
"""Outward shift of the jaw line, in face heights: MediaPipe's oval runs just inside the skin's shadow edge."""

HAIR_REACH = 0.06
"""Width beside the ear lobe, in face heights, in which hair down to the chin line belongs to the head."""

CHIN_LINE = 0.06
"""Beside the jaw, everything lower than this far below the chin (in face heights) belongs to the torso."""


def head_region(landmarks: np.ndarray, size: int = WORK_SIZE) -> np.ndarray:
    """Soft mask of the head side of the jaw line.

    The border follows the jaw line from ear lobe to ear lobe; outside it drops to the chin line and then rises, so that hair beside the
    face belongs to the head, and hair that is lower or on the shoulders to the torso.

    Args:
      landmarks: [478, 2+] pixels of a size x size picture.
      size: pixels.

    Returns:
      [size, size] float32, 1 = head side, with an edge about two pixels wide.
    """
    xy = np.asarray(landmarks, np.float64)[:, :2]
    up = xy[FOREHEAD] - xy[CHIN]
    height = float(np.linalg.norm(up))
    up /= height
    right = np.array([-up[1], up[0]])
    jaw = xy[JAW_LINE]
    center = xy[FOREHEAD] * 0.5 + xy[CHIN] * 0.5
    outward = jaw - center
    jaw = jaw + JAW_MARGIN * height * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    chin_line = xy[CHIN] - CHIN_LINE * height * up
    far = 4.0 * size

    def side(lobe: np.ndarray, direction: float) -> list[np.ndarray]:
        """From the lobe outward and down to the chin line, then up and out of the picture."""
        across = float((lobe - chin_line) @ right)
        corner = chin_line + (across + direction * HAIR_REACH * height) * right
        # Rises at 45 degrees: a raised shoulder stays below the border, hair does not reach it.
        return [corner, corner + far * (direction * right + up)]

    # The jaw line ends at the upper part of the ears; the border leaves it at the lobes (third point from each end).
    lobe_left, lobe_right = jaw[2], jaw[-3]
    left, inner, right_side = side(lobe_left, -1.0), jaw[2:-2], side(lobe_right, 1.0)
    polygon = np.array([*reversed(left), *inner, *right_side])
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), size / 256.0).astype(np.float32) / 255.0


def head_share(layers: np.ndarray) -> np.ndarray:
    """Soft mask of the head from classes: the person without neck and clothes (as in GeneFace++).

    Args:
      layers: [4, H, W] float32 person, hair, neck, clothes.

    Returns:
      [H, W] float32, 1 = head side.
    """
    person, _, neck, clothes = layers
    share = 1.0 - (neck + clothes) / np.maximum(person, 1e-3)
    return cv2.GaussianBlur(np.clip(share, 0.0, 1.0).astype(np.float32), (0, 0), layers.shape[-1] / 256.0)


# -------- Part labels for reports and measurements; the dataset itself needs head and torso only
#
# Without the multiclass segmenter, face is the inside of the face oval, hair the rest of the head, and neck the skin below the jaw.

PARTS = ("background", "face", "hair", "neck", "clothes")
"""Names of the labels 0 to 4."""

COLORS = np.array([[235, 235, 235], [240, 180, 140], [90, 60, 40], [225, 120, 90], [60, 110, 190]], np.uint8)
"""RGB of each part in pictures of the parts."""

NECK_REACH = 0.6
"""Length below the chin within which skin counts as neck, in face heights."""

SKIN_DISTANCE = 4.0
"""Standard deviations from the face's median color within which a pixel is skin."""


def label_parts(
    frame: np.ndarray, landmarks: np.ndarray, head: np.ndarray, torso: np.ndarray, layers: np.ndarray | None = None
) -> np.ndarray:
    """Labels every pixel with its part.

    Args:
      frame: uint8 [H, W, 3].
      landmarks: [478, 2+] pixels.
      head, torso: [H, W] float 0..1, soft masks.
      layers: [4, h, w] float32 person, hair, neck, clothes of the multiclass segmenter; None uses geometry and color.

    Returns:
      [H, W] uint8, index into `PARTS`.
    """
    size = frame.shape[0]
    is_head, is_torso = head > 0.5, (torso > 0.5) & (head <= 0.5)
    if layers is not None:
        hair, neck = (cv2.resize(layers[i], (size, size), interpolation=cv2.INTER_LINEAR) > 0.5 for i in (1, 2))
    else:
        oval = np.zeros((size, size), np.uint8)
        cv2.fillPoly(oval, [np.round(landmarks[FACE_OVAL, :2]).astype(np.int32)], 1)
        # The oval runs just inside the skin's edge; a small margin around it is still face.
        margin = np.ones((2 * max(size // 48, 1) + 1,) * 2, np.uint8)
        hair = cv2.dilate(oval, margin) == 0
        neck = _neck(frame, landmarks, oval > 0, is_torso)
    return np.select([is_head & ~hair, is_head & hair, is_torso & neck, is_torso], [1, 2, 3, 4], 0).astype(np.uint8)


def color_parts(frame: np.ndarray, labels: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """uint8 [H, W, 3] the frame tinted by its parts."""
    return np.round((1.0 - strength) * frame + strength * COLORS[labels]).astype(np.uint8)


def _neck(frame: np.ndarray, landmarks: np.ndarray, face: np.ndarray, torso: np.ndarray) -> np.ndarray:
    """[H, W] bool: torso pixels of the face's color, closely below the chin and connected to the jaw."""
    size = frame.shape[0]
    color = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), size / 256.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    skin = color[face]
    if len(skin) < 16:
        return np.zeros_like(torso)
    # The neck is in the chin's shadow: lightness counts less than hue and saturation.
    scale = np.maximum(skin.std(0), 2.0) * np.array([3.0, 1.0, 1.0], np.float32)
    near = np.sqrt((((color - np.median(skin, axis=0)) / scale) ** 2).mean(-1)) < SKIN_DISTANCE
    up = landmarks[FOREHEAD, :2] - landmarks[CHIN, :2]
    height = float(np.linalg.norm(up))
    y, x = np.mgrid[:size, :size]
    below = ((landmarks[CHIN, 0] - x) * up[0] + (landmarks[CHIN, 1] - y) * up[1]) / max(height, 1e-6) ** 2
    candidates = torso & near & (below < NECK_REACH)
    candidates = cv2.morphologyEx(candidates.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(candidates)
    touching = np.unique(labels[(cv2.dilate((below < 0.15).astype(np.uint8) * candidates, np.ones((3, 3), np.uint8)) > 0)])
    return np.isin(labels, touching[touching > 0])


# -------- Background plate (each pixel from the frame in which the person is farthest away) and torso images with a painted neck

MIN_DISTANCE = 10.0 / 512.0
"""A pixel closer than this (over the picture's side) to the person in all frames counts as never visible (GeneFace++'s 10 px)."""


class BackgroundPlate:
    """Accumulates the background of size x size frames; only two pictures are in memory."""

    def __init__(self, size: int) -> None:
        self._color = np.zeros((size, size, 3), np.uint8)
        self._distance = np.zeros((size, size), np.float32)

    def add(self, frame: np.ndarray, person: np.ndarray) -> None:
        """Adds a frame uint8 [H, W, 3] with its person mask [H, W] float 0..1."""
        size = self._distance.shape[0]
        free = (person < 0.1).astype(np.uint8)
        if free.all():
            distance = np.full_like(self._distance, size)
        else:
            distance = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            # Squared distances between pixels are integers. Rounding to them makes ties between frames exact on every machine.
            distance = np.sqrt(np.rint(distance.astype(np.float64) ** 2)).astype(np.float32)
        self.merge(frame, distance)

    def merge(self, color: np.ndarray, distance: np.ndarray) -> None:
        """Merges another plate's `state`."""
        better = distance > self._distance
        self._color[better] = color[better]
        self._distance[better] = distance[better]

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Colors uint8 [H, W, 3] so far, and their distances from the person [H, W] float32 pixels (0: never visible)."""
        return self._color, self._distance

    def finish(self) -> np.ndarray:
        """The plate, uint8 [H, W, 3]. Pixels never visible get the color of the nearest visible one, blurred more the deeper the hole."""
        size = self._distance.shape[0]
        threshold = min(MIN_DISTANCE * size, float(self._distance.max()) * 0.5)
        unseen = self._distance <= threshold
        if not unseen.any() or unseen.all():
            return self._color.copy()
        depth, labels = cv2.distanceTransformWithLabels(
            unseen.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros((labels.max() + 1, 3), np.uint8)
        nearest[labels[~unseen]] = self._color[~unseen]
        filled = np.where(unseen[..., None], nearest[labels], self._color)
        blurred = cv2.GaussianBlur(filled, (0, 0), 0.03 * size)
        weight = np.clip(depth / (0.06 * size), 0.0, 1.0)[..., None]
        return np.where(unseen[..., None], (1 - weight) * filled + weight * blurred, filled).round().astype(np.uint8)


# -------- Torso images: the head is removed and the neck extended upwards, so that no hole opens when the head moves

NECK_LENGTH = 53.0 / 512.0
"""Length of the painted neck above the jaw's border, over the picture's side (GeneFace)."""

CLOTH_LENGTH = 9.0 / 512.0
"""The same for shoulders and hair beside the neck."""

FADE = 0.98
"""Darkening of the paint per pixel (at 512 px) upwards (GeneFace): the painted neck is in the chin's shadow."""


def torso_image(frame: np.ndarray, person: np.ndarray, above_jaw: np.ndarray, neck: tuple[float, float]) -> np.ndarray:
    """RGBA torso of one frame.

    Args:
      frame: uint8 [H, W, 3].
      person: [H, W] float 0..1, soft person mask.
      above_jaw: [H, W] float 0..1, soft indicator of the head side of the jaw.
      neck: first and last column under the jaw.

    Returns:
      uint8 [H, W, 4]; color is 0 where alpha is 0.
    """
    height, width = person.shape
    alpha = np.where(above_jaw < 0.5, person, 0.0)
    solid = (person > 0.5) & (above_jaw < 0.05)
    border = solid[1:] & (person[:-1] > 0.5) & (above_jaw[:-1] >= 0.05)
    has_border = border.any(0)
    rgba = np.dstack([frame, np.round(255.0 * alpha).astype(np.uint8)])
    if has_border.any():
        band, color, painted = _paint_up(frame, alpha, solid, border, has_border, neck)
        rgba[band, :, :3] = np.round(color)
        rgba[band, :, 3] = np.round(255.0 * painted)
    return cv2.bitwise_and(rgba, rgba, mask=rgba[..., 3])


def _paint_up(frame, alpha, solid, border, has_border, neck):
    """Extends each column that meets the head upwards with its own color, smoothed across columns.

    Returns:
      The rows that change (a slice), their color [R, W, 3] and their alpha [R, W], float.
    """
    height, width = alpha.shape
    columns = np.arange(width)
    start = np.where(has_border, border.argmax(0) + 1, 0)
    under_jaw = has_border & (columns >= neck[0]) & (columns <= neck[1])
    length = np.where(under_jaw, NECK_LENGTH, CLOTH_LENGTH) * height
    length = np.where(has_border, cv2.GaussianBlur(length[None], (0, 0), 0.01 * height)[0], 0.0)
    # The color to extend: a few rows below the border, outside the jaw's soft edge, averaged across neighboring columns.
    rows = np.clip(start + np.arange(2, 8)[:, None] * height // 512 + 1, 0, height - 1)
    weight = solid[rows, columns] * has_border + 1e-6
    sample = (frame[rows, columns] * weight[..., None]).sum(0)
    total = weight.sum(0)
    spread = (0.012 * height, 1e-3)
    sample = cv2.GaussianBlur(sample[None].astype(np.float32), (0, 0), spread[0])[0]
    total = cv2.GaussianBlur(total[None].astype(np.float32), (0, 0), spread[0])[0]
    base = sample / total.reshape(-1, 1)

    # Rows from the top of the paint to the bottom of the soft edge.
    used = np.flatnonzero(has_border)
    top = max(int(np.floor((start - length)[used].min())) - 1, 0)
    bottom = min(int(np.ceil(start[used].max() + 4 * height / 512.0)) + 1, height)
    rows = np.arange(top, bottom)[:, None]
    above = start - rows
    painted = has_border & (above >= 0) & (above <= length)
    shade = FADE ** (np.clip(above, 0, None) * 512.0 / height)
    paint = base * shade[..., None]
    # Within the jaw's soft edge the frame's color is partly face: blend it into the paint.
    edge = np.clip((start + 3 * height / 512.0 - rows) / (4 * height / 512.0), 0.0, 1.0) * has_border
    mix = np.where(above >= 0, 1.0, edge)[..., None] * (painted | (edge > 0))[..., None]
    band = slice(top, bottom)
    fade_out = np.clip((length - above) / (3.0 * height / 512.0) + 1.0, 0.0, 1.0)
    return band, frame[band] * (1 - mix) + paint * mix, np.where(painted, np.maximum(alpha[band], fade_out), alpha[band])
