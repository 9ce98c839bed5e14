"""Video encoder options, shared by every command that writes a video, and the ffmpeg arguments they map to.

The output name selects the format: `x.mp4` is H.264, which every player supports but which has no alpha channel; `x.webm` is VP9 with
alpha; a folder holds PNG images with alpha.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from data_tools.command_line import add_options, check_ranges, flag, given, option
from data_tools.errors import InputError
from data_tools.io import require_output

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
PIX_FMTS = ("yuv420p", "yuv422p", "yuv444p", "rgb24", "rgba")

DEFAULT_CRF = 18
"""CRF if neither --crf nor --bitrate is given; with H.264 nearly indistinguishable from the input frames."""

RECIPES: dict[str, dict[str, Any]] = {
    "draft": {"crf": 28, "preset": "veryfast", "pix_fmt": "yuv420p"},
    "web": {"crf": 18, "preset": "medium", "pix_fmt": "yuv420p"},
    "small": {"crf": 23, "preset": "veryslow", "pix_fmt": "yuv420p"},
    "full-colour": {"crf": 23, "preset": "veryslow", "pix_fmt": "yuv444p"},
    "lossless": {"crf": 0, "preset": "medium", "pix_fmt": "rgb24"},
}
"""Presets of --recipe; explicitly given options take precedence."""

_RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?[kKM]?")
_H264_PROFILES = {"yuv420p": "high", "yuv422p": "high422", "yuv444p": "high444"}
_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
# Old versions of ffmpeg write the tags of these options, new ones those of the frames.
_BT709_TAGS = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv")


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """User options of the encoder; `validate` enforces the range or the choices in each field's metadata."""

    crf: int | None = option(
        None,
        f"constant quality: lower is better and larger (+6 halves the file size); default {DEFAULT_CRF} without --bitrate, 0 is lossless",
        low=0,
        high=51,
        step=1,
    )
    preset: str = option("medium", "encoding time against file size at equal quality: veryslow is about 10 % smaller", choices=PRESETS)
    pix_fmt: str = option(
        "yuv420p",
        "pixel format: yuv420p plays everywhere but halves color resolution in both directions; yuv422p horizontally only; yuv444p keeps "
        "it and rgb24 is exact, but few players support them; rgba is for outputs with alpha",
        choices=PIX_FMTS,
    )
    bitrate: str | None = option(None, "average bits per second, such as 2000k, instead of --crf: predictable size, varying quality")
    maxrate: str | None = option(None, "maximum bits per second, such as 4M, for streaming; needs --bufsize")
    bufsize: str | None = option(
        None, "rate control buffer in bits, such as 8M: smaller is a steadier rate at lower quality; needs --maxrate or --bitrate"
    )

    def validate(self) -> EncoderOptions:
        """Returns itself if every value is in range and no options conflict.

        Raises:
          InputError: a value is out of range, or two options conflict; the sentence names the options.
        """
        check_ranges(self)
        for name in ("bitrate", "maxrate", "bufsize"):
            value = getattr(self, name)
            if value is not None and not _RATE.fullmatch(value):
                raise InputError(f"{flag(name)} is {value!r}: give bits per second such as 2000k or 4M.")
        if self.crf is not None and self.bitrate is not None:
            raise InputError(f"--crf {self.crf} sets the quality and --bitrate {self.bitrate} the size: give one of them.")
        if self.maxrate is not None and self.bufsize is None:
            raise InputError(f"--maxrate is {self.maxrate} without --bufsize: give both (usually a buffer of twice the rate).")
        if self.bufsize is not None and self.maxrate is None and self.bitrate is None:
            raise InputError(f"--bufsize is {self.bufsize} without a rate: give --maxrate or --bitrate too.")
        return self


FIELDS = dataclasses.fields(EncoderOptions)


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the encoder's options and --recipe."""
    group = parser.add_argument_group("video encoder")
    recipes = "; ".join(f"{name} = crf {r['crf']}, {r['preset']}, {r['pix_fmt']}" for name, r in RECIPES.items())
    group.add_argument("--recipe", choices=RECIPES, help=f"preset of several options; explicit options take precedence: {recipes}")
    add_options(group, FIELDS)


