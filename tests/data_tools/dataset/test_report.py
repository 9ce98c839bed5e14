import re

import pytest

from data_tools.dataset.report import _LIMITS, light, page


def facts(value=1.0):
    values = dict.fromkeys(_LIMITS, value) | {"pose_jitter_before_px": 1.0}
    return {"values": values, "lights": {name: light(name, value) for name in _LIMITS}, "changes": ["<b>changed</b>"]}


def test_names_and_sentences_are_escaped():
    text = page("<script>alert(1)</script>", facts(), {"<i>": 1.0}, b"jpeg")
    assert "<script>" not in text and "<b>changed" not in text and "<i>" not in text
    assert "&lt;script&gt;" in text


def test_every_figure_has_a_row_and_poor_ones_advice():
    text = page("x", facts(-1.0), {}, b"")
    assert len(re.findall("<tr>", text)) == len(_LIMITS)
    assert "record quieter" in text


@pytest.mark.parametrize(("name", "value", "expected"), [("seconds", 90.0, "good"), ("seconds", 20.0, "usable"), ("seconds", 5.0, "poor"),
                                                         ("pose_jitter_px", 0.2, "good"), ("pose_jitter_px", 9.0, "poor")])  # fmt: skip
def test_lights(name, value, expected):
    assert light(name, value) == expected
