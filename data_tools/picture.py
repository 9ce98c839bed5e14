"""What a file's picture needs before it is 8-bit RGB in BT.709 with whole frames: tone mapping of HDR, narrower colors, deinterlacing.

Tone mapping is a table (3D LUT) computed here and applied by ffmpeg's `lut3d`: the filters that compute it themselves (`zscale`, `tonemap`)
are missing in many builds.
"""

import contextlib
import dataclasses
import functools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.errors import InputError
from data_tools.ffmpeg import Process, VideoInfo, input_arguments, patience_for, probe

# -------- Colors: from HDR (HLG, PQ) and wide gamuts (BT.2020, P3) to BT.709

HDR = {"arib-std-b67": "HLG", "smpte2084": "PQ"}
"""ffmpeg's names of the HDR transfer functions (BT.2100) -> their short names."""

GAMUTS = {
    "bt709": ("BT.709", ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))),
    "bt2020": ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))),
    "smpte432": ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
    "smpte431": ("DCI-P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))),
}
"""ffmpeg's names of primaries -> name, chromaticities x, y of red, green and blue. Others differ too little from BT.709 to be converted."""

D65 = (0.3127, 0.3290)
"""Chromaticity x, y of white."""

LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
"""Shares of red, green and blue in the luminance of BT.2020."""

WHITE_NITS = 203.0
"""Luminance of a white sheet of paper in HDR, which becomes white in BT.709 (ITU-R BT.2408)."""

PEAK_NITS = 1000.0
"""Luminance that becomes the brightest value: the peak of an HLG display. What is brighter (PQ allows 10,000) is clipped."""

KNEE = 0.8
"""Share of white above which brightness is compressed to make room for highlights; a face is below."""

GAMMA = 2.4
"""Exponent of an SDR display (ITU-R BT.1886)."""

TABLE_SIZE = 33
"""Entries per side of the table; with 65 the mean error changes by less than 0.3 levels."""


def color_tags(description: str) -> tuple[str, str, str]:
    """Matrix, primaries and transfer function in ffmpeg's description of a picture (`VideoInfo.picture`); "unknown" where it names none."""
    details = re.search(r", \w+\(([^()]*)\)", description)
    for part in details[1].split(", ") if details else ():
        names = part.split("/")
        if len(names) == 3:
            return names[0], names[1], names[2]
        if part in GAMUTS:
            return part, part, part
    return "unknown", "unknown", "unknown"


def to_bt709(values: np.ndarray, transfer: str, primaries: str) -> np.ndarray:
    """Converts colors to BT.709.

    Args:
      values: [..., 3] R'G'B' in 0 .. 1.
      transfer: ffmpeg's name of their transfer function; all that are not in `HDR` are taken for that of an SDR display.
      primaries: key of `GAMUTS`.

    Returns:
      [..., 3] in 0 .. 1.
    """
    if transfer in HDR:
        nits = _hlg_nits(values) if HDR[transfer] == "HLG" else _pq_nits(values)
        light = _compress(nits / WHITE_NITS)
    else:
        light = values**GAMMA
    light = light @ (np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries)).T
    return np.clip(light, 0.0, 1.0) ** (1.0 / GAMMA)


def _hlg_nits(values: np.ndarray) -> np.ndarray:
    """Luminance of each color on a display of `PEAK_NITS` (ITU-R BT.2100: inverse OETF, then the OOTF on the luminance)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3.0, (np.exp((values - c) / a) + b) / 12.0)
    return PEAK_NITS * scene * np.maximum(scene @ LUMA_2020, 1e-9)[..., None] ** 0.2


def _pq_nits(values: np.ndarray) -> np.ndarray:
    """Luminance of each color (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1.0 / m2)
    return 10000.0 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1.0 / m1)


def _compress(light: np.ndarray) -> np.ndarray:
    """Light relative to white -> 0 .. 1: unchanged up to `KNEE`, then an extended Reinhard curve; the hue is kept."""
    peak = PEAK_NITS / WHITE_NITS
    brightest = light.max(-1, keepdims=True)
    above, most = (np.clip(brightest, KNEE, peak) - KNEE) / (1.0 - KNEE), (peak - KNEE) / (1.0 - KNEE)
    wanted = np.where(brightest > KNEE, KNEE + (1.0 - KNEE) * above * (1.0 + above / most**2) / (1.0 + above), brightest)
    return light * wanted / np.maximum(brightest, 1e-9)


def _to_xyz(primaries: str) -> np.ndarray:
    """[3, 3] from linear RGB to CIE XYZ."""

    def column(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1.0, (1.0 - x - y) / y])

    columns = np.stack([column(*point) for point in GAMUTS[primaries][1]], 1)
    return columns * np.linalg.solve(columns, column(*D65))


