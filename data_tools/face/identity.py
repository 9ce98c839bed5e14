"""Is it one living person, upright and whole in the picture, throughout a clip? Judged from a few pictures a second."""

import cv2
import numpy as np

from data_tools.errors import InputError
from data_tools.face.pose import similarity
from data_tools.face.track import FaceTrack, check_upright, lip_range
from data_tools.landmarks68 import CHIN, FOREHEAD, RIGID, canonical_face
from data_tools.video import trim_of_longest

PATCH = 48
"""Pixels per side of the face pictures that are compared."""

LEAST_FACE = 48.0
"""Height in pixels of a face that can be compared: smaller ones have no features left."""

MOST_SAMPLES = 60
"""Frames of a clip that are compared with each other."""

LEAST_SAMPLES = 6
"""Of them, what there must be of another person."""

SHAPE, TEXTURE, COLOR = 0.012, 0.3, 6.0
"""Differences that count 1 each: mean distance of the landmarks in face heights, 1 - correlation of the pictures, distance in Lab (this one
never counts more than 1: light changes)."""

ALIKE_SHARE = 10
"""Percentile of the differences that is compared: one person shows similar poses again, two persons never look alike."""

ANOTHER_PERSON = 3.4
"""Difference from which on it is another person. Measured on ten clips of one person each, between their parts: 0.7 to 2.7; between two of
the persons: 2.8 to 5.9, in 95 % of the pairs above 3.4."""

LEAST_SPEECH = 2.0
"""Seconds of a face from which on lips that never move are no pause."""

FADE_SECONDS = 1.0
"""Left out on each side of a change by the `--trim` that is suggested: it may be a cross-fade."""

STILL_LIPS = 0.004
"""Range of the lips' opening, in face heights, below which a face is a photo: 0.0002 for still pictures, 0.006 for a silent person, 0.04
and more for speakers."""


