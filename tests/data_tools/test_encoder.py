"""The encoder's options: ranges, contradictions, recipes, and which output holds what."""

import argparse
import dataclasses

import pytest

from data_tools.command_line import flag
from data_tools.encoder import (
    DEFAULT_CRF,
    FIELDS,
    PIX_FMTS,
    RECIPES,
    EncoderOptions,
    add_encoder_arguments,
    check_output,
    codec_arguments,
    encoder_values,
)
from data_tools.errors import InputError


def parse(*words):
    parser = argparse.ArgumentParser()
    add_encoder_arguments(parser)
    return EncoderOptions(**encoder_values(parser.parse_args(words))).validate()


def option_of(arguments, name):
    return arguments[arguments.index(name) + 1]


def test_the_defaults_are_crf_18_and_yuv420p():
    assert parse() == EncoderOptions()
    arguments = codec_arguments(parse(), alpha=False)
    assert option_of(arguments, "-crf") == f"{DEFAULT_CRF}" == "18" and "format=yuv420p" in option_of(arguments, "-vf")


def test_the_help_says_what_every_option_trades():
    parser = argparse.ArgumentParser()
    add_encoder_arguments(parser)
    text = parser.format_help()
    assert all(flag(field.name) in text for field in FIELDS) and all(name in text for name in (*RECIPES, *PIX_FMTS))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_and_a_flag_beside_it_wins(name):
    chosen = parse("--recipe", name)
    assert dataclasses.asdict(chosen).items() >= RECIPES[name].items()
    assert parse("--recipe", name, "--crf", "30") == dataclasses.replace(chosen, crf=30)
    assert parse("--recipe", name, "--bitrate", "2M") == dataclasses.replace(chosen, crf=None, bitrate="2M")


def test_the_maintainers_recipe_is_there():
    assert {"crf": 23, "preset": "veryslow", "pix_fmt": "yuv444p"} in RECIPES.values()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crf": 52}, "--crf is 52: give a number from 0 to 51"),
        ({"preset": "warp"}, "--preset is 'warp': choose"),
        ({"pix_fmt": "yuv410p"}, "--pix-fmt is 'yuv410p': choose yuv420p, yuv422p, yuv444p, rgb24, rgba"),
        ({"crf": 20, "bitrate": "2M"}, r"--crf 20 .* --bitrate 2M .*give one of them\."),
        ({"bitrate": "fast"}, "--bitrate is 'fast'"),
        ({"bitrate": "-i"}, "--bitrate is '-i'"),
        ({"maxrate": "2M"}, "--maxrate is 2M without --bufsize"),
        ({"bufsize": "2M"}, "--bufsize is 2M without a rate"),
    ],
)
def test_bad_and_contradicting_values_are_refused_by_flag(change, words):
    with pytest.raises(InputError, match=words):
        EncoderOptions(**change).validate()


@pytest.mark.parametrize(
    ("name", "pix_fmt", "alpha", "words"),
    [
        ("a.mp4", "rgba", False, r"H\.264 .* can't hold: use --alpha .*\.webm .*VP9 yuva420p.* folder"),
        ("a.mp4", "rgba", True, "can't hold the alpha channel of --alpha"),
        ("a.avi", "yuv420p", False, r"ends in \.mp4"),
        ("a.webm", "yuv420p", False, r"ends in \.mp4, or --alpha"),
        ("a.webm", "rgb24", True, "--pix-fmt rgb24 has no alpha"),
    ],
)
def test_an_output_that_cannot_hold_the_format_is_refused_with_one_that_can(name, pix_fmt, alpha, words):
    with pytest.raises(InputError, match=words):
        check_output(name, EncoderOptions(pix_fmt=pix_fmt), alpha, ask_alpha="--alpha")


@pytest.mark.parametrize(
    ("name", "pix_fmt", "alpha"), [("a.mp4", p, False) for p in PIX_FMTS[:4]] + [("a.webm", "rgba", True), ("a", "yuv420p", True)]
)
def test_outputs_that_hold_the_format_pass(name, pix_fmt, alpha):
    check_output(name, EncoderOptions(pix_fmt=pix_fmt), alpha)
