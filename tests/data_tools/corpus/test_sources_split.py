"""The held-out speakers don't depend on how far the corpus has got."""

import pytest

from data_tools.corpus.selection import SplitSettings, held_out

SPEAKERS = [f"speaker {i}" for i in range(40)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_both_sides_have_a_speaker_whoever_is_left(share):
    for kept in (SPEAKERS, SPEAKERS[:2], SPEAKERS[5:8], SPEAKERS[-2:]):
        val = held_out(SPEAKERS, kept, SplitSettings(share, 0)) & set(kept)
        assert 0 < len(val) < len(kept)


def test_the_share_is_kept_and_the_choice_grows_with_nothing_but_the_seed():
    settings = SplitSettings(0.1, 0)
    val = held_out(SPEAKERS, SPEAKERS, settings)
    assert len(val) == 4 and held_out(reversed(SPEAKERS), SPEAKERS[::-1], settings) == val
    assert held_out(SPEAKERS, [*val, SPEAKERS[0], SPEAKERS[1]], settings) == val
    assert held_out(SPEAKERS, SPEAKERS, SplitSettings(0.1, 1)) != val
