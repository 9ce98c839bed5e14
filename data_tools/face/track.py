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
from data_tools.landmarks68 import CHIN, FOREHEAD
from data_tools.video import trim_of_longest

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


STILL_MOUTH, STILL_HEAD = 0.012, 0.003
"""A face whose lips stay within this range and whose center within this standard deviation, in face heights, is a picture on a wall: of a
living person who does not speak, the head still moves more."""

UPPER_LIP, LOWER_LIP = 13, 14
"""Mesh points of the middles of the inner lips."""

LEAST_FRAMES = 5
"""Of a face, to judge whether it moves."""

SMALL_TILE = 0.5
"""Side of the squares in which small faces are looked for, over the picture's shorter side. They overlap by half. The landmarker's detector
finds a face of a tenth of the side that it is given; so a face of a tenth of the picture's height is twice as large as needed."""

SMALL_CONFIDENCE = 0.7
"""Least confidence of the second look: more often than the first one it is given no face at all. Six people in pictures of 640 pixels, at
four places each, were found in 100 % from 0.08 of the height on, and nothing was found in 60 blotched walls."""

TURN_FRAMES, SURE = 5, 0.8
"""Number of frames, the first and every fifth after it, in which an upright face is looked for with more confidence than usual: none of
9 clips that stood on their heads had one at this confidence, all of them had one upright."""

SMALL_SHARE = 0.5
"""Of the frames, in which a face that is found by the second look alone must be seen: it may be a part of a face or of something else."""

MOST_ROLL = 45.0
"""Degrees by which the head may be tilted: from there on the person lies, or the video was filmed with the camera turned."""


@dataclasses.dataclass
class FaceTrack:
    """One person's landmarks over a clip.

    Attributes:
      landmarks: [T, 478, 3] float32, in fractions of the picture's width, height and width (z); NaN where not found.
      rival: [T] float32, height of the largest other face relative to the tracked one; 0 where there is none.
      pictures: whether other faces, which never move, were left out.
      small: whether most of the faces were found by the second look alone, so that their landmarks are rough.
      turned: degrees by which the pictures have to be turned counterclockwise so that the face is found; 0 if it stands upright.
    """

    landmarks: np.ndarray
    rival: np.ndarray
    pictures: bool = False
    small: bool = False
    turned: int = 0

    @property
    def found(self) -> np.ndarray:
        """[T] bool."""
        return np.isfinite(self.landmarks[:, 0, 0])


Watch = Callable[[np.ndarray, np.ndarray], None]
"""Called with every frame uint8 [H, W, 3] and its faces [n, 478, 3]."""


def detect(frames: Iterable[np.ndarray], fps: float) -> FaceTrack:
    """Runs MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]) and tracks one face; raises as `open_task`."""
    return follow(find_faces(frames, fps))


def detect_thoroughly(frames: Iterable[np.ndarray], fps: float, watch: Watch | None = None) -> tuple[FaceTrack, list[np.ndarray]]:
    """`detect` for pictures of a whole scene: small faces are looked for too where none is found, and turned ones if that is in vain.

    Returns:
      The track, and all faces as `find_faces`.
    """
    kept: list[np.ndarray] = []

    def stream():
        for i, frame in enumerate(frames):
            if i == 5 * len(kept) and len(kept) < TURN_FRAMES:
                kept.append(frame.copy())
            yield frame

    with SecondLook() as second:
        faces = find_faces(stream(), fps, second, watch)
    track = follow(faces)
    track.small = second.found > 0.5 * max(track.found.sum(), 1)
    track.turned = turn_of(kept)
    return track, faces


