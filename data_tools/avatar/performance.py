"""A performance of the avatar: head motion and blinks, facial expression of the mesh, and the true landmark motion."""

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from data_tools.audio.sound import FPS
from data_tools.avatar import geometry
from data_tools.avatar.speakers import PARAMETERS, Speaker, SpeechClip, make_speaker, mouth_parameters
from data_tools.landmarks68 import LANDMARKS_68, motion_from_landmarks

# -------- Head motion, body sway, blinks and brows, from a seed

HEAD_SD_DEGREES = {"yaw": 5.5, "pitch": 2.8, "roll": 1.8}
"""Standard deviations over `_SD_SECONDS`."""

BODY_SD_CM = (0.25, 0.08, 0.2)
"""Standard deviations of the shoulders' sway along x, y, z."""

SLOWEST_HZ, FASTEST_HZ, N_WAVES = 0.04, 0.55, 24
"""Movement is a sum of sines whose amplitudes fall with the frequency, as in recorded head movement."""

BLINKS_PER_MINUTE = 15.0
SHORTEST_BLINK_INTERVAL = 1.0
BLINK_CLOSING, BLINK_SHUT, BLINK_OPENING = 0.10, 0.05, 0.19
"""Seconds; lids close faster than they open."""

_SD_SECONDS = 120.0
"""Duration that movement is generated and normalized over; a shorter clip takes its beginning."""


@dataclass(frozen=True)
class HeadMotion:
    """Per frame: `angles` [T, 3] radians (yaw, pitch, roll), `sway` [T, 3] cm, `blink` [T] 0..1, `brow` [T] -1..1."""

    angles: np.ndarray
    sway: np.ndarray
    blink: np.ndarray
    brow: np.ndarray


def make_head_motion(n_frames: int, seed: int) -> HeadMotion:
    """Movement of a clip of T frames, determined by the seed."""
    generator = np.random.default_rng([seed, 7])
    n_long = max(int(_SD_SECONDS * FPS), n_frames)
    cut = slice(0, n_frames)
    angles = np.stack([np.deg2rad(sd) * _smooth_noise(generator, n_long)[cut] for sd in HEAD_SD_DEGREES.values()], axis=1)
    sway = np.stack([sd * _smooth_noise(generator, n_long)[cut] for sd in BODY_SD_CM], axis=1)
    brow = np.tanh(0.5 * _smooth_noise(generator, n_long)[cut])
    return HeadMotion(angles, sway, _blinks(generator, n_frames), brow)


def _smooth_noise(generator: np.random.Generator, n_frames: int) -> np.ndarray:
    """[T] band-limited noise with mean 0 and standard deviation 1."""
    hertz = np.geomspace(SLOWEST_HZ, FASTEST_HZ, N_WAVES) * generator.uniform(0.95, 1.05, N_WAVES)
    phase = generator.uniform(0.0, 2.0 * np.pi, N_WAVES)
    waves = np.sin(2.0 * np.pi * np.arange(n_frames)[:, None] / FPS * hertz + phase) / hertz**0.8
    value = waves.sum(axis=1)
    return (value - value.mean()) / value.std()


def _blinks(generator: np.random.Generator, n_frames: int) -> np.ndarray:
    """[T] lid closure: blinks at irregular intervals, `BLINKS_PER_MINUTE` on average."""
    times = (np.arange(n_frames) + 0.5) / FPS
    closure = np.zeros(n_frames)
    onset = generator.uniform(0.3, 2.0)
    # Intervals are the shortest one plus a gamma variate of shape 2.
    mean_excess = 60.0 / BLINKS_PER_MINUTE - SHORTEST_BLINK_INTERVAL
    while onset < n_frames / FPS:
        since = times - onset
        closing = np.clip(since / BLINK_CLOSING, 0.0, 1.0)
        opening = np.clip((since - BLINK_CLOSING - BLINK_SHUT) / BLINK_OPENING, 0.0, 1.0)
        pulse = closing * closing * (3.0 - 2.0 * closing) * (1.0 - opening * opening * (3.0 - 2.0 * opening))
        closure = np.maximum(closure, pulse)
        onset += SHORTEST_BLINK_INTERVAL + generator.gamma(2.0, mean_excess / 2.0)
    return closure


