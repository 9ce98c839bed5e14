"""Our networks and their post-processing against golden vectors of the originals, by the functions of scripts/check_parity.py."""

from __future__ import annotations

import re

import pytest

from tests.parity.networks.catalog import READERS, check_one
from tests.parity.vectors import COMMITTED, VECTORS

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


def misses(root, folder) -> list[str]:
    row = check_one(root / folder)
    assert row.checks
    return [f"{check.key}: {check.worst:.3g} tolerances" for check in row.checks if not check.passed] + [
        f"{key} is not read" for key in row.unread if not re.fullmatch(UNREAD.get(folder, ""), key)
    ]


def test_every_network_is_committed():
    assert {path.parent.name for path in (COMMITTED / "networks").glob("*/io.npz")} == READERS.keys()


@pytest.mark.parametrize("folder", READERS)
def test_every_committed_result_is_met(folder):
    """Small networks and parts of the published ones: names and shapes of the weights, outputs, losses, gradients, and all keys read."""
    assert misses(COMMITTED / "networks", folder) == []


@pytest.mark.parametrize("folder", [pytest.param(name, marks=pytest.mark.slow) if name in FRAMES else name for name in READERS])
def test_every_recorded_result_is_met(folder):
    """The published sizes, where their vectors lie beside the clone."""
    if not (VECTORS / folder).is_dir():
        pytest.skip(f"no golden vectors in {VECTORS / folder} (set GENEFACE_PARITY)")
    assert misses(VECTORS, folder) == []
