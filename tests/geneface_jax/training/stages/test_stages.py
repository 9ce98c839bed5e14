"""Stages are found by name; they leave the config they are given unchanged."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.training.stage import get_stage
from tests.tiny_stages import OVERRIDES, tiny_config, write_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("stages"))


def test_an_unknown_stage_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'head'"):
        get_stage(ConfigDict({"stage": "haed"}))


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_stage_leaves_the_given_config_unchanged(name, folder):
    config = tiny_config(name, folder)
    before = config.copy_and_resolve_references()
    assert get_stage(config).config != before, "a stage records the camera or the feature types in its own copy"
    assert config == before
