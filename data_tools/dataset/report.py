"""The data report: quality checks with thresholds, contact sheets, report.json and report.html."""

import base64
import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from data_tools.audio.level import measure_level
from data_tools.audio.offset import NO_OFFSET, Offset, OpeningPredictor, estimate_offset, opening
from data_tools.audio.sound import SAMPLE_RATE
from data_tools.dataset.analyze import ANALYSIS_SIZE
from data_tools.errors import InputError
from data_tools.face.pose import HeadPose, find_blinks, jitter
from data_tools.face.track import FaceTrack, lip_range
from data_tools.ffmpeg import VideoInfo
from data_tools.io import read_npz, write_bytes, write_json
from data_tools.landmarks68 import RIGID
from data_tools.masks import color_parts, label_parts
from data_tools.records import Field, read_record
from data_tools.video import FPS

# -------- Quality checks: thresholds and advice

ANY = math.inf


@dataclasses.dataclass(frozen=True)
class QualityCheck:
    """One measurement of the report: `good` and `usable` are closed ranges; `advice` is shown outside `good`."""

    title: str
    unit: str
    good: tuple[float, float]
    usable: tuple[float, float]
    advice: str


CHECKS = {
    "seconds": QualityCheck("length", "s", (60.0, ANY), (15.0, ANY), "use a longer video: one minute or more"),
    "source_fps": QualityCheck("source frame rate", "fps", (24.0, 61.0), (14.9, 241.0), "film at 25 to 60 frames a second"),
    "source_squareness": QualityCheck(
        "squareness of the source", "", (0.55, 1.0), (0.3, 1.0), "crop the video nearer to head and shoulders"
    ),
    "crop_pixels_per_pixel": QualityCheck(
        "source pixels per dataset pixel", "", (0.95, ANY), (0.5, ANY), "film closer, or choose a smaller --size"
    ),
    "head_fraction": QualityCheck(
        "head height / picture height", "", (0.45, 0.72), (0.3, 0.85), "film with head and shoulders filling the picture"
    ),
    "frames_without_face": QualityCheck("frames without a face", "%", (0.0, 0.5), (0.0, 5.0), "trim the parts where the face is hidden"),
    "faces_per_frame": QualityCheck("faces per frame", "", (0.99, 1.01), (0.95, 2.0), "film the person alone; the largest face was used"),
    "reprojection_error_px": QualityCheck("pose fit error, at 512", "px", (0.0, 2.0), (0.0, 4.0), "film sharper, with even light"),
    "landmark_jitter_px": QualityCheck("landmark jitter, at 512", "px", (0.0, 1.0), (0.0, 2.5), "film sharper, with more light"),
    "pose_jitter_px": QualityCheck("pose jitter after smoothing, at 512", "px", (0.0, 0.6), (0.0, 1.5), "film sharper, from a tripod"),
    "yaw_range_deg": QualityCheck(
        "head turn, sd", "deg", (1.5, 25.0), (0.5, 35.0), "let the person move the head a little, facing the camera"
    ),
    "blinks_per_minute": QualityCheck(
        "blinks per minute", "", (5.0, 40.0), (0.0, 90.0), "blinks can't be learned from eyes that never close"
    ),
    "head_tilt_deg": QualityCheck("tilt of the head", "deg", (-12.0, 12.0), (-25.0, 25.0), "turn the video so that the head is upright"),
    "face_cut_off": QualityCheck(
        "pictures in which the face leaves the picture", "%", (0.0, 2.0), (0.0, 20.0), "film the whole head, with room around it"
    ),
    "mouth_movement": QualityCheck(
        "movement of the lips / face height", "%", (3.0, ANY), (1.5, ANY), "use a video in which the person speaks clearly"
    ),
    "another_person": QualityCheck(
        "difference of the face between two parts", "", (0.0, 2.4), (0.0, 2.8), "--trim the video to one person, in one look"
    ),
    "light_change": QualityCheck("change of light on the skin", "%", (0.0, 12.0), (0.0, 30.0), "use constant light and fixed exposure"),
    "loudness_lufs": QualityCheck("loudness", "LUFS", (-30.0, -12.0), (-45.0, -6.0), "record at a normal level"),
    "sound_clipping": QualityCheck("clipped samples", "%", (0.0, 0.01), (0.0, 0.5), "record quieter"),
    "noise_db": QualityCheck("noise in pauses", "dBFS", (-200.0, -45.0), (-200.0, -30.0), "record in a quiet room, near the microphone"),
    "silence": QualityCheck("silence", "%", (0.0, 40.0), (0.0, 70.0), "cut long pauses"),
    "mouth_offset_ms": QualityCheck(
        "mouth late against the sound", "ms", (-40.0, 40.0), (-120.0, 120.0), "correct it with --fix-offset auto"
    ),
}
"""In the order of the report."""