# -------- Expression: mouth parameters, blink and brow -> the 468 vertices
#
# Only the handle vertices (lips, jaw line, lids, brows, and fixed anchors) are moved by rule. All others follow by bi-Laplacian
# interpolation of the handles' displacements over the mesh: one matrix, solved once per process.

NARROW, SPREAD = 0.34, 0.16
"""Relative change of the lips' width at wide = -1 and +1."""

PROTRUSION, UPPER_RAISE, LOWER_DROP, TUCK_BACK = 0.75, 0.32, 0.42, 0.35
"""cm at full parameter value."""

BROW_RAISE = 0.45
LID_GAP_CLOSED = 0.02
"""Fraction of the lid gap that remains when the eye is closed."""

_JAW_WEIGHTS = (0.02, 0.12, 0.4, 0.7, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.7, 0.4, 0.12, 0.02)


@functools.cache
def _handles() -> tuple[np.ndarray, np.ndarray]:
    """Sorted handle vertices [H] and the matrix [468, H] that interpolates their displacements over the mesh."""
    named: list[int] = [*geometry.ANCHORS, *geometry.JAW_LINE, *geometry.CHIN]
    groups = (geometry.UPPER_LIDS, geometry.LOWER_LIDS, geometry.UPPER_CREASES, geometry.LOWER_CREASES, geometry.SOCKETS)
    named += [i for group in groups for loop in group for i in loop]
    named += [i for brow in geometry.BROWS for edge in brow for i in edge]
    for loop in (geometry.OUTER_UPPER_LIP, geometry.OUTER_LOWER_LIP, geometry.INNER_UPPER_LIP, geometry.INNER_LOWER_LIP):
        named += loop
    handles = np.unique(named)
    free = np.setdiff1d(np.arange(468), handles)
    laplacian = geometry.neighbors_matrix()
    energy = laplacian @ laplacian + 0.3 * laplacian  # thin plate; the membrane term limits its overshoot
    spread = np.zeros((468, len(handles)))
    spread[handles, np.arange(len(handles))] = 1.0
    spread[free] = -np.linalg.solve(energy[np.ix_(free, free)], energy[np.ix_(free, handles)])
    return handles, spread


def face_vertices(rest: np.ndarray, mouth: np.ndarray, blink: np.ndarray, brow: np.ndarray) -> np.ndarray:
    """Poses a face.

    Args:
      rest: [468, 3] cm from `speakers.rest_vertices`.
      mouth: [T, 8] in the order of `speech.PARAMETERS`.
      blink: [T] 0 open .. 1 closed.
      brow: [T] -1 lowered .. 1 raised.

    Returns:
      [T, 468, 3] float32 cm in the canonical head frame.
    """
    handles, spread = _handles()
    n_frames = len(mouth)
    target = np.repeat(rest[None], n_frames, axis=0)
    _move_jaw(target, rest, mouth[:, PARAMETERS.index("jaw")])
    _move_lips(target, rest, {name: mouth[:, i, None] for i, name in enumerate(PARAMETERS)})
    _move_lids(target, rest, np.asarray(blink, np.float64)[:, None])
    _move_brows(target, np.asarray(brow, np.float64))
    displacement = (target - rest)[:, handles]
    return (rest + np.einsum("vh,thc->tvc", spread, displacement)).astype(np.float32)