class FacePictures:
    """Collects the pictures of all faces of a clip, aligned by the rigid landmarks; called by `track.find_faces` for every frame."""

    MOST_FRAMES = 2400
    """When so many are kept, every second one is dropped: the memory is bounded, the clip is not."""

    def __init__(self) -> None:
        self._patches: dict[int, np.ndarray] = {}
        self._count, self._every = 0, 1
        points = canonical_face()["vertices"][RIGID, :2] * [1.0, -1.0]
        middle, size = points.mean(0), np.ptp(canonical_face()["vertices"][:, 1])
        self._target = ((points - middle) / size * 0.9 + 0.5) * PATCH

    def __call__(self, frame: np.ndarray, faces: np.ndarray) -> None:
        """Adds a frame uint8 [H, W, 3] with its faces [n, 478, 3] in fractions of the picture."""
        if self._count % self._every == 0 and len(faces):
            scale = np.array([frame.shape[1], frame.shape[0]])
            patches = [self._patch(frame, face[RIGID, :2] * scale) for face in faces]
            self._patches[self._count] = np.stack(patches)
            if len(self._patches) > self.MOST_FRAMES:
                self._every *= 2
                self._patches = {i: patch for i, patch in self._patches.items() if i % self._every == 0}
        self._count += 1

    def _patch(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        warp, _ = cv2.estimateAffinePartial2D(points.astype(np.float32), self._target.astype(np.float32), method=cv2.LMEDS)
        if warp is None:
            return np.zeros((PATCH, PATCH, 3), np.uint8)
        return cv2.cvtColor(cv2.warpAffine(frame, warp, (PATCH, PATCH), flags=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)

    def of(self, track: FaceTrack, faces: list[np.ndarray]) -> dict[int, np.ndarray]:
        """Frame number -> picture of the tracked face, of the frames that were kept; `faces` as found."""
        return {
            i: patches[int(np.argmin(np.abs(faces[i] - track.landmarks[i]).max((1, 2))))]
            for i, patches in self._patches.items()
            if track.found[i]
        }


def identity_change(landmarks: np.ndarray, patches: dict[int, np.ndarray]) -> tuple[float, int] | None:
    """Whether the second part of a clip shows another person than the first.

    A stretch in the middle is not compared with the rest: a head that is turned for a moment looks like another one.

    Args:
      landmarks: [T, 478, 3] in units that are square.
      patches: as `FacePictures.of`.

    Returns:
      The largest difference of two parts (see `ANOTHER_PERSON`) and the frame at which the second begins; None if there are too few frames.
    """
    numbers = np.array(sorted(patches))
    if len(numbers) < 2 * LEAST_SAMPLES:
        return None
    numbers = numbers[np.unique(np.linspace(0, len(numbers) - 1, MOST_SAMPLES).round().astype(int))]
    different = _differences(landmarks[numbers], np.stack([patches[i] for i in numbers]))
    splits = range(LEAST_SAMPLES, len(numbers) - LEAST_SAMPLES + 1)
    scores = [float(np.percentile(different[:split, split:], ALIKE_SHARE)) for split in splits]
    best = int(np.argmax(scores))
    return scores[best], int(numbers[splits[best]])


def _differences(landmarks: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """[n, n] differences between all frames."""
    canonical = canonical_face()["vertices"] * [1.0, -1.0, -1.0] / np.ptp(canonical_face()["vertices"][:, 1])
    scale, rotation, shift = similarity(landmarks[:, RIGID], np.broadcast_to(canonical[RIGID], (len(landmarks), len(RIGID), 3)))
    shapes = scale[:, None, None] * np.einsum("nij,npj->npi", rotation, landmarks) + shift[:, None]
    distance = np.stack([np.linalg.norm(shapes - shape, axis=-1).mean(-1) for shape in shapes])
    middle = patches[:, PATCH // 16 : -PATCH * 9 // 32, PATCH // 11 : -PATCH // 11].astype(np.float32)
    light = np.stack([gray - cv2.GaussianBlur(gray, (0, 0), 9) for gray in middle[..., 0]]).reshape(len(patches), -1)
    light -= light.mean(1, keepdims=True)
    light /= np.maximum(np.linalg.norm(light, axis=1, keepdims=True), 1e-6)
    color = patches[:, PATCH * 20 // 64 : PATCH * 44 // 64, PATCH // 4 : -PATCH // 4].mean((1, 2))
    colors = np.linalg.norm(color[:, None] - color[None], axis=-1)
    return distance / SHAPE + (1.0 - light @ light.T) / TEXTURE + np.minimum(colors / COLOR, 1.0)


# -------- Findings of a scan


def find_faults(track: FaceTrack, size: tuple[int, int], patches: dict[int, np.ndarray], rate: float) -> dict[str, float | None]:
    """What may be wrong with the person of a scan.

    Args:
      track: the person, found somewhere.
      size: width and height of the scanned pictures in pixels.
      patches: as `FacePictures.of`.
      rate: pictures per second.

    Returns:
      `roll`: median tilt of the head in degrees, clockwise; `cut_off`: share of the pictures in which the face leaves the picture;
      `lips`: see `STILL_LIPS`; `another_person`: see `ANOTHER_PERSON`, `another_after`: after how many seconds. None: not measurable.

    Raises:
      InputError: the head is not upright.
    """
    seen = track.landmarks[track.found]
    pixels = np.array([size[0], size[1], size[0]], np.float32)
    up = (seen[:, FOREHEAD] - seen[:, CHIN]) * pixels
    roll = float(np.degrees(np.arctan2(np.median(up[:, 0]), np.median(-up[:, 1]))))
    check_upright(roll)
    outside = (seen[..., :2].min((1, 2)) < 0.0) | (seen[..., :2].max((1, 2)) > 1.0)
    large = np.median(np.linalg.norm(up[:, :2], axis=1)) >= LEAST_FACE
    change = identity_change(track.landmarks * pixels, patches) if large else None
    return {
        "roll": round(roll, 1),
        "cut_off": round(float(outside.mean()), 4),
        "lips": round(lip_range(seen, pixels), 5) if len(seen) >= LEAST_SPEECH * rate else None,
        "another_person": round(change[0], 2) if change else None,
        "another_after": change[1] / rate if change else None,
    }


def check_faults(faults: dict[str, float | None], start: float, seconds: float, least: float) -> None:
    """Refuses a clip that can't give a usable person.

    Args:
      faults: as `find_faults`.
      start: seconds of the source at which the clip begins.
      seconds: its length.
      least: as in `trim_of_longest`.

    Raises:
      InputError: the face is a photo, or another person takes over.
    """
    lips, difference, after = faults["lips"], faults["another_person"], faults["another_after"]
    if lips is not None and lips < STILL_LIPS:
        raise InputError("The lips never move, as in a photo: use a video in which the person speaks.")
    if difference is not None and after is not None and difference >= ANOTHER_PERSON:
        change = start + after
        parts = [(start, change - FADE_SECONDS), (change + FADE_SECONDS, start + seconds)]
        trim = trim_of_longest(parts, least)
        way_out = f"keep one of them with `{trim}`, or use" if trim else "use"
        raise InputError(f"From about {change:.1f} s on the face is another person's: {way_out} a video of one person.")
