"""The page: a header with the language switch, and the tabs."""

from typing import Any

import gradio as gr

from geneface_jax.studio.i18n import LANGUAGES, Labels, language_of, text
from geneface_jax.studio.jobs import JobRunner
from geneface_jax.studio.render_queue import Context
from geneface_jax.studio.speak_tab import SpeakTab
from geneface_jax.studio.train_tab import PostnetTab, TrainTab

CSS = """
.studio-status { padding: 8px 2px; font-variant-numeric: tabular-nums; }
.studio-done { color: #2f7d4f; }
.studio-error { padding: 10px 12px; border: 1px solid #c45c5c; border-radius: 6px; background: #fbeeee; color: #7a2020; }
.studio-bar { height: 8px; border-radius: 4px; background: #e4e2dc; overflow: hidden; }
.studio-bar div { height: 100%; background: #266298; }
#language { max-width: 240px; }
footer { display: none !important; }
"""
FONTS = ["system-ui", "Noto Sans CJK SC", "Noto Sans SC", "sans-serif"]


def theme() -> gr.themes.Base:
    """A theme with fonts of the visitor's machine, so that none are downloaded."""
    return gr.themes.Soft(primary_hue="blue", neutral_hue="stone", font=FONTS, font_mono=["ui-monospace", "monospace"])


def build_page(context: Context, jobs: JobRunner) -> gr.Blocks:
    """The page as a Gradio app that is not served yet; `jobs` runs its training jobs."""
    labels = Labels()
    with gr.Blocks(title="geneface studio", analytics_enabled=False, delete_cache=(600, context.limits.keep_seconds)) as page:
        with gr.Row(equal_height=True):
            with gr.Column(scale=5):
                heading = gr.Markdown(f"# {text('title', 'en')}\n{text('tagline', 'en')}")
            language = gr.Radio(list(LANGUAGES), value="English", show_label=False, container=False, elem_id="language", scale=1)
        with labels.add(gr.Tab(id="speak"), label="tab.speak"):
            speak = SpeakTab(context, labels, language)
        with labels.add(gr.Tab(id="train"), label="tab.train"):
            TrainTab(context, labels, language, jobs)
        with labels.add(gr.Tab(id="postnet"), label="tab.postnet"):
            postnet = PostnetTab(context, labels, language)

        def leave(request: gr.Request) -> None:
            """Cancels the job of a closed page."""
            context.cancel(request.session_hash or "")

        def translate(chosen: str, person: str | None) -> list[Any]:
            code = LANGUAGES[chosen]
            return [f"# {text('title', code)}\n{text('tagline', code)}", *labels.updates(code), speak.show_person(person, chosen)[1]]

        def load(request: gr.Request) -> list[Any]:
            """A new page: the current list of persons, the browser's language, the first portrait."""
            names = context.people.names()
            code = language_of(request.headers.get("accept-language"))
            chosen = next(name for name, value in LANGUAGES.items() if value == code)
            person = names[0] if names else None
            choices = gr.update(choices=names, value=person)
            return [choices, choices, chosen, *speak.show_person(person, chosen)]

        outputs = [heading, *labels.components, speak.consent]
        language.change(translate, [language, speak.person], outputs, api_visibility="private", show_progress="hidden")
        loaded = [speak.person, postnet.person, language, speak.portrait, speak.consent]
        page.load(load, None, loaded, api_visibility="private", show_progress="hidden")
        page.unload(leave)
    return page