@functools.lru_cache(maxsize=4)
def color_table(transfer: str, primaries: str) -> str:
    """`to_bt709` as a table in the .cube format; red varies fastest."""
    steps = np.linspace(0.0, 1.0, TABLE_SIZE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colors = to_bt709(np.stack([red, green, blue], -1), transfer, primaries).reshape(-1, 3)
    return f"LUT_3D_SIZE {TABLE_SIZE}\n" + "".join(f"{r:.5f} {g:.5f} {b:.5f}\n" for r, g, b in colors.tolist())


# -------- Interlacing

WINDOWS = (0.0, 0.4, 0.8)
"""Where in the clip frames are looked at, as shares of its length: an opening title may be progressive or still."""

WINDOW_FRAMES = 24
"""Frames looked at in each."""

COMBED_SHARE = 0.3
"""Interlaced if ffmpeg's `idet` finds this share of the frames it can judge combed ..."""

ONE_ORDER = 5
"""... and one order of the fields so many times more often than the other: noise and fine patterns look like both."""

LEAST_JUDGED = 0.1
"""Where fewer of the frames can be judged, because little moves, the header decides."""

_IDET = re.compile(
    r"^\[Parsed_idet_\d+ @ [^\]]*\] Single frame detection: TFF:\s*(\d+) BFF:\s*(\d+) Progressive:\s*(\d+) Undetermined:\s*(\d+)",
    re.MULTILINE,
)


def field_order(path: str | os.PathLike, info: VideoInfo) -> str:
    """ "tff" or "bff" for an interlaced picture (top or bottom field first), "" for a progressive one.

    Judged by the picture: cameras and editors leave combed frames in files whose headers say progressive, and the other way round.
    """
    command: list[str] = []
    for share in WINDOWS:
        # From the key frame before that time: nothing is decoded for the sake of exactness.
        seek = ["-noaccurate_seek", "-ss", f"{share * info.seconds:.3f}"] if share else []
        command += [*seek, *input_arguments(path)]
    for number in range(len(WINDOWS)):
        command += ["-map", f"{number}:V:0", "-frames:v", f"{WINDOW_FRAMES}", "-vf", "idet", "-f", "null", "-"]
    with Process(command, patience=patience_for(path), level="info") as process:
        process.finish()
        counts = [[int(count) for count in found] for found in _IDET.findall(process.messages)]
    header = re.search(r"\b(top|bottom) (coded )?first\b", info.picture.partition("\n")[0])
    # "top coded first (swapped)": the bottom field is displayed first.
    declared = "" if header is None else "tff" if (header[1] == "top") != bool(header[2]) else "bff"
    if not counts:
        return declared
    top, bottom, progressive, undetermined = (sum(column) for column in zip(*counts, strict=True))
    return judge_fields(top, bottom, progressive, undetermined, declared)


def judge_fields(top: int, bottom: int, progressive: int, undetermined: int, declared: str) -> str:
    """`field_order` from the numbers of frames that `idet` found top field first, bottom field first, progressive and neither, and from
    what the header declares."""
    judged = top + bottom + progressive
    if judged <= LEAST_JUDGED * (judged + undetermined):
        return declared
    combed = max(top, bottom)
    if combed < COMBED_SHARE * judged or combed < ONE_ORDER * min(top, bottom):
        return ""
    return "tff" if top > bottom else "bff"


# -------- Both for a file


@dataclasses.dataclass(frozen=True)
class Corrections:
    """What is done to a file's picture.

    Attributes:
      transfer, primaries: of the picture, if its colors are converted; else "".
      fields: "tff" or "bff" if it is deinterlaced; else "".
    """

    transfer: str = ""
    primaries: str = ""
    fields: str = ""

    @property
    def notes(self) -> list[str]:
        """Notes for the user."""
        notes = []
        if self.transfer in HDR:
            notes.append(f"HDR ({HDR[self.transfer]}, {GAMUTS[self.primaries][0]}) was tone-mapped to BT.709")
        elif self.primaries:
            notes.append(f"the colors were converted from {GAMUTS[self.primaries][0]} to BT.709")
        if self.fields:
            notes.append(f"the interlaced picture ({'top' if self.fields == 'tff' else 'bottom'} field first) was deinterlaced")
        return notes


def corrections(path: str | os.PathLike) -> Corrections:
    """What a file's picture needs; nothing if it can't be read as a video, which decoding it will say.

    Raises:
      InputError: its colors can't be converted (Dolby Vision profile 5).
    """
    try:
        status = os.stat(path)
    except OSError:
        return Corrections()
    return _corrections(os.path.abspath(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _corrections(path: str, changed: int, size: int) -> Corrections:
    """`corrections`, once for every state of a file."""
    try:
        info = probe(path)
    except InputError:
        return Corrections()
    if re.search(r"^DOVI configuration record: .*\bprofile: 5\b", info.picture, re.MULTILINE):
        raise InputError(
            f"The colors of {path} are those of Dolby Vision profile 5, which can't be converted: export the video in SDR, HDR10 or HLG."
        )
    return dataclasses.replace(color_correction(info.picture), fields=field_order(path, info))


def color_correction(description: str) -> Corrections:
    """The conversion of colors that a picture with this description (`VideoInfo.picture`) needs."""
    matrix, primaries, transfer = color_tags(description)
    if primaries not in GAMUTS and (transfer in HDR or matrix.startswith("bt2020")):
        primaries = "bt2020"
    if transfer in HDR:
        return Corrections(transfer, primaries)
    return Corrections(transfer, primaries) if primaries in GAMUTS and primaries != "bt709" else Corrections()


@contextlib.contextmanager
def correcting_filters(path: str | os.PathLike) -> Iterator[tuple[list[str], list[str], str | None]]:
    """The corrections of a file as ffmpeg's filters.

    Yields:
      Filters for the start and for the end of the chain, and the folder in which ffmpeg must run (None: any), valid inside the block. The
      end of the chain makes RGB.

    Raises:
      InputError: as `corrections`.
    """
    needed = corrections(path)
    first = [f"bwdif=mode=send_frame:parity={needed.fields}:deint=all"] if needed.fields else []
    if not needed.primaries:
        yield first, [], None
        return
    # ffmpeg runs in the table's folder: a path with its own special characters would have to be quoted for the filter graph.
    with tempfile.TemporaryDirectory(prefix="geneface-colors-") as folder:
        Path(folder, "colors.cube").write_text(color_table(needed.transfer, needed.primaries), encoding="ascii")
        yield first, ["format=gbrp16le", "lut3d=file=colors.cube:interp=tetrahedral"], folder
