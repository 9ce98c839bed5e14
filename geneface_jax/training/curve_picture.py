"""Curves as a picture, drawn with Pillow alone: small charts on a grid, with one step marked in all of them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _GRID, _MARK = (250, 249, 246), (38, 50, 66), (216, 214, 208), (196, 92, 92)
_SERIES = ((38, 98, 152), (214, 130, 34), (92, 140, 74))
_SIZE = (560, 250)
_MARGIN = {"left": 64, "right": 16, "top": 52, "bottom": 30}
_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
      title: above it.
      series: name -> points (step, value), by step; at most three.
      guides: values with a dashed horizontal line: where the curves should be.
    """

    title: str
    series: Mapping[str, Sequence[tuple[int, float]]]
    guides: tuple[float, ...] = ()


def draw_curves(charts: Sequence[Chart], marked: int, heading: str) -> Image.Image:
    """Draws the charts that have points, two in a row, with a vertical line at the step `marked`."""
    charts = [chart for chart in charts if any(chart.series.values())]
    width, height = _SIZE
    top = 44
    canvas = Image.new("RGB", (_COLUMNS * width, top + math.ceil(len(charts) / _COLUMNS) * height), _PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN["left"], 14), heading, fill=_INK, font=_font(18))
    steps = [step for chart in charts for points in chart.series.values() for step, _ in points]
    span = (min(steps), max(max(steps), min(steps) + 1))
    for i, chart in enumerate(charts):
        _draw(pen, chart, (i % _COLUMNS * width, top + i // _COLUMNS * height), span, marked)
    return canvas


def save_png(image: Image.Image, path: str | os.PathLike) -> Path:
    """Writes a picture under a temporary name and renames it; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        image.save(temporary, "PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _draw(pen: ImageDraw.ImageDraw, chart: Chart, corner: tuple[int, int], span: tuple[int, int], marked: int) -> None:
    left, right = corner[0] + _MARGIN["left"], corner[0] + _SIZE[0] - _MARGIN["right"]
    top, bottom = corner[1] + _MARGIN["top"], corner[1] + _SIZE[1] - _MARGIN["bottom"]
    values = [value for points in chart.series.values() for _, value in points] + list(chart.guides)
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)

    def x(step: float) -> float:
        return left + (step - span[0]) / (span[1] - span[0]) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    pen.text((left, corner[1] + 6), chart.title, fill=_INK, font=_font(15))
    for tick in ticks:
        pen.line([(left, y(tick)), (right, y(tick))], fill=_GRID)
        pen.text((left - 8, y(tick)), f"{tick:g}", fill=_INK, font=_font(12), anchor="rm")
    for step, anchor in ((span[0], "la"), (span[1], "ra")):
        pen.text((x(step), bottom + 6), str(step), fill=_INK, font=_font(12), anchor=anchor)
    for guide in chart.guides:
        for start in range(left, right, 10):
            pen.line([(start, y(guide)), (start + 5, y(guide))], fill=_INK)
    if span[0] <= marked <= span[1]:
        pen.line([(x(marked), top), (x(marked), bottom)], fill=_MARK, width=2)
        pen.text((x(marked), bottom + 6), str(marked), fill=_MARK, font=_font(12), anchor="ma")
    label = left
    for (name, points), colour in zip(chart.series.items(), _SERIES, strict=False):
        if not points:
            continue
        pixels = [(x(step), y(value)) for step, value in points]
        pen.line(pixels, fill=colour, width=3, joint="curve")
        for px, py in pixels if len(pixels) <= 40 else ():
            pen.ellipse([px - 3, py - 3, px + 3, py + 3], fill=colour)
        pen.rectangle([label, corner[1] + 33, label + 12, corner[1] + 37], fill=colour)
        pen.text((label + 18, corner[1] + 28), name, fill=_INK, font=_font(12))
        label += 36 + int(pen.textlength(name, font=_font(12)))


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that span [low, high]."""
    spread = max(high - low, 1e-3 * max(abs(high), 1e-3))
    unit = 10.0 ** math.floor(math.log10(spread / 3.0))
    step = next(unit * factor for factor in (1, 2, 5, 10) if spread / (unit * factor) <= 4.0)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * n, 10) for n in range(first, max(last, first + 1) + 1)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