SERIOUS = ("head_tilt_deg", "face_cut_off", "mouth_movement", "another_person")
"""What is also warned of on the command line if it is poor."""

LIGHT_COLORS = {"good": "#2e9d5b", "usable": "#d99a1c", "poor": "#c8402f", "unknown": "#9a9a9a"}


def light(name: str, value: float | None) -> str:
    """Traffic light of a measurement: "good", "usable", "poor", or "unknown" if there is no value."""
    check = CHECKS[name]
    if value is None:
        return "unknown"
    return "good" if check.good[0] <= value <= check.good[1] else "usable" if check.usable[0] <= value <= check.usable[1] else "poor"


# -------- Contact sheets


def contact_sheet(folder: Path, landmarks: np.ndarray, columns: int = 6, cell: int = 256) -> np.ndarray:
    """Three rows of evenly spaced frames: with `landmarks` [T, 68, 2], with the head mask's outline, and the torso image on gray.

    Returns:
      uint8 [3 * cell, columns * cell, 3] BGR.
    """
    rows: list[list[np.ndarray]] = [[], [], []]
    for index in _evenly_spaced(len(landmarks), columns):
        frame, head, torso = read_pictures(folder, index)
        small = cv2.resize(frame, (cell, cell), interpolation=cv2.INTER_AREA)
        dotted, outlined = small.copy(), small.copy()
        for x, y in landmarks[index] * (cell / frame.shape[0]):
            cv2.circle(dotted, (round(float(x) * 8), round(float(y) * 8)), 10, (80, 255, 80), -1, cv2.LINE_AA, 3)
        solid = (cv2.resize(head, (cell, cell), interpolation=cv2.INTER_AREA) > 127).astype(np.uint8)
        cv2.drawContours(outlined, cv2.findContours(solid, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0], -1, (60, 220, 255), 1, cv2.LINE_AA)
        alpha = torso[..., 3:] / 255.0
        body = cv2.resize((torso[..., :3] * alpha + 128.0 * (1.0 - alpha)).astype(np.uint8), (cell, cell), interpolation=cv2.INTER_AREA)
        for row, picture in zip(rows, (dotted, outlined, body), strict=True):
            row.append(picture)
    return np.vstack([np.hstack(row) for row in rows])


def parts_sheet(folder: Path, mesh: np.ndarray, columns: int = 5, cell: int = 256) -> np.ndarray:
    """The background, and evenly spaced frames tinted by their parts (face, hair, neck, clothes); `mesh` [T, 478, 3] pixels.

    Returns:
      uint8 [cell, (columns + 1) * cell, 3] BGR.
    """
    pictures = [cv2.imread(str(folder / "background.png"))]
    for index in _evenly_spaced(len(mesh), columns):
        frame, head, torso = read_pictures(folder, index)
        rgb = np.ascontiguousarray(frame[..., ::-1])
        labels = label_parts(rgb, mesh[index], head / 255.0, torso[..., 3] / 255.0)
        pictures.append(color_parts(rgb, labels)[..., ::-1])
    return np.hstack([cv2.resize(picture, (cell, cell), interpolation=cv2.INTER_AREA) for picture in pictures])


