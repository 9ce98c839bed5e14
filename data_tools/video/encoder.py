"""How a video is encoded: one set of options for every command that writes one, and the ffmpeg arguments they become.

Three outputs, chosen by the name: `x.mp4` is H.264 (what every player plays), `x.webm` is VP9 with alpha, and a folder takes PNG pictures
with alpha. H.264 has no alpha channel.
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

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
PIX_FMTS = ("yuv420p", "yuv422p", "yuv444p", "rgb24", "rgba")

DEFAULT_CRF = 18
"""Quality where neither --crf nor --bitrate is given: with H.264 hardly to be told from the frames that went in."""

RECIPES: dict[str, dict[str, Any]] = {
    "draft": {"crf": 28, "preset": "veryfast", "pix_fmt": "yuv420p"},
    "web": {"crf": 18, "preset": "medium", "pix_fmt": "yuv420p"},
    "small": {"crf": 23, "preset": "veryslow", "pix_fmt": "yuv420p"},
    "full-colour": {"crf": 23, "preset": "veryslow", "pix_fmt": "yuv444p"},
    "lossless": {"crf": 0, "preset": "medium", "pix_fmt": "rgb24"},
}
"""Named settings of --recipe; a flag that is given beside one wins."""

_RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?[kKM]?")
_H264_PROFILES = {"yuv420p": "high", "yuv422p": "high422", "yuv444p": "high444"}
_BT709 = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """What a user can ask of the encoder. Every field has a range or a list of choices in its metadata, which `validate` enforces."""

    crf: int | None = option(
        None,
        "quality, constant over the clip: smaller is better and larger in bytes (6 more halve them); "
        f"{DEFAULT_CRF} without --bitrate, 0 loses nothing",
        low=0,
        high=51,
        step=1,
    )
    preset: str = option("medium", "time spent to save bytes at the same quality: veryslow is about a tenth smaller", choices=PRESETS)
    pix_fmt: str = option(
        "yuv420p",
        "colour: yuv420p plays everywhere but halves its resolution twice, yuv422p once; yuv444p keeps it and rgb24 is exact, in "
        "few players; rgba is for outputs with alpha",
        choices=PIX_FMTS,
    )
    bitrate: str | None = option(None, "bits a second on average, such as 2000k, instead of --crf: a known size, quality as it comes")
    maxrate: str | None = option(None, "upper limit of the bits a second, such as 4M, for streaming; needs --bufsize")
    bufsize: str | None = option(None, "bits over which a rate is held, such as 8M: smaller is steadier and worse; needs a rate")

    def validate(self) -> EncoderOptions:
        """Returns itself when every value is in range and none contradicts another.

        Raises:
          InputError: a value is out of range, or two exclude each other; the sentence names the flags.
        """
        check_ranges(self)
        for name in ("bitrate", "maxrate", "bufsize"):
            value = getattr(self, name)
            if value is not None and not _RATE.fullmatch(value):
                raise InputError(f"{flag(name)} is {value!r}; give bits per second such as 2000k or 4M")
        if self.crf is not None and self.bitrate is not None:
            raise InputError(f"--crf {self.crf} asks for a quality and --bitrate {self.bitrate} for a size; give one of them")
        if self.maxrate is not None and self.bufsize is None:
            raise InputError(f"--maxrate is {self.maxrate} without --bufsize; give both (a buffer of twice the rate is usual)")
        if self.bufsize is not None and self.maxrate is None and self.bitrate is None:
            raise InputError(f"--bufsize is {self.bufsize} without a rate; give --maxrate or --bitrate too")
        return self


FIELDS = dataclasses.fields(EncoderOptions)


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the encoder's flags and --recipe."""
    group = parser.add_argument_group("encoder", "How the video is written.")
    recipes = "; ".join(f"{name} = crf {r['crf']}, {r['preset']}, {r['pix_fmt']}" for name, r in RECIPES.items())
    group.add_argument("--recipe", choices=RECIPES, help=f"several settings at once; flags beside it win: {recipes}")
    add_options(group, FIELDS)


