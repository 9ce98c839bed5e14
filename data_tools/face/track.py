"""Face detection and tracking with MediaPipe: model files, landmarks of every frame, gaps, other people's faces."""

import contextlib
import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.errors import InputError

# -------- MediaPipe's models (committed in this repository) and their start

FOLDER = Path(__file__).parent.parent
FACE_LANDMARKER = FOLDER / "face" / "models" / "face_landmarker.task"
SELFIE_SEGMENTER = FOLDER / "face" / "models" / "selfie_segmenter.tflite"
SHA256 = {
    FACE_LANDMARKER.name: "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    SELFIE_SEGMENTER.name: "191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
}

START_SECONDS = 0.1
"""Time for which stderr stays silenced after a task was created (MediaPipe's threads write for a few milliseconds)."""


def verified_path(model: Path) -> str:
    """The model's path; raises InputError if the file is missing or its sha256 differs."""
    if not model.is_file() or hashlib.sha256(model.read_bytes()).hexdigest() != SHA256[model.name]:
        raise InputError(f"{model} is missing or damaged: restore it with `git checkout -- {model.name}` in its folder.")
    return str(model)


def open_task(create: Callable[[], Any]) -> Any:
    """Calls `create()`, which imports MediaPipe and creates one of its tasks.

    Raises:
      InputError: MediaPipe or a system library it loads is not installed.
    """
    try:
        with _quiet_start():
            return create()
    except (ImportError, OSError) as error:
        raise InputError(
            f"MediaPipe can't start here ({str(error).splitlines()[0]}): install its system libraries with "
            "`apt-get install -y libegl1 libgles2 libgl1 libglib2.0-0`."
        ) from error


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Silences stderr while MediaPipe starts: its C++ code writes to file descriptor 2, and no setting stops it.

    Errors are still raised as exceptions with their text.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
        # The messages come from threads that outlive the call for a moment.
        time.sleep(START_SECONDS)
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def mediapipe_image(frame: np.ndarray) -> Any:
    """uint8 [H, W, 3] RGB as a MediaPipe image."""
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))


# -------- Detection and tracking

MAX_FACES = 2
MAX_GAP_SECONDS = 0.4
"""Longest gap without a face that is interpolated."""
RIVAL_SIZE = 0.5
"""Another face counts as a second subject if its height is at least this share of the tracked one's ..."""
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
    """Runs MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]) and tracks the largest face; raises as `open_task`."""
    return follow(find_faces(frames, fps))


def find_faces(frames: Iterable[np.ndarray], fps: float) -> list[np.ndarray]:
    """Runs a new instance of MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]).

    Two faces are requested: this detects other people, and it disables MediaPipe's own smoothing, a causal filter that delays lips and head
    by 0.2 to 0.8 frames. Poses are smoothed later, without delay.

    Returns:
      Per frame [n, 478, 3] float32 with n up to `MAX_FACES`, in fractions of the picture's width, height and width (z).
    """

    def create():
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=verified_path(FACE_LANDMARKER)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=MAX_FACES,
        )
        return vision.FaceLandmarker.create_from_options(options)

    faces: list[np.ndarray] = []
    with open_task(create) as landmarker:
        for i, frame in enumerate(frames):
            result = landmarker.detect_for_video(mediapipe_image(frame), round(i * 1000.0 / fps))
            points = [[(p.x, p.y, p.z) for p in face] for face in result.face_landmarks]
            faces.append(np.array(points, np.float32).reshape(-1, 478, 3))
    return faces


def follow(faces: list[np.ndarray]) -> FaceTrack:
    """Chooses one of the faces [n, 478, 3] of each frame: the largest of the clip, then the one nearest to its last position."""
    landmarks = np.full((len(faces), 478, 3), np.nan, np.float32)
    rival = np.zeros(len(faces), np.float32)
    heights = [np.ptp(f[:, :, 1], axis=1) for f in faces]
    # Starts at the clip's largest face and tracks in both directions.
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
    """Returns notes about ignored faces; raises InputError if there is no face, or another one of similar size in too many frames."""
    if not track.found.any():
        raise InputError(
            "No face was found in any frame: use a video of one person facing the camera, the face a tenth of its height or more."
        )
    rivals = float((track.rival >= RIVAL_SIZE)[track.found].mean())
    if rivals > RIVAL_SHARE:
        raise InputError(f"Two faces of similar size are visible in {rivals:.0%} of the frames: crop or --trim the video to one person.")
    others = float((track.rival > 0)[track.found].mean())
    return [f"another face, in {others:.0%} of the frames, was ignored"] if others else []


def check_gaps(found: np.ndarray, fps: float, start: float = 0.0) -> list[str]:
    """Returns notes about frames without a face (`found` [T] bool), which are interpolated; `start`: seconds of the source at frame 0.

    Raises:
      InputError: a gap is longer than `MAX_GAP_SECONDS`; the sentence names its seconds and a `--trim` that avoids it.
    """
    gaps = gaps_of(found)
    long = [(a, b) for a, b in gaps if (b - a) / fps > MAX_GAP_SECONDS + 1e-6]
    if long:
        seconds = ", ".join(f"{start + a / fps:.2f}-{start + b / fps:.2f} s" for a, b in long[:5]) + (" and more" if len(long) > 5 else "")
        a, b = longest_stretch(long, len(found))
        raise InputError(
            f"The face is lost at {seconds} (more than {MAX_GAP_SECONDS} s): keep the longest good stretch with "
            f"`--trim {start + a / fps:.2f}-{start + b / fps:.2f}`, or use a video that shows the face throughout."
        )
    lost = sum(b - a for a, b in gaps)
    return [f"{lost} frame{'s' * (lost > 1)} without a face interpolated"] if lost else []


def gaps_of(found: np.ndarray) -> list[tuple[int, int]]:
    """[T] bool -> list of (first, end) frames of every run of False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], found.astype(int), [1]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def longest_stretch(gaps: list[tuple[int, int]], total: int) -> tuple[int, int]:
    """The longest (first, end) between the gaps of a clip of `total` frames."""
    borders = [0, *(edge for gap in gaps for edge in gap), total]
    return max(zip(borders[::2], borders[1::2], strict=True), key=lambda pair: pair[1] - pair[0])


def fill(landmarks: np.ndarray) -> np.ndarray:
    """Interpolates the NaN frames of [T, ...] linearly in time; at the ends the nearest frame is repeated."""
    found = np.isfinite(landmarks.reshape(len(landmarks), -1)[:, 0])
    index = np.arange(len(landmarks))
    flat = landmarks.reshape(len(landmarks), -1)
    filled = np.stack([np.interp(index, index[found], column[found]) for column in flat.T], axis=1)
    return filled.reshape(landmarks.shape).astype(np.float32)
