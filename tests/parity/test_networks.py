"""Our networks and their post-processing against golden vectors of the originals, by the functions of scripts/check_parity.py."""

from __future__ import annotations

import re

import pytest

from tests.parity.networks.catalog import READERS, check_one
from tests.parity.vectors import VECTORS, needs_vectors

pytestmark = needs_vectors

# Recorded results without a counterpart here, or with an intended deviation (docs/deviations.md).
UNREAD = {
    # Causal windows, and an encoder of heat maps: no config uses them.
    "cond_encoders": r"(in|out)_heatmap_.*|win_mode1_.*",
    "lle_postproc": r"in_pp_deepspeech|pp_deepspeech.*|pp_nerf_(lle1_smooth1|blink).*|in_blink_lm68|blink_lm68_.*",
    "pp_radnerf_torso_sr": r"full_n_points_.*",
    "v1_postnet": r"in_pitch_feat.*|pitchgen.*",
    # The rounds of the longer render include those of this one.
    "v1_radnerf_head": r"render_n_points",
}


# Frames of the published sizes: more than half a minute to compile.
FRAMES = {"pp_radnerf_head_sr", "pp_radnerf_torso_sr", "v1_radnerf_head", "v1_radnerf_torso"}


@pytest.mark.parametrize("folder", [pytest.param(name, marks=pytest.mark.slow) if name in FRAMES else name for name in READERS])
def test_every_recorded_result_is_met(folder):
    """Names and shapes of the weights, outputs, losses and gradients: all within tolerance, and all recorded keys read."""
    if not (VECTORS / folder).is_dir():
        pytest.skip(f"no {VECTORS / folder}")
    row = check_one(VECTORS / folder)
    assert [f"{check.key}: {check.worst:.3g} tolerances" for check in row.checks if not check.passed] == []
    assert row.checks
    assert [key for key in row.unread if not re.fullmatch(UNREAD.get(folder, ""), key)] == []