def _move_jaw(target: np.ndarray, rest: np.ndarray, jaw: np.ndarray) -> None:
    """Jaw line, chin and lips; the corners of the mouth follow a third of the rotation."""
    for loop, weights in ((geometry.JAW_LINE, np.array(_JAW_WEIGHTS)), (geometry.CHIN, np.ones(len(geometry.CHIN)))):
        target[:, list(loop)] = geometry.jaw_rotation(rest[list(loop)], jaw[:, None] * weights)
    for upper, lower in ((geometry.OUTER_UPPER_LIP, geometry.OUTER_LOWER_LIP), (geometry.INNER_UPPER_LIP, geometry.INNER_LOWER_LIP)):
        along = np.linspace(-1.0, 1.0, 11)
        low = 0.32 + 0.68 * (1.0 - along**4)
        high = 0.32 * along**4
        target[:, list(upper)] = geometry.jaw_rotation(rest[list(upper)], jaw[:, None] * high)
        target[:, list(lower)] = geometry.jaw_rotation(rest[list(lower)], jaw[:, None] * low)


def _move_lips(target: np.ndarray, rest: np.ndarray, p: dict[str, np.ndarray]) -> None:
    """Lip shape on top of the jaw's rotation; `p` holds [T, 1] per parameter."""
    middle = 1.0 - np.abs(np.linspace(-1.0, 1.0, 11)) ** 2.5  # 1 in the middle of the lips, 0 at the corners
    width = 1.0 + np.where(p["wide"] < 0, NARROW, SPREAD) * p["wide"]
    loops = {
        "outer_upper": list(geometry.OUTER_UPPER_LIP),
        "inner_upper": list(geometry.INNER_UPPER_LIP),
        "outer_lower": list(geometry.OUTER_LOWER_LIP),
        "inner_lower": list(geometry.INNER_LOWER_LIP),
    }
    moved = {}
    for name, loop in loops.items():
        points = target[:, loop].copy()
        is_upper, is_outer = name.endswith("upper"), name.startswith("outer")
        points[..., 0] *= width
        # Narrow lips protrude, spread ones are drawn back along the teeth.
        points[..., 2] += PROTRUSION * p["protrude"] * (0.45 + 0.55 * middle) * (0.75 if is_outer else 1.0)
        points[..., 2] -= 0.25 * np.maximum(p["wide"], 0.0) * (1.0 - middle)
        points[..., 1] += 0.12 * np.maximum(p["wide"], 0.0) * (1.0 - middle)
        if is_upper:
            points[..., 1] += UPPER_RAISE * p["upper"] * middle
        else:
            points[..., 1] -= LOWER_DROP * p["lower"] * middle
        moved[name] = points
    _tuck(moved, rest, p["tuck"], middle)
    _close(moved, p["close"])
    for name, loop in loops.items():
        target[:, loop] = moved[name]


def _tuck(moved: dict[str, np.ndarray], rest: np.ndarray, tuck: np.ndarray, middle: np.ndarray) -> None:
    """Moves the lower lip up and back to the upper teeth; a slit below the upper lip remains."""
    goal = rest[list(geometry.INNER_UPPER_LIP)] + np.stack([0 * middle, -0.16 * middle, -TUCK_BACK * middle], axis=-1)
    lift = tuck[..., None] * (goal - moved["inner_lower"]) * np.array([0.0, 1.0, 1.0]) * np.where(middle > 0, 1.0, 0.0)[:, None]
    moved["inner_lower"] += lift
    moved["outer_lower"] += 0.75 * lift


def _close(moved: dict[str, np.ndarray], close: np.ndarray) -> None:
    """Moves the inner lip contours together by `close`, and removes any overlap."""
    upper, lower = moved["inner_upper"], moved["inner_lower"]
    gap = upper - lower
    gap[..., 1] = np.where(gap[..., 1] < 0, gap[..., 1], close * gap[..., 1])  # an overlap is always removed
    gap[..., 0] = 0.0
    gap[..., 2] *= close
    # Pressed lips roll inwards slightly.
    press = 0.10 * close * (1.0 - np.abs(np.linspace(-1.0, 1.0, 11)) ** 2.5)
    moved["inner_upper"] = upper - 0.35 * gap
    moved["inner_lower"] = lower + 0.65 * gap
    moved["outer_upper"] += -0.3 * gap - np.stack([0 * press, press, 0 * press], axis=-1)
    moved["outer_lower"] += 0.6 * gap + np.stack([0 * press, press, 0 * press], axis=-1)


