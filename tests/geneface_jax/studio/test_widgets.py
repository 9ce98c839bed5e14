"""The components of the controls, and the controls made of their values."""

import dataclasses

import pytest

from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls

gr = pytest.importorskip("gradio")

from geneface_jax.studio.widgets import controls_from  # noqa: E402


def test_every_control_is_on_the_page_with_its_default_range_and_help(widgets):
    fields = {field.name: field for field in dataclasses.fields(Controls)}
    assert set(fields) - {"bg", "pose"} <= set(widgets.widgets)
    for name, widget in widgets.widgets.items():
        if name not in fields:
            continue
        meta = fields[name].metadata
        assert widget.value == fields[name].default and meta["help"] in widget.info
        if meta["choices"]:
            assert [value for _, value in widget.choices] == list(meta["choices"])
        if isinstance(widget, gr.Slider):
            assert (widget.minimum, widget.maximum, widget.step) == (meta["low"], meta["high"], meta["step"])
    values = {name: widget.value for name, widget in widgets.widgets.items()}
    assert controls_from(values, None) == Controls()


def test_the_pages_values_become_validated_controls(widgets):
    values = {name: widget.value for name, widget in widgets.widgets.items()}
    changed = values | {"mouth_amp": 1, "size": 128.0, "bg_kind": "color", "bg_color": "rgb(0, 177.4, 64)", "pose_kind": "range"}
    assert controls_from(changed, None) == Controls(mouth_amp=1.0, size=128, bg="#00b140", pose="0-250")
    assert controls_from(values | {"bg_kind": "picture"}, "/private/x.png").bg == "/private/x.png"
    for wrong, words in (
        ({"mouth_amp": 2}, "mouth-amp"),
        ({"mouth_amp": None}, "empty"),
        ({"bg_kind": "/etc/passwd"}, "no such background"),
        ({"bg_kind": "picture"}, "background picture is missing"),
        ({"bg_kind": "color", "bg_color": "/etc/passwd"}, "not a color"),
        ({"pose_kind": "../x"}, "no such head pose"),
        ({"pose_kind": "range", "pose_first": 9, "pose_last": 3}, "pose"),
        ({"bitrate": "1M; rm"}, "bitrate"),
        ({"preset": ["x"]}, "preset|text"),
    ):
        with pytest.raises(InputError, match=words):
            controls_from(values | wrong, None)
