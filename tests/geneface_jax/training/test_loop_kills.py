"""Five kills at random moments; scripts/bench/kills.py makes fifty by default."""

from __future__ import annotations

import subprocess
import sys

import pytest

from geneface_jax.io import configs


@pytest.mark.slow
def test_nothing_is_lost_by_kills_at_random_moments(tmp_path):
    script = configs.clone() / "scripts" / "bench" / "kills.py"
    command = [sys.executable, str(script), "--kills", "5", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed checks" in done.stdout and "state equal, curve equal" in done.stdout