def read_pictures(folder: Path, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame uint8 [H, W, 3] BGR, head mask uint8 [H, W] and torso uint8 [H, W, 4] BGRA of a dataset.

    Raises:
      OSError: a picture is missing or damaged.
    """
    names = (f"frames/{index:06d}.jpg", f"head/{index:06d}.png", f"torso/{index:06d}.png")
    modes = (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED)
    pictures = [cv2.imread(str(folder / name), mode) for name, mode in zip(names, modes, strict=True)]
    if any(picture is None for picture in pictures):
        raise OSError(f"a picture of frame {index} in {folder} is missing or damaged")
    return pictures[0], pictures[1], pictures[2]


def _evenly_spaced(n_frames: int, count: int) -> list[int]:
    return [int(index) for index in np.linspace(0, n_frames - 1, count).round()]


# -------- Measurements, report.json and report.html

OFFSET_REACH = 15
"""Search range, in frames to each side, of the offset between mouth and sound."""


@dataclasses.dataclass(frozen=True)
class _Thresholds:
    """Confidence thresholds of an offset estimate (see `data_tools.audio.offset`; the same as configs/corpus.py)."""

    offset_min_score: float = 5.5
    offset_min_margin: float = 2.0


OFFSET_TOLERANCE = 1.0
"""Frames (40 ms); only a larger offset gets a suggestion."""


def measure(
    info: VideoInfo,
    scan: dict[str, Any],
    track: FaceTrack,
    arrays: dict[str, np.ndarray],
    pose: HeadPose,
    samples: np.ndarray,
    brightness: np.ndarray,
    size: int,
    audio_offset: float,
    offset: Offset,
) -> dict[str, Any]:
    """All measurements of the report.

    Args:
      info: metadata of the file.
      scan: `scan.Scan` as a dict.
      track: the tracked faces.
      arrays: contents of arrays.npz.
      pose: the poses, at `ANALYSIS_SIZE`.
      samples: [n] audio, 16 kHz.
      brightness: [T] mean gray level of the skin.
      size: pixels of the dataset.
      audio_offset: seconds by which the audio was already delayed.
      offset: of the mouth, that is left.

    Returns:
      {"values": {name: float or None}, "lights": {name: "good" | "usable" | "poor" | "unknown"}, "offset": {...}}
    """
    forward = pose.rotation[:, :, 2]
    level = measure_level(samples, SAMPLE_RATE)
    rigid = arrays["landmarks_mediapipe"][:, RIGID, :2] * (ANALYSIS_SIZE / size)
    n_frames = len(arrays["motion"])
    values: dict[str, float | None] = {
        "seconds": n_frames / FPS,
        "source_fps": info.fps,
        "source_squareness": min(info.width, info.height) / max(info.width, info.height),
        "crop_pixels_per_pixel": scan["box"].size / size,
        "head_fraction": scan["head_fraction"],
        "frames_without_face": 100.0 * float(arrays["interpolated"].mean()),
        "faces_per_frame": float(track.found.mean() + (track.rival > 0).mean()),
        "frames_with_others": 100.0 * scan["rival_fraction"],
        "reprojection_error_px": float(pose.error.mean()),
        "landmark_jitter_px": float(np.abs(np.diff(rigid, 2, axis=0)).mean()),
        "pose_jitter_before_px": jitter(pose.unsmoothed_rotation, pose.unsmoothed_translation, pose.shape, ANALYSIS_SIZE),
        "pose_jitter_px": jitter(pose.rotation, pose.translation, pose.shape, ANALYSIS_SIZE),
        "yaw_range_deg": float(np.degrees(np.arctan2(forward[:, 0], forward[:, 2])).std()),
        "blinks_per_minute": len(find_blinks(arrays["eye_openness"], FPS)) * 60.0 * FPS / n_frames,
        "head_tilt_deg": scan["faults"]["roll"],
        "face_cut_off": 100.0 * scan["faults"]["cut_off"],
        "mouth_movement": 100.0 * lip_range(arrays["landmarks_mediapipe"], np.ones(3)),
        "another_person": scan["faults"]["another_person"],
        "light_change": light_change(brightness),
        "loudness_lufs": max(level.loudness, -120.0),
        "sound_peak_db": level.peak,
        "sound_clipping": 100.0 * level.clipped,
        "noise_db": level.noise,
        "silence": 100.0 * level.silent,
        "longest_pause_seconds": level.longest_pause,
        "mouth_offset_ms": 1000.0 * offset.lag / FPS if believed(offset) else None,
    }
    values = {name: None if value is None else round(float(value), 4) for name, value in values.items()}
    return {
        "values": values,
        "lights": {name: light(name, values[name]) for name in CHECKS},
        "offset": {
            "frames": round(offset.lag, 2),
            "score": round(offset.score, 2),
            "margin": round(offset.margin, 2),
            "believed": believed(offset),
            "suggested_audio_offset": suggested_correction(offset, audio_offset),
        },
    }


def mouth_offset(points: np.ndarray, samples: np.ndarray, predictor: OpeningPredictor | None) -> Offset:
    """By how much the mouth is late: `points` [T, 68, 3] in the head's frame against the sound, [n] at 16 kHz.

    The score is 0 without a predictor.
    """
    if predictor is None:
        return NO_OFFSET
    return estimate_offset(opening(points), predictor.predict(samples, len(points)), OFFSET_REACH)


def believed(offset: Offset) -> bool:
    """Whether an offset is reported, and corrected on request."""
    return offset.confident(_Thresholds())


def suggested_correction(offset: Offset, audio_offset: float) -> float | None:
    """Seconds by which the sound should be delayed (the delay already applied included); None if no correction is needed."""
    if not believed(offset) or abs(offset.lag) < OFFSET_TOLERANCE:
        return None
    return round(audio_offset + offset.lag / FPS, 3)


def light_change(brightness: np.ndarray) -> float:
    """[T] mean gray level of the skin -> range of its slow changes (one-second means, 5th to 95th percentile), in percent."""
    seconds = max(len(brightness) // FPS, 1)
    slow = np.array([part.mean() for part in np.array_split(brightness, seconds)])
    low, high = np.percentile(slow, [5, 95])
    return float(100.0 * (high - low) / max(np.median(slow), 1.0))


def write(folder: Path, name: str, facts: dict[str, Any], changes: list[str], seconds: dict[str, float]) -> None:
    """Writes `report.json` and `report.html` into a dataset folder that holds its pictures and arrays.

    Args:
      folder: the dataset.
      name: of the person.
      facts: from `measure`.
      changes: notes about differences between dataset and source video.
      seconds: time per step.
    """
    write_json(folder / "report.json", {"name": name, **facts, "changes": changes, "seconds_per_step": seconds}, checksum=True)
    landmarks, mesh = read_npz(folder / "arrays.npz", names=("landmarks_2d", "landmarks_mediapipe")).values()
    pictures = {
        "Landmarks, head mask, torso": contact_sheet(folder, landmarks),
        "Background; face, hair, neck, clothes": parts_sheet(folder, mesh),
    }
    data = {title: cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes() for title, sheet in pictures.items()}
    write_bytes(folder / "report.html", page(name, facts, changes, seconds, data).encode("utf-8"))


def page(name: str, facts: dict[str, Any], changes: list[str], seconds: dict[str, float], pictures: dict[str, bytes]) -> str:
    """The report as one HTML document, all values escaped (jinja2's autoescape); `pictures`: title -> JPEG, the rest as in `write`."""
    rows = [
        {"check": check, "value": facts["values"].get(key), "light": facts["lights"].get(key, "unknown")} for key, check in CHECKS.items()
    ]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    return environment.get_template("report.html").render(
        name=name,
        rows=rows,
        colors=LIGHT_COLORS,
        jitter_before=facts["values"].get("pose_jitter_before_px"),
        suggested=facts.get("offset", {}).get("suggested_audio_offset"),
        changes=changes,
        seconds=seconds,
        pictures=[(title, base64.b64encode(jpeg).decode("ascii")) for title, jpeg in pictures.items()],
    )


_FIELDS = {name: Field(dict) for name in ("values", "lights", "seconds_per_step")} | {"name": Field(str), "changes": Field(list)}


def rewrite_page(folder: str | os.PathLike) -> Path:
    """Renders a dataset's `report.html` from its `report.json` and its pictures.

    Raises:
      InputError: the folder is not a dataset with a report.
    """
    folder = Path(folder)
    remedy = "make the dataset with `geneface prepare`"
    facts = read_record(folder / "report.json", _FIELDS, remedy)
    try:
        write(folder, facts.pop("name"), facts, facts.pop("changes"), facts.pop("seconds_per_step"))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, OSError, cv2.error, jinja2.TemplateError) as error:
        raise InputError(f"{folder} is not a dataset with pictures and a report: {remedy}.") from error
    return folder / "report.html"
