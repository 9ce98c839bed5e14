"""The texts of the page in both languages."""

import dataclasses
import re
import string

import pytest

from geneface_jax.inference.controls import Controls

pytest.importorskip("gradio")

from geneface_jax.studio.i18n import LANGUAGES, TEXTS, text  # noqa: E402


def test_every_text_is_there_in_both_languages_with_the_same_placeholders(widgets):
    def placeholders(words):
        return {name for _, name, *_ in string.Formatter().parse(words) if name}

    for key, (english, chinese) in TEXTS.items():
        assert english and chinese and placeholders(english) == placeholders(chinese), key
    untranslated = [key for key, (english, chinese) in TEXTS.items() if english == chinese]
    assert untranslated == ["tab.postnet"]
    for field in dataclasses.fields(Controls):
        for language in LANGUAGES.values():
            assert text(f"control.{field.name}.info", language)
        assert re.search("[\u4e00-\u9fff]", text(f"control.{field.name}.label", "zh")), field.name