def encoder_values(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `EncoderOptions` from parsed arguments: the recipe's, overridden by the options that were given."""
    values, explicit = dict(RECIPES[args.recipe]) if args.recipe else {}, given(args, FIELDS)
    if "bitrate" in explicit:
        values.pop("crf", None)
    return {**values, **explicit}


def check_output(path: str | os.PathLike, options: EncoderOptions, alpha: bool, ask_alpha: str = "") -> None:
    """Checks before any work that the output name, the pixel format and the alpha channel fit together.

    Args:
      path: output file or folder.
      options: validated.
      alpha: whether the frames have an alpha channel.
      ask_alpha: the option that requests alpha, for error sentences; "" if there is none.

    Raises:
      InputError: they do not, nothing can be written at `path`, or a folder there holds other files, which would be lost.
    """
    require_output(path, folder=alpha and not Path(path).suffix, replaced=True, option="output")
    path, suffix = Path(path), Path(path).suffix.lower()
    if not alpha:
        _check_opaque(path, suffix, options, ask_alpha)
    else:
        _check_alpha(path, suffix, options, ask_alpha or "a video with alpha")


def _check_opaque(path: Path, suffix: str, options: EncoderOptions, ask_alpha: str) -> None:
    if suffix != ".mp4":
        alternative = f", or {ask_alpha} for a .webm or a folder of PNGs" if ask_alpha and suffix in (".webm", "") else ""
        raise InputError(f"The output {path} is not an .mp4 file: give a name that ends in .mp4{alternative}.")
    if options.pix_fmt == "rgba":
        alternative = f"use {ask_alpha} with an output that ends in .webm (VP9 yuva420p) or a folder (PNGs), or " if ask_alpha else "use "
        raise InputError(f"--pix-fmt rgba needs an alpha channel, which H.264 in {path} can't hold: {alternative}--pix-fmt rgb24.")


def _check_alpha(path: Path, suffix: str, options: EncoderOptions, ask_alpha: str) -> None:
    if suffix not in (".webm", ""):
        raise InputError(
            f"The output {path} can't hold the alpha channel of {ask_alpha}: give a name that ends in .webm (VP9 yuva420p), or a folder "
            "(no extension) for PNGs."
        )
    if options.pix_fmt not in ("yuv420p", "rgba"):
        raise InputError(f"--pix-fmt {options.pix_fmt} has no alpha channel: with {ask_alpha} remove it or give rgba.")
    if options.maxrate is not None:
        raise InputError(f"--maxrate {options.maxrate} is for H.264: with {ask_alpha} give --bitrate alone.")
    if suffix == ".webm":
        return
    if options.bitrate is not None:
        raise InputError(f"--bitrate {options.bitrate} does not apply to PNGs: remove it, or give an output that ends in .webm.")
    if path.is_file():
        raise InputError(f"{path} is a file where {ask_alpha} would create a folder of PNGs: give another name, or one that ends in .webm.")
    if path.is_dir() and any(not _is_frame_or_audio(entry) for entry in path.iterdir()):
        raise InputError(f"The folder {path} holds other files than PNG frames, which would be lost: give another name.")


def _is_frame_or_audio(entry: Path) -> bool:
    """Whether `write.ImageFolderWriter` writes files of this name."""
    return entry.name == "audio.wav" or (entry.suffix == ".png" and entry.stem.isdigit())


def codec_arguments(options: EncoderOptions, alpha: bool) -> list[str]:
    """ffmpeg's filter and codec options for raw RGB (with alpha: RGBA) frames."""
    crf = DEFAULT_CRF if options.crf is None else options.crf
    convert = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
    color = ["-vf", f"{convert},format={'yuva420p' if alpha else options.pix_fmt},{_BT709}", *_BT709_TAGS]
    if alpha:
        # VP9's CRF goes up to 63, its cpu-used from 0 (slowest) to 8.
        quality = ["-crf", f"{round(crf * 63 / 51)}", "-b:v", "0"] if options.bitrate is None else ["-b:v", options.bitrate]
        speed = f"{8 - PRESETS.index(options.preset)}"
        return [*color, "-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-deadline", "good", "-cpu-used", speed, "-row-mt", "1", *quality]
    if options.pix_fmt == "rgb24":
        codec = ["-vf", "format=rgb24", "-c:v", "libx264rgb"]
    else:
        # The profile "high" has no lossless mode.
        profile = "high444" if crf == 0 and options.bitrate is None else _H264_PROFILES[options.pix_fmt]
        codec = [*color, "-c:v", "libx264", "-profile:v", profile]
    quality = ["-crf", f"{crf}"] if options.bitrate is None else ["-b:v", options.bitrate]
    for name, value in (("-maxrate", options.maxrate), ("-bufsize", options.bufsize)):
        quality += [] if value is None else [name, value]
    return [*codec, "-preset", options.preset, *quality]