def encoder_values(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `EncoderOptions` from parsed arguments: the recipe's, overruled by the flags that were given."""
    values, explicit = dict(RECIPES[args.recipe]) if args.recipe else {}, given(args, FIELDS)
    if "bitrate" in explicit:
        values.pop("crf", None)
    return {**values, **explicit}


def check_output(path: str | os.PathLike, options: EncoderOptions, alpha: bool, ask_alpha: str = "") -> None:
    """Says before any work whether a video of this kind can go to this name.

    Args:
      path: where it shall go.
      options: validated.
      alpha: whether its frames have an alpha channel.
      ask_alpha: the flag that gives them one, for the sentences; "" where there is none.

    Raises:
      InputError: the name's ending, the pixel format and the alpha channel do not go together, or a folder there would lose other files.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if not alpha:
        _check_opaque(path, suffix, options, ask_alpha)
    else:
        _check_alpha(path, suffix, options, ask_alpha or "a video with alpha")


def _check_opaque(path: Path, suffix: str, options: EncoderOptions, ask_alpha: str) -> None:
    if suffix != ".mp4":
        offer = f", or {ask_alpha} for a .webm or a folder of PNGs" if ask_alpha and suffix in (".webm", "") else ""
        raise InputError(f"the output {path} is not named .mp4; give a name that ends in .mp4{offer}")
    if options.pix_fmt == "rgba":
        offer = f"use {ask_alpha} with an output that ends in .webm (VP9 yuva420p) or a folder (PNGs), or " if ask_alpha else "use "
        raise InputError(f"--pix-fmt rgba needs an alpha channel, which the H.264 in {path} can't hold; {offer}--pix-fmt rgb24")


def _check_alpha(path: Path, suffix: str, options: EncoderOptions, ask_alpha: str) -> None:
    if suffix not in (".webm", ""):
        raise InputError(
            f"the output {path} can't hold the alpha channel of {ask_alpha}; give a name that ends in .webm (VP9 yuva420p), or a folder "
            "(no ending) for PNGs"
        )
    if options.pix_fmt not in ("yuv420p", "rgba"):
        raise InputError(f"--pix-fmt {options.pix_fmt} has no alpha channel; with {ask_alpha} leave it out or give rgba")
    if options.maxrate is not None:
        raise InputError(f"--maxrate {options.maxrate} is for H.264; with {ask_alpha} give --bitrate alone")
    if suffix == ".webm":
        return
    if options.bitrate is not None:
        raise InputError(f"--bitrate {options.bitrate} does nothing to PNGs; leave it out, or give an output that ends in .webm")
    if path.is_file():
        raise InputError(
            f"{path} is a file, and {ask_alpha} would make a folder of PNGs there; give another name, or one that ends in .webm"
        )
    if path.is_dir() and any(not _is_frame_or_sound(entry) for entry in path.iterdir()):
        raise InputError(f"the folder {path} holds other files than PNG frames and would be replaced; give another name")


def _is_frame_or_sound(entry: Path) -> bool:
    """Whether a folder of PNG frames that we wrote holds such a file."""
    return entry.name == "audio.wav" or (entry.suffix == ".png" and entry.stem.isdigit())


def codec_arguments(options: EncoderOptions, alpha: bool) -> list[str]:
    """ffmpeg's filter and codec options for raw RGB (with alpha: RGBA) frames."""
    crf = DEFAULT_CRF if options.crf is None else options.crf
    color = ["-vf", f"scale=out_color_matrix=bt709:out_range=tv,format={'yuva420p' if alpha else options.pix_fmt},{_BT709}"]
    if alpha:
        # VP9 counts quality to 63; its slowest sensible speed is 0, its fastest 8.
        quality = ["-crf", f"{round(crf * 63 / 51)}", "-b:v", "0"] if options.bitrate is None else ["-b:v", options.bitrate]
        speed = f"{8 - PRESETS.index(options.preset)}"
        return [*color, "-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-deadline", "good", "-cpu-used", speed, "-row-mt", "1", *quality]
    if options.pix_fmt == "rgb24":
        codec = ["-vf", "format=rgb24", "-c:v", "libx264rgb"]
    else:
        # "high" can't be lossless.
        profile = "high444" if crf == 0 and options.bitrate is None else _H264_PROFILES[options.pix_fmt]
        codec = [*color, "-c:v", "libx264", "-profile:v", profile]
    quality = ["-crf", f"{crf}"] if options.bitrate is None else ["-b:v", options.bitrate]
    for name, value in (("-maxrate", options.maxrate), ("-bufsize", options.bufsize)):
        quality += [] if value is None else [name, value]
    return [*codec, "-preset", options.preset, *quality]