def turn_of(frames: list[np.ndarray]) -> int:
    """Degrees by which pictures have to be turned counterclockwise so that most of them show a face, upright: 90, 180, 270; 0 if none.

    At the usual confidence, many faces that stand on their heads are taken for upright ones.
    """
    if not frames:
        return 0
    with _open_landmarker("IMAGE", SURE) as landmarker:
        for degrees in (0, 90, 180, 270):
            turned = [np.rot90(frame, degrees // 90) for frame in frames]
            faces = [_points(landmarker.detect(mediapipe_image(picture))) for picture in turned]
            upright = sum(any(_upright(face, picture) for face in found) for found, picture in zip(faces, turned, strict=True))
            if upright > (0 if degrees == 0 else 0.5 * len(frames)):
                return degrees
    return 0


def _open_landmarker(mode: str, confidence: float = 0.5) -> Any:
    def create():
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=verified_path(FACE_LANDMARKER)),
            running_mode=vision.RunningMode[mode],
            num_faces=MAX_FACES,
            min_face_detection_confidence=confidence,
            min_face_presence_confidence=confidence,
        )
        return vision.FaceLandmarker.create_from_options(options)

    return open_task(create)


def _points(result: Any) -> np.ndarray:
    """The landmarker's result as float32 [n, 478, 3]."""
    return np.array([[(p.x, p.y, p.z) for p in face] for face in result.face_landmarks], np.float32).reshape(-1, 478, 3)


def find_faces(
    frames: Iterable[np.ndarray], fps: float, second_look: "SecondLook | None" = None, watch: Watch | None = None
) -> list[np.ndarray]:
    """Runs a new instance of MediaPipe's landmarker over consecutive frames (uint8 [H, W, 3]).

    Two faces are requested: this detects other people, and it disables MediaPipe's own smoothing, a causal filter that delays lips and head
    by 0.2 to 0.8 frames. Poses are smoothed later, without delay.

    Args:
      frames: the pictures.
      fps: of them.
      second_look: looks at the frames in which no face was found.
      watch: see `Watch`.

    Returns:
      Per frame [n, 478, 3] float32 with n up to `MAX_FACES`, in fractions of the picture's width, height and width (z).
    """
    faces: list[np.ndarray] = []
    with _open_landmarker("VIDEO") as landmarker:
        for i, frame in enumerate(frames):
            points = _points(landmarker.detect_for_video(mediapipe_image(frame), round(i * 1000.0 / fps)))
            faces.append(points if len(points) or second_look is None else second_look(frame))
            if watch is not None:
                watch(frame, faces[-1])
    return faces


