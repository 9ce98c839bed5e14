"""Every filter fires at its threshold, alone, and in the stated order."""

import dataclasses

import pytest

from data_tools.corpus.selection import REASONS, CorpusSettings, first_failed_filter
from data_tools.errors import InputError
from geneface_jax.io import configs

GOOD = {
    "seconds": 5.0,
    "face_pixels": 120.0,
    "gap_seconds": 0.0,
    "rival_share": 0.0,
    "cut_levels": 3.0,
    "jump": 0.02,
    "sharpness": 0.3,
    "voiced_share": 0.5,
    "offset": 0,
    "offset_score": 8.0,
    "offset_margin": 4.0,
    "offset_confident": True,
    "corrected": 0,
}
BAD = [
    ({"seconds": 1.0}, "too_short"),
    ({"face_pixels": 40.0}, "small_face"),
    ({"gap_seconds": 0.44}, "face_lost"),
    ({"rival_share": 0.3}, "several_faces"),
    ({"cut_levels": 30.0}, "scene_cut"),
    ({"jump": 0.3}, "scene_cut"),
    ({"sharpness": 0.05}, "blur"),
    ({"voiced_share": 0.05}, "silence"),
    ({"offset": -12}, "offset"),
]


@pytest.fixture
def settings():
    return CorpusSettings.from_mapping(configs.load("corpus"))


def test_a_good_clip_stays(settings):
    assert first_failed_filter(GOOD, settings) is None
    assert first_failed_filter(GOOD, settings, sync_score=0.3) is None


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_each_filter_fires_alone(settings, change, reason):
    assert first_failed_filter({**GOOD, **change}, settings) == reason and reason in REASONS


def test_an_offset_that_is_not_believed_or_was_corrected_drops_nothing(settings):
    assert first_failed_filter({**GOOD, "offset": -12, "offset_confident": False}, settings) is None
    assert first_failed_filter({**GOOD, "offset": -8, "corrected": -8}, settings) is None


def test_the_sync_score_counts_only_where_it_is_known(settings):
    assert first_failed_filter(GOOD, settings, sync_score=-0.1) == "sync_score"
    assert first_failed_filter(GOOD, settings, sync_score=None) is None


def test_the_first_reason_in_the_list_is_told(settings):
    worst = {key: value for change, _ in BAD for key, value in change.items()}
    assert first_failed_filter({**GOOD, **worst}, settings) == "too_short"


def test_thresholds_are_those_of_the_config(settings):
    for field, better in {"min_face_pixels": 200.0, "min_sharpness": 0.4, "min_voiced_share": 0.9, "min_seconds": 6.0}.items():
        stricter = dataclasses.replace(settings, filters=dataclasses.replace(settings.filters, **{field: better}))
        assert first_failed_filter(GOOD, stricter) is not None


@pytest.mark.parametrize("override", ["speaker=nobody", "measure.piece_seconds=0.5", "split.val_share=1.0", "filters.min_seconds=0.0"])
def test_impossible_settings_are_refused_by_name(override):
    with pytest.raises(InputError, match=override.split("=")[0]):
        CorpusSettings.from_mapping(configs.load("corpus", [override]))
