"""One dataclass makes the command line; every value out of range is refused by name."""

import argparse
import dataclasses

import pytest

from data_tools.command_line import base_type, flag
from data_tools.errors import InputError
from geneface_jax.inference import controls
from geneface_jax.inference.controls import Controls

FIELDS = {field.name: field for field in dataclasses.fields(Controls)}


def parse(*words):
    parser = argparse.ArgumentParser()
    controls.add_arguments(parser)
    return controls.from_args(parser.parse_args(words))


def test_no_arguments_give_the_defaults():
    assert parse() == Controls() == Controls().validate()


def test_every_field_has_a_flag_with_help():
    parser = argparse.ArgumentParser()
    controls.add_arguments(parser)
    text = parser.format_help()
    assert all(flag(name) in text and field.metadata["help"] for name, field in FIELDS.items())


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.metadata["low"] is not None])
def test_both_ends_of_a_range_are_allowed_and_nothing_beyond(name):
    meta = FIELDS[name].metadata
    for value in (meta["low"], meta["high"]):
        value = int(value) if base_type(FIELDS[name]) is int else float(value)
        assert getattr(parse(f"{flag(name)}={value}"), name) == value
    for value in (meta["low"] - 1, meta["high"] + 1, float("nan")):
        changed = Controls()
        object.__setattr__(changed, name, value)  # a NaN is no valid argument of an int field when types are checked
        with pytest.raises(InputError, match=f"{flag(name)} is .*{meta['low']} to {meta['high']}"):
            changed.validate()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blink_mode": "wink"}, "--blink-mode is 'wink': choose none, period, video"),
        ({"preset": "warp"}, "--preset is 'warp'"),
        ({"size": 255}, "--size is 255.*even"),
        ({"pose": "9-3"}, "--pose is '9-3'"),
        ({"pose": "sideways"}, "--pose is 'sideways'"),
        ({"bitrate": "fast"}, "--bitrate is 'fast'"),
        ({"maxrate": "2M"}, "--maxrate is 2M without --bufsize"),
        ({"bufsize": "2M"}, "--bufsize is 2M without a rate"),
        ({"bg": ""}, "--bg is empty"),
    ],
)
def test_bad_values_are_refused_by_flag_and_value(change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(Controls(), **change).validate()


def test_frame_range():
    assert controls.frame_range("10-25") == (10, 25)
