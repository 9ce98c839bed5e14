"""Gradio widgets of the inference controls, and the progress line as HTML."""

import dataclasses
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from data_tools.command_line import base_type
from data_tools.errors import InputError
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.studio.i18n import Labels, text
from geneface_jax.studio.render_queue import RenderProgress

# -------- Status line, progress bar and error box as HTML


def idle_line(language: str) -> str:
    """Status: nothing is running."""
    return _line(text("status.idle", language))


def progress_line(progress: RenderProgress, language: str) -> str:
    """Status of a render that waits, loads networks or renders, with a progress bar."""
    if progress.ahead:
        return _line(text("status.waiting", language, ahead=progress.ahead))
    if not progress.total:
        return _line(text("status.opening", language))
    left = duration(progress.seconds_left or 0.0)
    words = text("status.drawing", language, done=progress.done, total=progress.total, left=left)
    share = 100.0 * progress.done / progress.total
    return _line(words) + f'<div class="studio-bar"><div style="width:{share:.1f}%"></div></div>'


def status_lines(*sentences: str) -> str:
    """Translated sentences, one per line."""
    return "".join(_line(words) for words in sentences)


def done_line(seconds: float, language: str) -> str:
    """Status: the render is finished."""
    return _line(text("status.done", language, seconds=seconds), "studio-done")


def plain_line(key: str, language: str) -> str:
    """Status: one of the texts of `i18n`."""
    return _line(text(key, language))


def failed_line(sentence: str, language: str) -> str:
    """The error box; the sentence is escaped because it may contain a visitor's input."""
    return f'<div class="studio-error" role="alert">{html.escape(text("error", language, sentence=sentence))}</div>'


def duration(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _line(words: str, kind: str = "") -> str:
    return f'<div class="studio-status {kind}" role="status">{html.escape(words)}</div>'


# -------- Components generated from the fields of the dataclass `Controls`, with its help, ranges, steps and choices

MAIN = ("mouth_amp", "temperature", "blink_mode", "lle", "close_mouth", "seed")
"""Always visible, in this order; the others are in accordions."""

ENCODER = ("crf", "preset", "pix_fmt", "bitrate", "maxrate", "bufsize")
COMPOSED = ("bg", "pose")
"""Free text on the command line; here several components each, so that a visitor can't enter a path."""

BACKGROUNDS = ("original", "color", "picture", TRANSPARENT)
POSES = ("video", "still", "range")
_COLOR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)
_RGB = re.compile(r"rgba?\(([\d.]+), *([\d.]+), *([\d.]+)(, *[\d.]+)?\)")


def picture_upload() -> gr.Image:
    """A component whose value is the uploaded file: `gr.Image` would decode it, whatever its size and format, before the studio sees it."""
    upload = gr.Image(type="filepath", sources=["upload"], visible=False, elem_id="control-bg-picture")
    # Gradio writes a file of types beside the module of any subclass, hence no subclass. A picture inside the message has no path.
    upload.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return upload


def field_widget(name: str, labels: Labels) -> gr.components.Component:
    """The component of one field: radio buttons or dropdown, slider, or a number or text box that may be empty."""
    field = _FIELDS[name]
    meta, key = field.metadata, f"control.{name}"
    if meta["choices"]:
        kind = gr.Radio if len(meta["choices"]) <= 4 else gr.Dropdown
        widget = kind(choices=list(meta["choices"]), value=field.default, elem_id=f"control-{name}")
    elif meta["low"] is None:
        widget = gr.Textbox(value=field.default, max_length=16, max_lines=1, elem_id=f"control-{name}")
    elif field.default is None or meta["high"] > 1e6:
        widget = gr.Number(
            value=field.default,
            minimum=None if field.default is None else meta["low"],
            precision=0 if base_type(field) is int else None,
            elem_id=f"control-{name}",
        )
    else:
        widget = gr.Slider(meta["low"], meta["high"], value=field.default, step=meta["step"], elem_id=f"control-{name}")
    return labels.add(widget, label=f"{key}.label", info=f"{key}.info")


