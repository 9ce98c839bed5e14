"""Inference controls: one dataclass behind the command line and the web page, numeric precision, sampling options."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import TYPE_CHECKING, Any

from data_tools.command_line import add_options, check_ranges, flag, given, option
from data_tools.encoder import FIELDS as ENCODER_FIELDS
from data_tools.encoder import EncoderOptions, add_encoder_arguments, encoder_values
from data_tools.errors import InputError

if TYPE_CHECKING:
    from geneface_jax.io.person_folder import SubjectParts

# -------- Numeric precision of a renderer's weights (`--precision`)

PRECISIONS = ("fp32", "bf16")
"""Choices of `--precision`. Networks are trained in fp32."""


def in_precision(parameters: Any, precision: str) -> Any:
    """A tree of parameters as JAX arrays, floating-point ones in the given precision (one of `PRECISIONS`).

    bf16 rounds the stored weights to 8 significant bits. Positions, encodings and sums stay float32: networks multiply float32 activations
    by rounded weights.
    """
    import jax  # here, so that --help, which needs the controls, does not wait for it
    import jax.numpy as jnp

    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    return jax.tree.map(lambda x: jnp.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None), parameters)


# -------- Which rays of a picture are rendered (`--rays`)

RAYS = ("trained", "full", "adaptive")
"""Through every pixel of a frame up to the trained size or of any size, or fewer where the picture is smooth (`rendering.adaptive`)."""

# -------- The controls: the command line and the web page are both generated from this dataclass

BLINK_MODES = ("none", "period", "video")
BADGES = ("none", "corner")
TRANSPARENT = "transparent"
"""The value of --bg for output with an alpha channel."""

MOUTH, EYES, MOTION, CAMERA = "mouth", "eyes", "motion of the whole face", "head pose and camera"
PICTURE, RENDERING = "picture", "speed and memory"
GROUPS = (MOUTH, EYES, MOTION, CAMERA, PICTURE, RENDERING)
"""Titles of the controls' groups in --help, in this order."""

_FRAME_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


@dataclasses.dataclass(frozen=True)
class Controls(EncoderOptions):
    """Inference controls of motion and picture, and the encoder's options; `validate` enforces the ranges in the fields' metadata."""

    blink_mode: str = option(
        "video", "eyes: open, a blink every --blink-period frames, or blinks of the training video", choices=BLINK_MODES, group=EYES
    )
    blink_period: int = option(
        100, "frames (25 per second) from one blink to the next with --blink-mode period", low=8, high=1000, step=1, group=EYES
    )
    lle: float = option(
        0.0, "pull of the landmarks towards the training video's (1 = full projection)", low=0.0, high=1.0, step=0.025, group=MOTION
    )
    lle_mouth: float = option(
        0.0, "pull towards the training video's landmarks, for the mouth only, after --lle", low=0.0, high=1.0, step=0.025, group=MOUTH
    )
    lle_eyes: float = option(
        0.0, "pull towards the training video's landmarks, for brows and eyes only, after --lle", low=0.0, high=1.0, step=0.025, group=EYES
    )
    lle_k: int = option(
        10, "nearest frames of the training video that --lle, --lle-mouth and --lle-eyes combine", low=1, high=100, step=1, group=MOTION
    )
    mouth_amp: float = option(0.4, "amplitude of the mouth motion; 0.4 leaves it as predicted", low=0.0, high=1.0, step=0.025, group=MOUTH)
    temperature: float = option(
        0.2, "variety of the motion: 0 = the most likely, 1 = a random sample", low=0.0, high=1.0, step=0.025, group=MOTION
    )
    clamp: float = option(
        2.5, "limit of the landmarks, in standard deviations of the training video", low=0.5, high=10.0, step=0.1, group=MOTION
    )
    smooth: float = option(
        0.2, "share of the previous frame's landmarks in the next (0 = no smoothing)", low=0.0, high=0.95, step=0.05, group=MOTION
    )
    close_mouth: float = option(1.0, "how far the mouth closes in silence (0 = as predicted)", low=0.0, high=1.0, step=0.05, group=MOUTH)
    silence_db: float = option(
        40.0, "dB below the recording's loud speech that count as silence", low=10.0, high=80.0, step=1.0, group=MOUTH
    )
    seed: int = option(0, "random seed of the motion", low=0, high=2**31 - 1, step=1, group=MOTION)
    pose: str = option(
        "video", "head pose: 'video' (the training video's, back and forth), 'still', or its frames A-B, back and forth", group=CAMERA
    )
    orbit: float = option(
        0.0, "free viewpoint: degrees by which the camera orbits the head, to each side", low=0.0, high=45.0, step=1.0, group=CAMERA
    )
    bg: str = option(
        "original",
        "background: 'original', a color (name or #rrggbb), an image file, or 'transparent' for an --out that ends in .webm or is a "
        "folder (of PNGs)",
        group=PICTURE,
    )
    badge: str = option("none", "a visible 'AI-generated' label in the lower left corner of every frame", choices=BADGES, group=PICTURE)
    end_threshold: float = option(
        0.01, "transmittance that ends a ray; larger is faster and coarser", low=0.0, high=0.1, step=0.0025, group=RENDERING
    )
    rays: str = option(
        "trained",
        "'trained': a ray through every pixel, of a larger --size as many as trained; 'full': a ray through every pixel of any size; "
        "'adaptive': half as many per side where the picture is smooth",
        choices=RAYS,
        group=RENDERING,
    )
    precision: str = option(
        "fp32",
        "'bf16' keeps the renderer's networks in bfloat16: half the memory, colors change by a level or two",
        choices=PRECISIONS,
        group=RENDERING,
    )
    n_samples_per_ray: int | None = option(
        None, "vanilla NeRF: samples of the coarse pass; default: as trained", low=4, high=1024, step=4, group=RENDERING
    )
    n_samples_per_ray_fine: int | None = option(
        None,
        "vanilla NeRF: additional samples per ray of the fine pass, 0 for none; default: as trained",
        low=0,
        high=1024,
        step=4,
        group=RENDERING,
    )
    size: int | None = option(
        None,
        "width and height of the video in pixels, even; default: as trained; less is faster, more is enlarged (but see --rays)",
        low=64,
        high=2048,
        step=2,
        group=PICTURE,
    )

    def validate(self) -> Controls:
        """Returns itself if every value is in range.

        Raises:
          InputError: a value is out of range; the sentence names the flag, the value and the range.
        """
        check_ranges(self)
        if self.size is not None and self.size % 2:
            raise InputError(f"--size is {self.size}: give an even number from 64 to 2048 (H.264 stores color at half the size).")
        if self.pose not in ("video", "still"):
            frame_range(self.pose)
        if not self.bg:
            raise InputError("--bg is empty: give 'original', 'transparent', a color (name or #rrggbb) or an image file.")
        super().validate()
        if (self.pix_fmt == "rgba") > (self.bg == TRANSPARENT):
            raise InputError("--pix-fmt rgba needs an alpha channel: use --bg transparent with it, or --pix-fmt rgb24.")
        return self


