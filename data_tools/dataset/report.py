"""The data report: what was measured, whether it is good enough, and a contact sheet to look at."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_tools.dataset.analyse import ANALYSIS_SIZE
from data_tools.dataset.workspace import write_bytes, write_json
from data_tools.face.pose import HeadPose, jitter

# Name, unit, format, (good when inside), (usable when inside), what to do otherwise.
_LIMITS = {
    "source_fps": ("source frame rate", "fps", (24.0, 61.0), (14.9, 241.0), "film at 25 to 60 frames a second"),
    "seconds": ("length", "s", (60.0, 1e9), (15.0, 1e9), "use a longer video: one minute or more"),
    "source_squareness": ("squareness of the source", "", (0.55, 1.0), (0.3, 1.0), "crop the video nearer to head and shoulders"),
    "crop_pixels_per_pixel": ("source pixels per dataset pixel", "", (0.95, 1e9), (0.5, 1e9), "film closer, or choose a smaller --size"),
    "head_fraction": ("head height / picture height", "", (0.45, 0.72), (0.3, 0.85), "film with head and shoulders in the picture"),
    "frames_without_face": ("frames without a face", "%", (0.0, 0.5), (0.0, 5.0), "trim the parts where the face is hidden"),
    "frames_with_others": ("looks with another face", "%", (0.0, 1.0), (0.0, 100.0), "film the person alone"),
    "reprojection_error_px": ("pose fit error, at 512", "px", (0.0, 2.0), (0.0, 4.0), "film sharper, with even light"),
    "pose_jitter_px": ("pose jitter, at 512", "px", (0.0, 0.6), (0.0, 1.5), "film sharper, from a tripod"),
    "yaw_range_deg": ("head turn, sd", "deg", (1.5, 25.0), (0.5, 35.0), "let the person move the head a little, facing the camera"),
    "sound_clipping": ("clipped samples", "%", (0.0, 0.01), (0.0, 0.5), "record quieter"),
    "sound_level_db": ("loudness of speech", "dBFS", (-35.0, -6.0), (-50.0, -1.0), "record at a normal level"),
    "silence": ("silence", "%", (0.0, 40.0), (0.0, 70.0), "cut long pauses"),
}

COLOURS = {"good": "#2e9d5b", "usable": "#d99a1c", "poor": "#c8402f"}


def measure(info, scan: dict[str, Any], arrays: dict[str, np.ndarray], pose: HeadPose, samples: np.ndarray, size: int, changes) -> dict:
    """All figures of the report.

    Returns:
      {"values": {name: float}, "lights": {name: "good" | "usable" | "poor"}, "changes": [sentences]}
    """
    level = 20.0 * np.log10(np.sqrt(np.mean(samples[: len(samples) // 640 * 640].reshape(-1, 640) ** 2, axis=1)) + 1e-9)
    forward = pose.rotation[:, :, 2]
    values = {
        "source_fps": info.fps,
        "seconds": len(arrays["motion"]) / 25.0,
        "source_squareness": min(info.width, info.height) / max(info.width, info.height),
        "crop_pixels_per_pixel": scan["box"].size / size,
        "head_fraction": scan["head_fraction"],
        "frames_without_face": 100.0 * float(arrays["interpolated"].mean()),
        "frames_with_others": 100.0 * scan["rival_fraction"],
        "reprojection_error_px": float(pose.error.mean()),
        "pose_jitter_before_px": jitter(pose.unsmoothed_rotation, pose.unsmoothed_translation, pose.shape, ANALYSIS_SIZE),
        "pose_jitter_px": jitter(pose.rotation, pose.translation, pose.shape, ANALYSIS_SIZE),
        "yaw_range_deg": float(np.degrees(np.arctan2(forward[:, 0], forward[:, 2])).std()),
        "sound_clipping": 100.0 * float((np.abs(samples) >= 0.999).mean()),
        "sound_level_db": float(np.percentile(level, 90)),
        "silence": 100.0 * float((level < max(np.percentile(level, 95) - 35.0, -60.0)).mean()),
    }
    values = {name: round(float(value), 4) for name, value in values.items()}
    return {"values": values, "lights": {name: light(name, values[name]) for name in _LIMITS}, "changes": list(changes)}


def light(name: str, value: float) -> str:
    """ "good", "usable" or "poor"."""
    _, _, good, usable, _ = _LIMITS[name]
    return "good" if good[0] <= value <= good[1] else "usable" if usable[0] <= value <= usable[1] else "poor"


def contact_sheet(folder: Path, landmarks: np.ndarray, columns: int = 6, cell: int = 256) -> np.ndarray:
    """Rows of evenly spaced frames: with landmarks, with the head mask's outline, and the torso image on grey.

    Args:
      folder: dataset with `frames/`, `head/`, `torso/`.
      landmarks: [T, 68, 2] pixels.
      columns: frames shown.
      cell: pixels of one picture.

    Returns:
      uint8 [3 * cell, columns * cell, 3] BGR.
    """
    shown = np.linspace(0, len(landmarks) - 1, columns).round().astype(int)
    rows: list[list[np.ndarray]] = [[], [], []]
    for index in shown:
        frame = cv2.imread(str(folder / "frames" / f"{index:06d}.jpg"))
        head = cv2.imread(str(folder / "head" / f"{index:06d}.png"), cv2.IMREAD_GRAYSCALE)
        torso = cv2.imread(str(folder / "torso" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        scale = cell / frame.shape[0]
        small = cv2.resize(frame, (cell, cell), interpolation=cv2.INTER_AREA)
        dotted, outlined = small.copy(), small.copy()
        for x, y in landmarks[index] * scale:
            cv2.circle(dotted, (round(float(x) * 8), round(float(y) * 8)), 10, (80, 255, 80), -1, cv2.LINE_AA, 3)
        outline = cv2.findContours(
            (cv2.resize(head, (cell, cell), interpolation=cv2.INTER_AREA) > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )[0]
        cv2.drawContours(outlined, outline, -1, (60, 220, 255), 1, cv2.LINE_AA)
        alpha = torso[..., 3:] / 255.0
        body = cv2.resize((torso[..., :3] * alpha + 128.0 * (1.0 - alpha)).astype(np.uint8), (cell, cell), interpolation=cv2.INTER_AREA)
        for row, picture in zip(rows, (dotted, outlined, body), strict=True):
            row.append(picture)
    return np.vstack([np.hstack(row) for row in rows])


def write(folder: Path, name: str, facts: dict, seconds: dict[str, float]) -> None:
    """Writes `report.json` and `report.html` (one file, the contact sheet inside) into a dataset folder that is otherwise whole."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as archive:
        landmarks = archive["landmarks_2d"]
    sheet = cv2.imencode(".jpg", contact_sheet(folder, landmarks), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    write_json(folder / "report.json", {"name": name, **facts, "seconds_per_step": seconds})
    write_bytes(folder / "report.html", page(name, facts, seconds, sheet).encode("utf-8"))


def page(name: str, facts: dict, seconds: dict[str, float], sheet: bytes) -> str:
    """The report as one HTML document; everything that comes from outside is escaped."""
    rows = []
    for key, (title, unit, _, _, advice) in _LIMITS.items():
        state = facts["lights"][key]
        hint = "" if state == "good" else html.escape(advice)
        rows.append(
            f'<tr><td><span style="background:{COLOURS[state]}"></span>{html.escape(title)}</td>'
            f"<td>{facts['values'][key]:.4g} {html.escape(unit)}</td><td>{state}</td><td>{hint}</td></tr>"
        )
    changes = "".join(f"<li>{html.escape(change)}</li>" for change in facts["changes"]) or "<li>nothing</li>"
    steps = ", ".join(f"{html.escape(step)} {value:.1f} s" for step, value in seconds.items())
    picture = base64.b64encode(sheet).decode("ascii")
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(name)}: data report</title>
<style>body{{font:15px system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}}td{{padding:.25em 1.2em .25em 0}}
td span{{display:inline-block;width:.8em;height:.8em;border-radius:50%;margin-right:.6em}}img{{width:100%}}</style>
<h1>{html.escape(name)}</h1><table>{"".join(rows)}</table>
<p>Pose jitter before smoothing: {facts["values"]["pose_jitter_before_px"]:.3g} px.</p>
<h2>Changed on the way</h2><ul>{changes}</ul>
<h2>Landmarks, head mask, torso</h2><img alt="contact sheet" src="data:image/jpeg;base64,{picture}">
<p>Time: {steps}</p></html>
"""
