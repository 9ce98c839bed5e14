"""The disk fails at some operation of a command: no result under its final name but a whole one, one sentence, and the next run is clean.

scripts/bench/faults.py lets every operation fail; here it is the renames and syncs, and a tenth of the others.
"""

import errno
import os

import pytest

from tests.fault_scenarios import SCENARIOS
from tests.faults import Faults, leftovers

SHARE = 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_nothing_half_made_gets_a_name(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GENEFACE_FEATURE_CACHE", "off")
    scenario = SCENARIOS[name](tmp_path)
    scenario.record()
    faults = scenario.faults(SHARE)
    wrong = [found for number, error in faults if (found := scenario.trial(number, error))]
    with capsys.disabled():
        print(f"\n{name}: {len(faults)} faults in {len(scenario.operations)} operations, {len(wrong)} failed")
    assert not wrong, "\n".join(wrong[:3])


def test_the_chosen_operation_fails_and_no_other(tmp_path):
    def write():
        with open(tmp_path / "a.partial", "w", encoding="utf-8") as stream:
            stream.write("abcd")
            os.fsync(stream.fileno())
        os.replace(tmp_path / "a.partial", tmp_path / "a")

    with Faults([tmp_path]) as faults:
        write()
        (tmp_path.parent / "elsewhere").write_text("not counted")
    assert faults.seen == ["open", "write", "fsync", "replace"]
    (tmp_path / "a").unlink()
    for number in range(4):
        with Faults([tmp_path], number, errno.ENOSPC) as faults, pytest.raises(OSError) as raised:
            write()
        assert raised.value.errno == errno.ENOSPC and len(faults.seen) == number + 1 and not (tmp_path / "a").exists()
    assert leftovers(tmp_path) == ["a.partial"]
