"""The data report: what was measured, whether it is good enough, and pictures to look at."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from data_tools.audio.level import measure_level
from data_tools.audio.load import SAMPLE_RATE
from data_tools.corpus.offset import Offset, estimate_offset, loudness, opening
from data_tools.dataset.analyse import ANALYSIS_SIZE
from data_tools.dataset.checks import CHECKS, LIGHT_COLOURS, light
from data_tools.dataset.sheet import contact_sheet, parts_sheet
from data_tools.dataset.workspace import write_bytes, write_json
from data_tools.errors import InputError
from data_tools.face.blinks import find_blinks
from data_tools.face.geometry import RIGID
from data_tools.face.pose import HeadPose, jitter
from data_tools.face.track import FaceTrack
from data_tools.video.probe import VideoInfo
from data_tools.video.read import FPS

OFFSET_REACH = 15
"""Frames searched to each side for the offset between mouth and sound."""

OFFSET_MIN_SCORE, OFFSET_MIN_MARGIN = 5.5, 3.0
"""What an offset needs to be believed (measured in `data_tools.corpus.offset`; the same as configs/corpus.py)."""

OFFSET_TOLERANCE = 3
"""Mouth against loudness peaks within so many frames of zero in good videos; only what lies further off is offered as a correction."""


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
) -> dict[str, Any]:
    """All figures of the report.

    Args:
      info: facts of the file.
      scan: `scan.Scan` as a dict.
      track: the faces found.
      arrays: of arrays.npz.
      pose: the poses, at `ANALYSIS_SIZE`.
      samples: [n] sound, 16 kHz.
      brightness: [T] mean grey level of the skin.
      size: pixels of the dataset.
      audio_offset: seconds by which the sound was delayed already.

    Returns:
      {"values": {name: float or None}, "lights": {name: "good" | "usable" | "poor" | "unknown"}, "offset": {...}}
    """
    forward = pose.rotation[:, :, 2]
    level = measure_level(samples, SAMPLE_RATE)
    offset = mouth_offset(arrays)
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
        "light_change": light_change(brightness),
        "loudness_lufs": max(level.loudness, -120.0),
        "sound_peak_db": level.peak,
        "sound_clipping": 100.0 * level.clipped,
        "noise_db": level.noise,
        "silence": 100.0 * level.silent,
        "longest_pause_seconds": level.longest_pause,
        "mouth_offset_ms": 1000.0 * offset.lag / FPS if _believed(offset) else None,
    }
    values = {name: None if value is None else round(float(value), 4) for name, value in values.items()}
    return {
        "values": values,
        "lights": {name: light(name, values[name]) for name in CHECKS},
        "offset": {
            "frames": offset.lag,
            "score": round(offset.score, 2),
            "margin": round(offset.margin, 2),
            "believed": _believed(offset),
            "suggested_audio_offset": suggested_correction(offset, audio_offset),
        },
    }


def mouth_offset(arrays: dict[str, np.ndarray]) -> Offset:
    """By how many frames the mouth is late, estimated from lips and loudness.

    Only the log-mel of `mel_f0` tells loudness; with other features the score is 0.
    """
    if arrays["audio_features"].shape[1] != 80:
        return Offset(0, 0.0, 0.0)
    points = arrays["motion"] / 10.0 + arrays["mean_face"]
    return estimate_offset(opening(points), loudness(arrays["audio_features"]), OFFSET_REACH)


def _believed(offset: Offset) -> bool:
    return offset.score >= OFFSET_MIN_SCORE and offset.margin >= OFFSET_MIN_MARGIN


def suggested_correction(offset: Offset, audio_offset: float) -> float | None:
    """Seconds to give as --audio-offset (the delay already applied included); None where nothing needs to be done."""
    if not _believed(offset) or abs(offset.lag) <= OFFSET_TOLERANCE:
        return None
    return round(audio_offset + offset.lag / FPS, 3)


def light_change(brightness: np.ndarray) -> float:
    """[T] mean grey level of the skin -> range of its slow changes (one-second means, 5th to 95th percentile), in per cent."""
    seconds = max(len(brightness) // FPS, 1)
    slow = np.array([part.mean() for part in np.array_split(brightness, seconds)])
    low, high = np.percentile(slow, [5, 95])
    return float(100.0 * (high - low) / max(np.median(slow), 1.0))


def write(folder: Path, name: str, facts: dict[str, Any], changes: list[str], seconds: dict[str, float]) -> None:
    """Writes `report.json` and `report.html` into a dataset folder whose pictures and arrays are there.

    Args:
      folder: the dataset.
      name: of the person.
      facts: from `measure`.
      changes: sentences about what the dataset has otherwise than the file.
      seconds: time per step.
    """
    write_json(folder / "report.json", {"name": name, **facts, "changes": changes, "seconds_per_step": seconds})
    with np.load(folder / "arrays.npz", allow_pickle=False) as archive:
        landmarks, mesh = archive["landmarks_2d"], archive["landmarks_mediapipe"]
    pictures = {
        "Landmarks, head mask, torso": contact_sheet(folder, landmarks),
        "Background; face, hair, neck, clothes": parts_sheet(folder, mesh),
    }
    data = {title: cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes() for title, sheet in pictures.items()}
    write_bytes(folder / "report.html", page(name, facts, changes, seconds, data).encode("utf-8"))


def page(name: str, facts: dict[str, Any], changes: list[str], seconds: dict[str, float], pictures: dict[str, bytes]) -> str:
    """The report as one HTML document; everything that comes from outside is escaped (jinja2's autoescape).

    Args:
      name, facts, changes, seconds: as in `write`.
      pictures: title -> JPEG.
    """
    rows = [
        {"check": check, "value": facts["values"].get(key), "light": facts["lights"].get(key, "unknown")} for key, check in CHECKS.items()
    ]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    return environment.get_template("report.html").render(
        name=name,
        rows=rows,
        colours=LIGHT_COLOURS,
        jitter_before=facts["values"].get("pose_jitter_before_px"),
        suggested=facts.get("offset", {}).get("suggested_audio_offset"),
        changes=changes,
        seconds=seconds,
        pictures=[(title, base64.b64encode(jpeg).decode("ascii")) for title, jpeg in pictures.items()],
    )


def write_again(folder: str | os.PathLike) -> Path:
    """Draws a dataset's `report.html` again from its `report.json` and its pictures.

    Raises:
      InputError: the folder is no dataset with a report.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        write(folder, facts.pop("name"), facts, facts.pop("changes"), facts.pop("seconds_per_step"))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{folder} is not a dataset with pictures and a report: make it with `geneface prepare`.") from error
    return folder / "report.html"
