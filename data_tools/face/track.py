"""Finding the person's face in every frame, and noticing everybody else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from data_tools.errors import InputError
from data_tools.face.mediapipe_tasks import FACE_LANDMARKER, checked, open_task, picture

MAX_FACES = 2
MAX_GAP_SECONDS = 0.4
"""A face may be missing this long; its landmarks are interpolated."""
RIVAL_SIZE = 0.5
"""Another face counts as a second subject when its height is at least this share of the tracked one's."""
RIVAL_SHARE = 0.2
"""... in more than this share of the frames."""


@dataclasses.dataclass
class FaceTrack:
    """One person's landmarks over a clip.

    Attributes:
      landmarks: [T, 478, 3] float32, in fractions of the picture's width, height and width (z); NaN where not found.
      rival: [T] float32, height of the largest other face relative to the tracked one; 0 where there is none.
    """

    landmarks: np.ndarray
    rival: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """[T] bool."""
        return np.isfinite(self.landmarks[:, 0, 0])


def detect(frames: Iterable[np.ndarray], fps: float) -> FaceTrack:
    """Runs MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]) and follows the largest face.

    Raises:
      InputError: MediaPipe can't run here.
    """
    return follow(find_faces(frames, fps))


def find_faces(frames: Iterable[np.ndarray], fps: float) -> list[np.ndarray]:
    """Runs MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]), with a new tracker.

    MediaPipe smooths a video's landmarks only when one face is asked for, and that filter looks back alone: lips and head come 0.2 to 0.8
    frames late. Two faces are asked for, which also notices other people; smoothing is done later, without delay.

    Returns:
      Per frame [n, 478, 3] float32 with n up to `MAX_FACES`, in fractions of the picture's width, height and width (z).

    Raises:
      InputError: MediaPipe can't run here.
    """

    def create():
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=checked(FACE_LANDMARKER)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=MAX_FACES,
        )
        return vision.FaceLandmarker.create_from_options(options)

    faces: list[np.ndarray] = []
    with open_task(create) as landmarker:
        for i, frame in enumerate(frames):
            result = landmarker.detect_for_video(picture(frame), round(i * 1000.0 / fps))
            points = [[(p.x, p.y, p.z) for p in face] for face in result.face_landmarks]
            faces.append(np.array(points, np.float32).reshape(-1, 478, 3))
    return faces


def follow(faces: list[np.ndarray]) -> FaceTrack:
    """Chooses one face per frame: the largest at first, then the one nearest to where it was.

    Args:
      faces: per frame [n, 478, 3].
    """
    landmarks = np.full((len(faces), 478, 3), np.nan, np.float32)
    rival = np.zeros(len(faces), np.float32)
    heights = [np.ptp(f[:, :, 1], axis=1) for f in faces]
    # Start where the picture shows its largest face, and follow from there in both directions.
    start = int(np.argmax([h.max() if len(h) else 0.0 for h in heights])) if faces else 0
    for direction in (range(start, len(faces)), range(start - 1, -1, -1)):
        last = faces[start][int(np.argmax(heights[start]))] if len(faces) and len(faces[start]) else None
        for i in direction:
            if last is None or not len(faces[i]):
                continue
            distance = np.linalg.norm(faces[i][:, :, :2].mean(1) - last[:, :2].mean(0), axis=1)
            chosen = int(np.argmin(distance))
            if distance[chosen] > np.ptp(last[:, 1]):
                continue
            last = landmarks[i] = faces[i][chosen]
            others = np.delete(heights[i], chosen)
            rival[i] = others.max() / heights[i][chosen] if len(others) else 0.0
    return FaceTrack(landmarks, rival)


def check_rivals(track: FaceTrack) -> list[str]:
    """Refuses a clip without a face or with two people of similar size; returns sentences about what was tolerated.

    Raises:
      InputError: no face, or another face of similar size in too many frames.
    """
    if not track.found.any():
        raise InputError(
            "no face was found in any frame: use a video of one person facing the camera, the face a tenth of its height or more."
        )
    rivals = float((track.rival >= RIVAL_SIZE)[track.found].mean())
    if rivals > RIVAL_SHARE:
        raise InputError(
            f"two faces of similar size share {rivals:.0%} of the frames: cut or --trim the video so that one person fills it."
        )
    others = float((track.rival > 0)[track.found].mean())
    return [f"another face, in {others:.0%} of the frames, was ignored"] if others else []


def check_gaps(found: np.ndarray, fps: float, start: float = 0.0) -> list[str]:
    """Refuses a clip in which the face is lost for too long; returns sentences about what will be interpolated.

    Args:
      found: [T] bool.
      fps: frames per second of `found`.
      start: seconds of the source where it begins.

    Raises:
      InputError: the face is lost for more than `MAX_GAP_SECONDS`; names the seconds and the `--trim` that avoids them.
    """
    gaps = gaps_of(found)
    long = [(a, b) for a, b in gaps if (b - a) / fps > MAX_GAP_SECONDS + 1e-6]
    if long:
        seconds = ", ".join(f"{start + a / fps:.2f}-{start + b / fps:.2f} s" for a, b in long[:5]) + (" and more" if len(long) > 5 else "")
        a, b = longest_stretch(long, len(found))
        raise InputError(
            f"the face is lost at {seconds} (more than {MAX_GAP_SECONDS} s): keep the longest good stretch with "
            f"`--trim {start + a / fps:.2f}-{start + b / fps:.2f}`, or use a video that shows the face throughout."
        )
    lost = sum(b - a for a, b in gaps)
    return [f"{lost} frame{'s' * (lost > 1)} without a face interpolated"] if lost else []


def gaps_of(found: np.ndarray) -> list[tuple[int, int]]:
    """[T] bool -> list of (first, end) frames of every stretch where it is False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], found.astype(int), [1]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def longest_stretch(gaps: list[tuple[int, int]], total: int) -> tuple[int, int]:
    """The longest (first, end) between gaps."""
    borders = [0, *(edge for gap in gaps for edge in gap), total]
    return max(zip(borders[::2], borders[1::2], strict=True), key=lambda pair: pair[1] - pair[0])


def fill(landmarks: np.ndarray) -> np.ndarray:
    """[T, ...] with NaN frames -> linear interpolation in time, ends held."""
    found = np.isfinite(landmarks.reshape(len(landmarks), -1)[:, 0])
    index = np.arange(len(landmarks))
    flat = landmarks.reshape(len(landmarks), -1)
    filled = np.stack([np.interp(index, index[found], column[found]) for column in flat.T], axis=1)
    return filled.reshape(landmarks.shape).astype(np.float32)