def _move_lids(target: np.ndarray, rest: np.ndarray, blink: np.ndarray) -> None:
    """The upper lid slides down over the eyeball to the lower one, which rises slightly."""
    rows = zip(geometry.UPPER_LIDS, geometry.LOWER_LIDS, geometry.UPPER_CREASES, geometry.LOWER_CREASES, strict=True)
    for upper, lower, upper_crease, lower_crease in rows:
        upper, lower = list(upper), list(lower)
        gap = (rest[upper] - rest[lower]) * (1.0 - LID_GAP_CLOSED)
        bulge = np.sin(np.pi * np.linspace(0.0, 1.0, 9)) * 0.12  # the lid passes over the eyeball's front
        down = blink[..., None] * (-0.86 * gap)
        down[..., 2] += 4.0 * (blink * (1.0 - 0.75 * blink)) * bulge
        up = blink[..., None] * 0.14 * gap
        target[:, upper[1:-1]] = rest[upper[1:-1]] + down[:, 1:-1]
        target[:, lower[1:-1]] = rest[lower[1:-1]] + up[:, 1:-1]
        target[:, list(upper_crease)] = rest[list(upper_crease)] + 0.22 * down[:, 1:-1]
        target[:, list(lower_crease)] = rest[list(lower_crease)] + 0.3 * up[:, 1:-1]


def _move_brows(target: np.ndarray, brow: np.ndarray) -> None:
    weights = np.array([0.5, 0.8, 1.0, 0.9, 0.7])  # from the outer end to the inner one
    for edges in geometry.BROWS:
        for edge in edges:
            target[:, list(edge), 1] += BROW_RAISE * brow[:, None] * weights


# -------- A clip's true motion, shared by the corpus and the renderer


@dataclass(frozen=True)
class Performance:
    """Motion of a speaker saying a clip: `mouth` [T, 8] (`speech.PARAMETERS`), `vertices` [T, 468, 3] cm in the canonical head frame."""

    clip: SpeechClip
    speaker: Speaker
    mouth: np.ndarray
    head_motion: HeadMotion
    vertices: np.ndarray

    @property
    def motion(self) -> np.ndarray:
        """[T, 68, 3] float32: 68 landmarks as ten times the displacement from the mean face in decimeters."""
        return motion_from_landmarks(self.vertices[:, LANDMARKS_68] / 10.0)


def perform(clip: SpeechClip, seed: int = 0) -> Performance:
    """Animates the clip's speaker; `seed` changes head movement, blinks and brows, not the mouth."""
    speaker = make_speaker(clip.speaker)
    n_frames = clip.n_frames
    mouth = mouth_parameters(clip.phonemes, clip.samples, n_frames, speaker.expressiveness)
    head_motion = make_head_motion(n_frames, seed + zlib.crc32(clip.name.encode()))
    vertices = face_vertices(geometry.rest_vertices(speaker), mouth, head_motion.blink, head_motion.brow)
    return Performance(clip, speaker, mouth, head_motion, vertices)


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] landmarks -> [...] mean over both eyes of lid gap / eye width, about 0 (closed) to 0.4."""
    ratios = []
    for first in (36, 42):
        eye = landmarks[..., first : first + 6, :]
        gap = np.linalg.norm(eye[..., 1, :] - eye[..., 5, :], axis=-1) + np.linalg.norm(eye[..., 2, :] - eye[..., 4, :], axis=-1)
        ratios.append(gap / (2.0 * np.linalg.norm(eye[..., 0, :] - eye[..., 3, :], axis=-1)))
    return np.mean(ratios, axis=0).astype(np.float32)


def mouth_opening(landmarks: np.ndarray) -> np.ndarray:
    """[..., 68, C] landmarks -> [...] gap between the middles of the inner lips / distance between the outer mouth corners, >= 0."""
    gap = np.linalg.norm(landmarks[..., 62, :] - landmarks[..., 66, :], axis=-1)
    return (gap / np.linalg.norm(landmarks[..., 48, :] - landmarks[..., 54, :], axis=-1)).astype(np.float32)
