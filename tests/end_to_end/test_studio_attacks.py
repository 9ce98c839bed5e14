"""The studio under attack, at a reduced size. scripts/bench/studio_attacks.py makes docs/figures/studio_attacks.json at full size."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from scripts.bench import studio_attacks  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")]

REDUCED = {
    "sound": lambda: studio_attacks.attack_sound(hours=5.0),
    "picture": lambda: studio_attacks.attack_picture(side=9000),
    "reader": lambda: studio_attacks.attack_reader(seconds=4.0, turns=2),
    "refused": lambda: studio_attacks.attack_refused(requests=90),
    "half_open": lambda: studio_attacks.attack_half_open(sockets=300, wait=False),
    "renders": lambda: studio_attacks.attack_renders(renders=20, seconds=1.0, stand_ins=True),
}


@pytest.mark.parametrize("attack", REDUCED)
def test_the_studio_holds(attack):
    result = REDUCED[attack]()
    assert result["held"], json.dumps(result)


def test_the_measured_attacks_held():
    found = json.loads((Path(__file__).parents[2] / "docs" / "figures" / "studio_attacks.json").read_text())
    assert set(studio_attacks.ATTACKS) <= found.keys() and all(found[name]["held"] for name in studio_attacks.ATTACKS)
    assert found["refused"]["requests"] == 500 and found["half_open"]["sockets"] == 300 and found["renders"]["renders"] == 20