class SecondLook:
    """Looks for small faces in single frames in which the landmarker finds none; a context manager. Its network is opened when needed.

    Attributes:
      found: number of frames in which it found a face.
    """

    def __init__(self) -> None:
        self.found = 0
        self._stack = contextlib.ExitStack()
        self._landmarker: Any = None

    def __enter__(self) -> "SecondLook":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The faces of a frame uint8 [H, W, 3], as an entry of `find_faces`."""
        if self._landmarker is None:
            self._landmarker = self._stack.enter_context(_open_landmarker("IMAGE", SMALL_CONFIDENCE))
        height, width = frame.shape[:2]
        side = max(round(SMALL_TILE * min(height, width)), 1)
        found: list[np.ndarray] = []
        for y in _starts(height, side):
            for x in _starts(width, side):
                for face in _points(self._landmarker.detect(mediapipe_image(frame[y : y + side, x : x + side]))):
                    face = (face * side + [x, y, 0.0]).astype(np.float32)
                    # Overlapping squares show the same face.
                    if all(np.linalg.norm((other - face)[:, :2].mean(0)) > 0.5 * np.ptp(face[:, 1]) for other in found):
                        found.append(face)
        self.found += bool(found)
        found.sort(key=lambda face: -np.ptp(face[:, 1]))
        scale = np.array([width, height, width], np.float32)
        return np.stack(found[:MAX_FACES]) / scale if found else np.zeros((0, 478, 3), np.float32)


def _upright(face: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a face [478, 3] is upright and whole: half a face may be taken for one that lies."""
    across, down = (face[CHIN, :2] - face[FOREHEAD, :2]) * [picture.shape[1], picture.shape[0]]
    return bool(down > 2.0 * abs(across) and face[:, :2].min() >= 0.0 and face[:, :2].max() <= 1.0)


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin that cover a length and overlap by half."""
    return [round(start) for start in np.linspace(0, length - side, max(-(-2 * (length - side) // side), 0) + 1)]


def follow(faces: list[np.ndarray]) -> FaceTrack:
    """Chooses one of the faces [n, 478, 3] of each frame: the largest of the clip, then the one nearest to its last position.

    If that face is a picture (it never moves) and another one moves, the moving one is chosen.
    """
    left, tracks = list(faces), list[np.ndarray]()
    while any(len(found) for found in left) and len(tracks) <= 2 * MAX_FACES:
        landmarks, left = _follow_largest(left)
        tracks.append(landmarks)
    if not tracks:
        return FaceTrack(np.full((len(faces), 478, 3), np.nan, np.float32), np.zeros(len(faces), np.float32))
    still = [_is_still(track) for track in tracks]
    frames_with = [int(np.isfinite(track[:, 0, 0]).sum()) for track in tracks]
    chosen = 0
    if still[0]:
        # As long as the picture is seen, so a passer-by does not take its place.
        moving = [i for i in range(1, len(tracks)) if not still[i] and frames_with[i] > 0.5 * frames_with[0]]
        chosen = max(moving, key=lambda i: frames_with[i], default=0)
    heights = [np.nan_to_num(np.ptp(track[:, :, 1], axis=1)) for track in tracks]
    others = [i for i in range(len(tracks)) if i != chosen]
    # Beside a living person a face that never moves is no second one.
    pictures = [i for i in others if still[i] and not still[chosen]]
    rivals = [heights[i] for i in others if i not in pictures]
    seen = heights[chosen] > 0
    rival = np.max(rivals, axis=0) / np.where(seen, heights[chosen], 1.0) * seen if rivals else np.zeros(len(faces))
    return FaceTrack(tracks[chosen], rival.astype(np.float32), bool(pictures))


def _follow_largest(faces: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Tracks the clip's largest face [T, 478, 3] (NaN where it is not found), and returns the faces that are left."""
    landmarks, left = np.full((len(faces), 478, 3), np.nan, np.float32), list(faces)
    heights = [np.ptp(found[:, :, 1], axis=1) for found in faces]
    # Starts at the clip's largest face and tracks in both directions.
    start = int(np.argmax([h.max() if len(h) else 0.0 for h in heights]))
    for direction in (range(start, len(faces)), range(start - 1, -1, -1)):
        last = faces[start][int(np.argmax(heights[start]))]
        for i in direction:
            if not len(faces[i]):
                continue
            distance = np.linalg.norm(faces[i][:, :, :2].mean(1) - last[:, :2].mean(0), axis=1)
            chosen = int(np.argmin(distance))
            if distance[chosen] > np.ptp(last[:, 1]):
                continue
            last = landmarks[i] = faces[i][chosen]
            left[i] = np.delete(faces[i], chosen, axis=0)
    return landmarks, left


def _is_still(landmarks: np.ndarray) -> bool:
    """Whether a track [T, 478, 3] is that of a picture: neither lips nor head ever move."""
    seen = landmarks[np.isfinite(landmarks[:, 0, 0])]
    if len(seen) < LEAST_FRAMES:
        return False
    head = (seen[..., :2].mean(1) / np.median(np.ptp(seen[..., :2], axis=1), axis=0)).std(0).max()
    return bool(head < STILL_HEAD and lip_range(seen, np.ones(3)) < STILL_MOUTH)


def lip_range(landmarks: np.ndarray, scale: np.ndarray) -> float:
    """How far the lips open and close: the 5th to 95th percentile of their distance, in face heights; `landmarks` * `scale` [T, 478, 3]
    have square units."""
    points = landmarks[..., :2] * np.asarray(scale)[:2]
    height = np.linalg.norm(points[:, FOREHEAD] - points[:, CHIN], axis=-1)
    gap = np.linalg.norm(points[:, UPPER_LIP] - points[:, LOWER_LIP], axis=-1) / np.maximum(height, 1e-9)
    return float(np.diff(np.percentile(gap, [5, 95]))[0])


