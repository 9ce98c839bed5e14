"""Every word of the page, in English and Chinese, and which component shows which."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from data_tools.command_line import flag
from geneface_jax.inference.controls import Controls
from geneface_jax.studio.words import CONTROLS_ZH, WORDS

LANGUAGES = {"English": "en", "中文": "zh"}
"""As the switch shows them -> code."""


def text(key: str, language: str, **values: Any) -> str:
    """One text; `values` fill its braces.

    Raises:
      KeyError: there is no such text, or not in this language.
    """
    found = _ALL[key][language]
    return found.format(**values) if values else found


def language_of(accepted: str | None) -> str:
    """ "zh" where a browser's Accept-Language asks for Chinese first, else "en"."""
    return "zh" if (accepted or "").strip().lower().startswith("zh") else "en"


class Labels:
    """Remembers which property of which component shows which text, so that the language can be changed on the open page."""

    def __init__(self, language: str = "en"):
        self._language = language
        self._shown: list[tuple[Any, dict[str, str]]] = []

    def add(self, component: Any, **properties: str) -> Any:
        """Gives properties (label, info, value, placeholder) their texts by key; returns the component."""
        for name, key in properties.items():
            setattr(component, name, text(key, self._language))
        self._shown.append((component, properties))
        return component

    @property
    def components(self) -> list[Any]:
        """Outputs of the event that changes the language."""
        return [component for component, _ in self._shown]

    def updates(self, language: str) -> list[Any]:
        """One update for each of `components`."""
        return [gr.update(**{name: text(key, language) for name, key in keys.items()}) for _, keys in self._shown]


def _control_texts() -> dict[str, dict[str, str]]:
    """Labels and help of the controls: English from the dataclass itself."""
    found = {}
    for field in dataclasses.fields(Controls):
        chinese_label, chinese_help = CONTROLS_ZH[field.name]
        found[f"control.{field.name}.label"] = {"en": field.name.replace("_", " "), "zh": chinese_label}
        found[f"control.{field.name}.info"] = {
            "en": f"{field.metadata['help']} ({flag(field.name)})",
            "zh": f"{chinese_help}（{flag(field.name)}）",
        }
    return found


_ALL = {**{key: {"en": english, "zh": chinese} for key, (english, chinese) in WORDS.items()}, **_control_texts()}
