"""Inference controls: one dataclass behind the command line and the web page, numeric precision, sampling options."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp

from data_tools.command_line import add_options, check_ranges, flag, given
from data_tools.command_line import option as _knob
from data_tools.errors import InputError
from data_tools.video.encoder import FIELDS as ENCODER_FIELDS
from data_tools.video.encoder import EncoderOptions, add_encoder_arguments, encoder_values
from geneface_jax.io.person_folder import SubjectParts

# ----------------------------------------------------------------------------------------------------
# The dtype in which a renderer keeps its networks (`--precision`).

PRECISIONS = ("fp32", "bf16")
"""What `--precision` takes. Networks are trained in fp32."""


def in_precision(parameters: Any, precision: str) -> Any:
    """Parameters as JAX arrays, the floating ones in the dtype asked for.

    With bf16 it is the numbers kept that are rounded, to 8 significant bits. Positions, encodings and sums stay float32: networks multiply
    float32 activations by rounded weights.

    Args:
      parameters: a tree of arrays.
      precision: one of `PRECISIONS`.
    """
    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None), parameters)


# ----------------------------------------------------------------------------------------------------
# Every knob of `geneface infer`, once: the command line and the web page are both generated from this dataclass.

BLINK_MODES = ("none", "period", "video")
BADGES = ("none", "corner")
TRANSPARENT = "transparent"
"""The value of --bg that asks for an alpha channel."""

_FRAME_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


@dataclasses.dataclass(frozen=True)
class Controls(EncoderOptions):
    """What a user can ask of the result: motion, picture, and the encoder's options.

    Every field has a range or a list of choices in its metadata, which `validate` enforces.
    """

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
    bg: str = _knob(
        "original",
        "background: 'original', a colour (name or #rrggbb), an image file, or 'transparent' for an --out that ends in .webm or is a "
        "folder (of PNGs)",
    )
    badge: str = _knob("none", "a visible 'AI-generated' label in the lower left corner of every frame", choices=BADGES)
    end_threshold: float = _knob(0.01, "a ray stops below this transmittance; larger is faster and rougher", low=0.0, high=0.1, step=0.0025)
    precision: str = _knob(
        "fp32", "'bf16' keeps the renderer's networks in bfloat16: half their memory, colours off by a level or two", choices=PRECISIONS
    )
    n_samples_per_ray: int | None = _knob(None, "vanilla NeRF: samples of the coarse pass; default: as trained", low=4, high=1024, step=4)
    n_samples_per_ray_fine: int | None = _knob(
        None, "vanilla NeRF: further samples of the fine pass, 0 for none; default: as trained", low=0, high=1024, step=4
    )
    size: int | None = _knob(None, "width and height of the video in pixels, even; default: as trained", low=64, high=2048, step=2)

    def validate(self) -> Controls:
        """Returns itself when every value is in range.

        Raises:
          InputError: a value is out of range; the sentence names the flag, the value and the range.
        """
        check_ranges(self)
        if self.size is not None and self.size % 2:
            raise InputError(f"--size is {self.size}; give an even number from 64 to 2048 (H.264 stores colour at half the size)")
        if self.pose not in ("video", "still"):
            frame_range(self.pose)
        if not self.bg:
            raise InputError("--bg is empty; give 'original', 'transparent', a colour (name or #rrggbb) or an image file")
        super().validate()
        if (self.pix_fmt == "rgba") > (self.bg == TRANSPARENT):
            raise InputError("--pix-fmt rgba needs an alpha channel; use --bg transparent with it, or --pix-fmt rgb24")
        return self


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
    add_options(parser.add_argument_group("controls"), _OWN_FIELDS)
    add_encoder_arguments(parser)


def from_args(args: argparse.Namespace) -> Controls:
    """Collects the fields from parsed arguments and validates them. Raises as `Controls.validate`."""
    return Controls(**given(args, _OWN_FIELDS), **encoder_values(args)).validate()


_OWN_FIELDS = dataclasses.fields(Controls)[len(ENCODER_FIELDS) :]

# ----------------------------------------------------------------------------------------------------
# The controls that only one kind of renderer has, and the sentences for those who use them on the other.

VANILLA = {"n_samples_per_ray": "samples", "n_samples_per_ray_fine": "fine_samples"}
"""Control of the vanilla NeRF -> its option of `NerfRenderer.render`."""

GRID = ("end_threshold",)
"""Controls of renderers whose rays march through a grid."""


def sampling_options(parts: SubjectParts, controls: Controls) -> dict[str, Any]:
    """Options of `render` that the person's renderer takes from the controls.

    Raises:
      InputError: a control was changed that this person's renderer does not have.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Controls)}
    vanilla = parts.head == "nerf_head"
    foreign = GRID if vanilla else tuple(VANILLA)
    for name in foreign:
        if getattr(controls, name) != defaults[name]:
            kind, other = (
                ("a vanilla NeRF", "the grid renderers'") if vanilla else (f"no vanilla NeRF (it has {parts.head}/)", "the vanilla NeRF's")
            )
            raise InputError(
                f"{flag(name)} is {getattr(controls, name)}, a control of {other} rays, but {parts.folder} is {kind}; leave it out"
            )
    if vanilla:
        return {option: getattr(controls, name) for name, option in VANILLA.items()}
    return {"end_threshold": controls.end_threshold}