def frame_range(pose: str) -> tuple[int, int]:
    """Parses "A-B": the frames A up to but not including B.

    Raises:
      InputError: another format, or B is not larger than A.
    """
    match = _FRAME_RANGE.fullmatch(pose)
    if not match or int(match[1]) >= int(match[2]):
        raise InputError(f"--pose is {pose!r}: give video, still or two frame numbers A-B with A smaller than B, such as 0-250.")
    return int(match[1]), int(match[2])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one option per field, with its default and range in the help, in groups."""
    for title in GROUPS:
        add_options(parser.add_argument_group(title), [field for field in _OWN_FIELDS if field.metadata["group"] == title])
    add_encoder_arguments(parser)


def from_args(args: argparse.Namespace) -> Controls:
    """Collects the fields from parsed arguments and validates them. Raises as `Controls.validate`."""
    return Controls(**given(args, _OWN_FIELDS), **encoder_values(args)).validate()


_OWN_FIELDS = dataclasses.fields(Controls)[len(ENCODER_FIELDS) :]

# -------- Sampling controls, which depend on the kind of renderer

VANILLA = {"n_samples_per_ray": "samples", "n_samples_per_ray_fine": "fine_samples"}
"""Control of the vanilla NeRF -> its option of `NerfRenderer.render`."""

GRID = ("end_threshold", "rays")
"""Controls of renderers that march rays through an occupancy grid, with the names that `SubjectRenderer.render` has for them."""


def sampling_options(parts: SubjectParts, controls: Controls) -> dict[str, Any]:
    """Sampling options of `render` for the person's renderer.

    Raises:
      InputError: a control was changed that this person's renderer does not have.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(Controls)}
    vanilla = parts.head == "nerf_head"
    other = "grid renderers" if vanilla else "the vanilla NeRF"
    kind = "a vanilla NeRF" if vanilla else f"no vanilla NeRF (it has {parts.head}/)"
    foreign = GRID if vanilla else tuple(VANILLA)
    for name in foreign:
        if getattr(controls, name) != defaults[name]:
            value = getattr(controls, name)
            raise InputError(f"{flag(name)} is {value}, a control of {other}, but {parts.folder} is {kind}: leave it out.")
    if vanilla:
        return {option: getattr(controls, name) for name, option in VANILLA.items()}
    return {name: getattr(controls, name) for name in GRID}