@dataclasses.dataclass
class ControlWidgets:
    """The components of all controls, by name."""

    widgets: dict[str, Any]

    @classmethod
    def build(cls, labels: Labels) -> "ControlWidgets":
        """Builds the components inside the current `gr.Blocks`: the main ones, then accordions for picture, motion and encoder."""
        found: dict[str, Any] = {}
        for name in MAIN:
            found[name] = field_widget(name, labels)
        with labels.add(gr.Accordion(open=False, elem_id="fold-picture"), label="fold.picture"):
            found["bg_kind"] = labels.add(
                gr.Radio(list(BACKGROUNDS), value="original", elem_id="control-bg"), label="bg.label", info="bg.info"
            )
            found["bg_color"] = labels.add(gr.ColorPicker("#00b140", visible=False, elem_id="control-bg-color"), label="bg.colour")
            found["bg_picture"] = labels.add(picture_upload(), label="bg.picture")
            found["pose_kind"] = labels.add(
                gr.Radio(list(POSES), value="video", elem_id="control-pose"), label="pose.label", info="pose.info"
            )
            with gr.Row():
                found["pose_first"] = labels.add(gr.Number(0, precision=0, minimum=0, visible=False), label="pose.first")
                found["pose_last"] = labels.add(gr.Number(250, precision=0, minimum=1, visible=False), label="pose.last")
            for name in ("badge", "orbit", "size", "rays", "end_threshold", "precision", "n_samples_per_ray", "n_samples_per_ray_fine"):
                found[name] = field_widget(name, labels)
        with labels.add(gr.Accordion(open=False, elem_id="fold-motion"), label="fold.motion"):
            for name in _FIELDS:
                if name not in found and name not in ENCODER + COMPOSED:
                    found[name] = field_widget(name, labels)
        with labels.add(gr.Accordion(open=False, elem_id="fold-encoder"), label="fold.encoder"):
            for name in ENCODER:
                found[name] = field_widget(name, labels)
        private: dict[str, Any] = {"queue": False, "api_visibility": "private"}
        kind, outputs = found["bg_kind"], [found["bg_color"], found["bg_picture"]]
        kind.change(lambda kind: (gr.update(visible=kind == "color"), gr.update(visible=kind == "picture")), kind, outputs, **private)
        kind, outputs = found["pose_kind"], [found["pose_first"], found["pose_last"]]
        kind.change(lambda kind: (gr.update(visible=kind == "range"),) * 2, kind, outputs, **private)
        return cls(found)

    @property
    def components(self) -> list[gr.components.Component]:
        """Inputs of an event that reads the controls."""
        return list(self.widgets.values())

    def named(self, values: Sequence[Any]) -> dict[str, Any]:
        """Maps the values of `components` to their names."""
        return dict(zip(self.widgets, values, strict=True))


def controls_from(values: Mapping[str, Any], picture: str | None) -> Controls:
    """Validated controls from the components' values.

    Args:
      values: by the names of `ControlWidgets.build`.
      picture: path of a checked background picture; None if none was chosen.

    Raises:
      InputError: as `Controls.validate`, or an invalid color, background or pose.
    """
    chosen: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        if name in COMPOSED or name not in values:
            continue
        value = values[name]
        if value in (None, ""):
            if field.default is not None:
                raise InputError(f"The control {name.replace('_', ' ')} is empty: give a value.")
            continue
        chosen[name] = _cast(field, value)
    chosen["bg"] = _background(values, picture)
    chosen["pose"] = _pose(values)
    return Controls(**chosen).validate()


def _cast(field: dataclasses.Field, value: Any) -> Any:
    """Casts JSON numbers to the field's type: whole numbers to int, integers to float."""
    if base_type(field) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if base_type(field) is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base_type(field) is str and not isinstance(value, str):
        raise InputError(f"The control {field.name.replace('_', ' ')} is not a text: choose a value on the page.")
    return value


def _background(values: Mapping[str, Any], picture: str | None) -> str:
    kind = values.get("bg_kind", "original")
    if kind == "color":
        return color_code(values.get("bg_color"))
    if kind == "picture":
        if picture is None:
            raise InputError("The background picture is missing: upload one, or choose another background.")
        return picture
    if kind not in BACKGROUNDS:
        raise InputError("There is no such background: choose one from the list.")
    return kind


def color_code(color: Any) -> str:
    """`#rrggbb` from the value of a color picker (`#rrggbb` or `rgb(r, g, b)`).

    Raises:
      InputError: it is neither.
    """
    value = str(color).strip()
    if _COLOR.fullmatch(value):
        return value.lower()
    if match := _RGB.fullmatch(value):
        levels = [min(round(float(level)), 255) for level in match.groups()[:3]]
        return "#" + "".join(f"{level:02x}" for level in levels)
    raise InputError("The background is not a color: choose one, or give it as #rrggbb.")


def _pose(values: Mapping[str, Any]) -> str:
    kind = values.get("pose_kind", "video")
    if kind == "range":
        return f"{int(values.get('pose_first') or 0)}-{int(values.get('pose_last') or 0)}"
    if kind not in POSES:
        raise InputError("There is no such head pose: choose one from the list.")
    return kind


_FIELDS = {field.name: field for field in dataclasses.fields(Controls)}