def check_upright(roll: float) -> None:
    """Raises InputError if a head is turned by more than `MOST_ROLL` degrees (`roll`, clockwise)."""
    if abs(roll) > MOST_ROLL:
        raise InputError(
            f"The head is not upright in the picture: turn the video by {round(roll / 90.0) % 4 * 90} degrees counterclockwise first, with "
            "a video editor or with ffmpeg's filter `transpose`."
        )


def check_rivals(track: FaceTrack) -> list[str]:
    """Returns notes about ignored faces; raises InputError if there is no face, if the person does not stand upright in the picture, or if
    another face of similar size is in too many frames."""
    check_upright(track.turned)
    seen = float(track.found.mean()) if len(track.found) else 0.0
    if not seen or (track.small and seen < SMALL_SHARE):
        where = f"{1.0 - seen:.0%} of the frames" if seen else "any frame"
        raise InputError(
            f"No face was found in {where}: use a video of one person facing the camera, the face a tenth of its height or more, and whole."
        )
    rivals = float((track.rival >= RIVAL_SIZE)[track.found].mean())
    if rivals > RIVAL_SHARE:
        raise InputError(f"Two faces of similar size are visible in {rivals:.0%} of the frames: crop or --trim the video to one person.")
    others = float((track.rival > 0)[track.found].mean())
    notes = [f"another face, in {others:.0%} of the frames, was ignored"] if others else []
    return [*notes, "a face that never moves (a picture) was ignored"] if track.pictures else notes


def check_gaps(found: np.ndarray, fps: float, start: float = 0.0, least: float = 0.0, cut_off: bool = False) -> list[str]:
    """Returns notes about frames without a face, which are interpolated.

    Args:
      found: [T] bool.
      fps: frames per second.
      start: seconds of the source at frame 0.
      least: seconds below which a `--trim` would not help.
      cut_off: whether the border of the picture cuts the face off, which then is the reason.

    Raises:
      InputError: a gap is longer than `MAX_GAP_SECONDS`; the sentence names its seconds and a `--trim` that avoids it, if there is one.
    """
    gaps = gaps_of(found)
    long = [(a, b) for a, b in gaps if (b - a) / fps > MAX_GAP_SECONDS + 1e-6]
    if long:
        seconds = ", ".join(f"{start + a / fps:.2f}-{start + b / fps:.2f} s" for a, b in long[:5]) + (" and more" if len(long) > 5 else "")
        why = f"The face is lost at {seconds} (more than {MAX_GAP_SECONDS} s)"
        if cut_off:
            raise InputError(f"{why}, since the border of the picture cuts it off: use a video that shows the whole head.")
        trim = trim_of_longest([(start + a / fps, start + b / fps) for a, b in stretches_between(long, len(found))], least)
        if trim is None:
            raise InputError(f"{why}, and no stretch of {max(least, 1.0):g} s shows it: use a video that shows the face throughout.")
        raise InputError(f"{why}: keep the longest good stretch with `{trim}`, or use a video that shows the face throughout.")
    lost = sum(b - a for a, b in gaps)
    return [f"{lost} frame{'s' * (lost > 1)} without a face interpolated"] if lost else []


def gaps_of(found: np.ndarray) -> list[tuple[int, int]]:
    """[T] bool -> list of (first, end) frames of every run of False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], found.astype(int), [1]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def stretches_between(gaps: list[tuple[int, int]], total: int) -> list[tuple[int, int]]:
    """The stretches (first, end) between the gaps of a clip of `total` frames."""
    borders = [0, *(edge for gap in gaps for edge in gap), total]
    return list(zip(borders[::2], borders[1::2], strict=True))


def fill(landmarks: np.ndarray) -> np.ndarray:
    """Interpolates the NaN frames of [T, ...] linearly in time; at the ends the nearest frame is repeated."""
    found = np.isfinite(landmarks.reshape(len(landmarks), -1)[:, 0])
    index = np.arange(len(landmarks))
    flat = landmarks.reshape(len(landmarks), -1)
    filled = np.stack([np.interp(index, index[found], column[found]) for column in flat.T], axis=1)
    return filled.reshape(landmarks.shape).astype(np.float32)
