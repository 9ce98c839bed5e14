"""What the report judges: every figure's name, the range in which it is good or usable, and what to do otherwise."""

from __future__ import annotations

import dataclasses
import math

ANY = math.inf


@dataclasses.dataclass(frozen=True)
class Check:
    """A figure of the report: `good` and `usable` are closed ranges; `advice` is shown outside `good`."""

    title: str
    unit: str
    good: tuple[float, float]
    usable: tuple[float, float]
    advice: str


CHECKS = {
    "seconds": Check("length", "s", (60.0, ANY), (15.0, ANY), "use a longer video: one minute or more"),
    "source_fps": Check("source frame rate", "fps", (24.0, 61.0), (14.9, 241.0), "film at 25 to 60 frames a second"),
    "source_squareness": Check("squareness of the source", "", (0.55, 1.0), (0.3, 1.0), "crop the video nearer to head and shoulders"),
    "crop_pixels_per_pixel": Check(
        "source pixels per dataset pixel", "", (0.95, ANY), (0.5, ANY), "film closer, or choose a smaller --size"
    ),
    "head_fraction": Check(
        "head height / picture height", "", (0.45, 0.72), (0.3, 0.85), "film with head and shoulders filling the picture"
    ),
    "frames_without_face": Check("frames without a face", "%", (0.0, 0.5), (0.0, 5.0), "trim the parts where the face is hidden"),
    "faces_per_frame": Check("faces per frame", "", (0.99, 1.01), (0.95, 2.0), "film the person alone; the largest face was used"),
    "reprojection_error_px": Check("pose fit error, at 512", "px", (0.0, 2.0), (0.0, 4.0), "film sharper, with even light"),
    "landmark_jitter_px": Check("landmark jitter, at 512", "px", (0.0, 1.0), (0.0, 2.5), "film sharper, with more light"),
    "pose_jitter_px": Check("pose jitter after smoothing, at 512", "px", (0.0, 0.6), (0.0, 1.5), "film sharper, from a tripod"),
    "yaw_range_deg": Check("head turn, sd", "deg", (1.5, 25.0), (0.5, 35.0), "let the person move the head a little, facing the camera"),
    "blinks_per_minute": Check("blinks per minute", "", (5.0, 40.0), (0.0, 90.0), "blinks can't be learnt from eyes that never close"),
    "light_change": Check("change of light on the skin", "%", (0.0, 12.0), (0.0, 30.0), "use constant light and fixed exposure"),
    "loudness_lufs": Check("loudness", "LUFS", (-30.0, -12.0), (-45.0, -6.0), "record at a normal level"),
    "sound_clipping": Check("clipped samples", "%", (0.0, 0.01), (0.0, 0.5), "record quieter"),
    "noise_db": Check("noise in pauses", "dBFS", (-200.0, -45.0), (-200.0, -30.0), "record in a quiet room, near the microphone"),
    "silence": Check("silence", "%", (0.0, 40.0), (0.0, 70.0), "cut long pauses"),
    "mouth_offset_ms": Check("mouth late against the sound", "ms", (-120.0, 120.0), (-200.0, 200.0), "correct it with --audio-offset"),
}
"""In the order of the report. A figure that could not be measured has no light."""

LIGHT_COLOURS = {"good": "#2e9d5b", "usable": "#d99a1c", "poor": "#c8402f", "unknown": "#9a9a9a"}


def light(name: str, value: float | None) -> str:
    """ "good", "usable", "poor", or "unknown" where nothing was measured."""
    check = CHECKS[name]
    if value is None:
        return "unknown"
    return "good" if check.good[0] <= value <= check.good[1] else "usable" if check.usable[0] <= value <= check.usable[1] else "poor"
