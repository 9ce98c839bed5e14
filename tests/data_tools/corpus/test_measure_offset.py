"""Sound and picture that are apart are put together to the sample, and a clip that is sure to be in sync is left alone."""

import dataclasses

import numpy as np
import pytest

from data_tools.audio.offset import Offset
from data_tools.corpus.measure import _correction, _synchronize
from data_tools.corpus.selection import CorpusSettings
from geneface_jax.io import configs


@pytest.mark.parametrize("late", [2.0, 2.3, -2.3, -0.6, 0.6])
def test_the_frames_that_stay_are_those_with_sound_and_each_gets_its_own(late):
    frames = 40
    samples = np.arange(frames * 640.0)  # a sample's value is its time
    points = (np.arange(frames) - late) * 640.0  # and a frame's value the time of the sound that belongs to it
    moved, sound = _synchronize(points, samples, late)
    assert len(moved) == frames - np.ceil(abs(late)) and len(sound) == 640 * len(moved)
    np.testing.assert_allclose(sound[::640], moved, atol=1.0)


def test_only_sure_offsets_between_the_tolerance_and_the_largest_are_corrected():
    settings = CorpusSettings.from_mapping(configs.load("corpus")).measure
    sure = Offset(2.4, settings.offset_min_score, settings.offset_min_margin)
    assert _correction(sure, settings) == 2.4
    assert _correction(dataclasses.replace(sure, lag=-9.5), settings) == -9.5
    for lag, score in ((0.4, sure.score), (11.0, sure.score), (2.4, sure.score - 0.1)):
        assert _correction(Offset(lag, score, sure.margin), settings) == 0.0
