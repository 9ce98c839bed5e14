"""Every knob of `geneface infer`, once: the command line and the web page are both generated from this dataclass."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

from geneface_jax.errors import InputError

BLINK_MODES = ("none", "period", "video")
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
PIX_FMTS = ("yuv420p", "yuv444p")

_RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?[kKM]?")
_FRAME_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


def _knob(default: Any, help: str, *, low: float | None = None, high: float | None = None, step: float | None = None, choices=None) -> Any:
    metadata = {"help": help, "low": low, "high": high, "step": step, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Controls:
    """What a user can ask of the result. Every field has a range or a list of choices in its metadata, which `validate` enforces."""

    # Motion.
    blink_mode: str = _knob("video", "eyes: stay open, blink every few seconds, or blink as in the training video", choices=BLINK_MODES)
    blink_period: int = _knob(100, "frames (25 a second) from one blink to the next with --blink-mode period", low=8, high=1000, step=1)
    lle: float = _knob(0.0, "pull of the landmarks towards the training video's own (1 = wholly)", low=0.0, high=1.0, step=0.025)
    lle_mouth: float = _knob(0.0, "the same for the mouth by itself, after --lle", low=0.0, high=1.0, step=0.025)
    lle_eyes: float = _knob(0.0, "the same for brows and eyes by themselves, after --lle", low=0.0, high=1.0, step=0.025)
    lle_k: int = _knob(10, "frames of the training video that --lle, --lle-mouth and --lle-eyes mix", low=1, high=100, step=1)
    mouth_amp: float = _knob(0.4, "how wide the mouth moves; 0.4 leaves it as predicted", low=0.0, high=1.0, step=0.025)
    temperature: float = _knob(0.2, "variety of the motion: 0 = the most likely, 1 = a random draw", low=0.0, high=1.0, step=0.025)
    clamp: float = _knob(2.5, "limit of the landmarks in standard deviations of the training video", low=0.5, high=10.0, step=0.1)
    smooth: float = _knob(0.2, "share of the previous frame's landmarks kept in the next (0 = no smoothing)", low=0.0, high=0.95, step=0.05)
    close_mouth: float = _knob(1.0, "how far the mouth shuts where nobody speaks (0 = as predicted)", low=0.0, high=1.0, step=0.05)
    silence_db: float = _knob(40.0, "silence is this many dB quieter than the recording's loud speech", low=10.0, high=80.0, step=1.0)
    seed: int = _knob(0, "random seed of the motion", low=0, high=2**31 - 1, step=1)
    # Picture.
    pose: str = _knob("video", "head pose: 'video' (as in the training video, back and forth), 'still', or its frames A-B, back and forth")
    orbit: float = _knob(
        0.0, "free viewpoint: degrees by which the camera swings around the head, to each side", low=0.0, high=45.0, step=1.0
    )
    bg: str = _knob("original", "background: 'original', a colour (name or #rrggbb) or an image file")
    end_threshold: float = _knob(0.01, "a ray stops below this transmittance; larger is faster and rougher", low=0.0, high=0.1, step=0.0025)
    n_samples_per_ray: int | None = _knob(None, "vanilla NeRF: samples of the coarse pass; default: as trained", low=4, high=1024, step=4)
    n_samples_per_ray_fine: int | None = _knob(
        None, "vanilla NeRF: further samples of the fine pass, 0 for none; default: as trained", low=0, high=1024, step=4
    )
    size: int | None = _knob(None, "width and height of the video in pixels, even; default: as trained", low=64, high=2048, step=2)
    # Encoder.
    crf: int = _knob(18, "H.264 quality: smaller is better and larger in bytes; not used with --bitrate", low=0, high=51, step=1)
    preset: str = _knob("medium", "H.264 speed", choices=PRESETS)
    pix_fmt: str = _knob("yuv420p", "pixel format; browsers play yuv420p", choices=PIX_FMTS)
    bitrate: str | None = _knob(None, "constant bitrate such as 2000k instead of --crf")
    maxrate: str | None = _knob(None, "upper limit of the bitrate, such as 4M; needs --bufsize")
    bufsize: str | None = _knob(None, "rate control buffer, such as 8M; needs --maxrate or --bitrate")

    def validate(self) -> Controls:
        """Returns itself when every value is in range.

        Raises:
          InputError: a value is out of range; the sentence names the flag, the value and the range.
        """
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if meta["choices"] is not None and value not in meta["choices"]:
                raise InputError(f"{flag(field.name)} is {value!r}; choose {', '.join(meta['choices'])}")
            if meta["low"] is not None and value is not None:
                kinds = (int,) if base_type(field) is int else (int, float)
                # Written so that NaN, which compares false with everything, is refused too.
                if isinstance(value, bool) or not isinstance(value, kinds) or not meta["low"] <= value <= meta["high"]:
                    raise InputError(f"{flag(field.name)} is {value!r}; give a number from {meta['low']} to {meta['high']}")
        if self.size is not None and self.size % 2:
            raise InputError(f"--size is {self.size}; give an even number from 64 to 2048 (H.264 stores colour at half the size)")
        if self.pose not in ("video", "still"):
            frame_range(self.pose)
        if not self.bg:
            raise InputError("--bg is empty; give 'original', a colour (name or #rrggbb) or an image file")
        for name in ("bitrate", "maxrate", "bufsize"):
            value = getattr(self, name)
            if value is not None and not _RATE.fullmatch(value):
                raise InputError(f"{flag(name)} is {value!r}; give bits per second such as 2000k or 4M")
        if self.maxrate is not None and self.bufsize is None:
            raise InputError(f"--maxrate is {self.maxrate} without --bufsize; give both (a buffer of twice the rate is usual)")
        if self.bufsize is not None and self.maxrate is None and self.bitrate is None:
            raise InputError(f"--bufsize is {self.bufsize} without a rate; give --maxrate or --bitrate too")
        return self


def flag(name: str) -> str:
    """Command-line spelling of a field: `mouth_amp` -> `--mouth-amp`."""
    return "--" + name.replace("_", "-")


def base_type(field: dataclasses.Field) -> type:
    """Type of a field's value without the `| None`."""
    return {"int": int, "float": float, "str": str}[str(field.type).split(" |")[0]]


def frame_range(pose: str) -> tuple[int, int]:
    """Reads "A-B" as the frames A up to but not including B.

    Raises:
      InputError: the text is something else, or B is not larger than A.
    """
    match = _FRAME_RANGE.fullmatch(pose)
    if not match or int(match[1]) >= int(match[2]):
        raise InputError(f"--pose is {pose!r}; give video, still or two frame numbers A-B with A smaller than B, such as 0-250")
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one option per field, with its default and range in the help."""
    group = parser.add_argument_group("controls")
    for field in dataclasses.fields(Controls):
        meta = field.metadata
        bounds = "" if meta["low"] is None else f" [{meta['low']} .. {meta['high']}]"
        default = "" if field.default is None else f" (default: {field.default})"
        group.add_argument(
            flag(field.name),
            dest=field.name,
            type=base_type(field),
            default=field.default,
            choices=meta["choices"],
            metavar=None if meta["choices"] else field.name.upper(),
            help=meta["help"] + bounds + default,
        )


def from_args(args: argparse.Namespace) -> Controls:
    """Collects the fields from parsed arguments and validates them. Raises as `Controls.validate`."""
    return Controls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Controls)}).validate()
