import re

import numpy as np
import pytest

from data_tools.audio.offset import Offset
from data_tools.dataset.report import CHECKS, light, light_change, page, suggested_correction


def facts(value=1.0, suggested=None):
    values = dict.fromkeys(CHECKS, value) | {"pose_jitter_before_px": 1.0}
    return {
        "values": values,
        "lights": {name: light(name, value) for name in CHECKS},
        "offset": {"suggested_audio_offset": suggested},
    }


def test_names_and_sentences_are_escaped():
    text = page("<script>alert(1)</script>", facts(), ["<b>changed</b>"], {"<i>": 1.0}, {"<u>": b"jpeg"})
    for tag in ("<script>", "<b>changed", "<i>", "<u>"):
        assert tag not in text
    assert "&lt;script&gt;" in text and "&lt;b&gt;changed" in text


def test_every_figure_has_a_row_and_poor_ones_advice():
    text = page("x", facts(-1.0), [], {}, {})
    assert len(re.findall("<tr>", text)) == len(CHECKS)
    assert "record quieter" in text and "--fix-offset" not in text.split("<table>")[0]


def test_what_was_not_measured_says_so_and_has_no_light():
    text = page("x", facts(None), [], {}, {})
    assert text.count("not measured") == len(CHECKS) and "record quieter" not in text


def test_a_believed_offset_is_offered_as_a_correction():
    assert "--fix-offset 240" in page("x", facts(suggested=0.24), [], {}, {})
    believed = Offset(6.0, 9.0, 5.0)
    assert suggested_correction(believed, 0.0) == pytest.approx(0.24)
    assert suggested_correction(believed, 0.1) == pytest.approx(0.34), "what was applied already stays"
    assert suggested_correction(Offset(1.5, 9.0, 5.0), 0.0) == pytest.approx(0.06), "to a fraction of a frame"
    assert suggested_correction(Offset(0.9, 9.0, 5.0), 0.0) is None, "less than 40 ms is normal"
    assert suggested_correction(Offset(6.0, 4.0, 5.0), 0.0) is None, "and weak ones are not believed"


def test_light_change_is_the_slow_range_in_per_cent():
    steady = np.full(250, 100.0) + np.resize([5.0, -5.0], 250)
    assert light_change(steady) < 1.0, "flicker from frame to frame is no change of light"
    dimming = np.linspace(120.0, 80.0, 250)
    assert light_change(dimming) == pytest.approx(36.0, abs=8.0)


@pytest.mark.parametrize(("name", "value", "expected"), [("seconds", 90.0, "good"), ("seconds", 20.0, "usable"), ("seconds", 5.0, "poor"),
                                                         ("pose_jitter_px", 0.2, "good"), ("pose_jitter_px", 9.0, "poor"),
                                                         ("mouth_offset_ms", None, "unknown")])  # fmt: skip
def test_lights(name, value, expected):
    assert light(name, value) == expected
