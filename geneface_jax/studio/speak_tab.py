"""The Speak tab: person, recording or typed text, controls, previews, the video, a comparison, the history."""

from __future__ import annotations

import dataclasses
import html
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from data_tools.command_line import flag
from data_tools.errors import InputError
from geneface_jax.inference.controls import TRANSPARENT, Controls
from geneface_jax.studio.context import Context, Portraits, RenderTask
from geneface_jax.studio.i18n import LANGUAGES, Labels, text
from geneface_jax.studio.render_queue import Cancelled, ListedPerson, RenderJob
from geneface_jax.studio.uploads import SessionFolder, accept_audio, accept_picture
from geneface_jax.studio.widgets import ControlWidgets, controls_from, done_line, failed_line, idle_line, moving_line, plain_line

# ----------------------------------------------------------------------------------------------------
# The command line that does what the page did.


def infer_line(subject: str, audio: str, controls: Controls, out: str = "video.mp4") -> str:
    """`geneface infer ...` with every control that differs from its default, quoted for a shell.

    Args:
      subject, audio, out: as they are to be shown: the visitor's own names, not those of the private folder.
      controls: an uploaded background picture is to be named as the visitor knows it.
    """
    if controls.bg == TRANSPARENT:
        out = out.removesuffix(".mp4") + ".webm"
    words = ["geneface", "infer", "--subject", subject, "--audio", audio, "--out", out]
    for field in dataclasses.fields(controls):
        value = getattr(controls, field.name)
        if value != field.default:
            words += [flag(field.name), f"{value}"]
    return shlex.join(words)


# ----------------------------------------------------------------------------------------------------
# Typed text to speech, where the machine has a synthesiser: the program espeak-ng, run as it is and never linked.

PROGRAM = "espeak-ng"
MAX_CHARACTERS = 2000
VOICES = {"en": "en-us", "zh": "cmn"}


def synthesizer_available() -> bool:
    """Whether there is a synthesiser."""
    return shutil.which(PROGRAM) is not None


def synthesize(words: str, language: str, workspace: SessionFolder) -> Path:
    """A wav of the text in the private folder; the text goes in by a pipe and is never an option.

    Raises:
      InputError: no text, too much of it, or the synthesiser failed.
    """
    words = (words or "").strip()
    if not words or len(words) > MAX_CHARACTERS:
        raise InputError(f"the text has {len(words)} characters; type 1 to {MAX_CHARACTERS}")
    wav = workspace.new_file("uploads", ".wav")
    command = [PROGRAM, "-v", VOICES[language], "-w", str(wav), "--stdin"]
    if subprocess.run(command, input=words.encode(), capture_output=True, check=False).returncode or not wav.is_file():
        raise InputError("the speech synthesiser could not speak this text; record it instead")
    return wav


# ----------------------------------------------------------------------------------------------------
# The first tab: a person, a recording, controls; previews, the video, a comparison, the history.

HISTORY = 20
"""Videos a page remembers."""


class SpeakTab:
    """Builds the tab where it is called, inside a `gr.Blocks`.

    Args:
      context: the studio.
      labels: collects the texts.
      language: the component that holds the language's name.
    """

    def __init__(self, context: Context, labels: Labels, language: gr.Radio):
        self._context, self._labels, self._language = context, labels, language
        self._portraits = Portraits(context)
        with gr.Row():
            with gr.Column(scale=5):
                self._choose_person()
                self._choose_speech()
                self._widgets = ControlWidgets.build(labels)
            with gr.Column(scale=6):
                self._results()
        self._events()

    @property
    def person(self) -> gr.Radio:
        """The component that holds the person's name."""
        return self._person

    @property
    def portrait(self) -> gr.Image:
        """The person's picture."""
        return self._portrait

    @property
    def consent(self) -> gr.Markdown:
        """The person's consent."""
        return self._consent

    def show_person(self, name: str | None, language: str) -> tuple[Any, str]:
        """The portrait and the consent of a person chosen."""
        code = LANGUAGES[language]
        if name is None:
            return None, text("person.none", code)
        try:
            person = self._context.people.get(name)
            stated = html.escape(person.consent) or text("consent.none", code)
            return self._portraits.get(person), text("consent", code, consent=stated)
        except Exception as error:  # a portrait is not worth a page that does not open
            return None, html.escape(self._context.sentence(error, code))

    def _choose_person(self) -> None:
        names = self._context.people.names()
        add = self._labels.add
        with gr.Row():
            self._person = add(gr.Radio(names, value=names[0] if names else None, elem_id="person"), label="person")
            self._portrait = add(
                gr.Image(interactive=False, height=180, width=180, elem_id="portrait", buttons=[], min_width=180), label="portrait"
            )
        self._consent = gr.Markdown(elem_id="consent")

    def _choose_speech(self) -> None:
        add = self._labels.add
        self._audio = add(gr.Audio(type="filepath", sources=["upload", "microphone"], elem_id="audio"), label="audio")
        with gr.Row(visible=synthesizer_available()):
            self._words = add(gr.Textbox(max_length=MAX_CHARACTERS, lines=2, scale=4), label="speech.text")
            self._say = add(gr.Button(scale=1), value="speech.say")

    def _results(self) -> None:
        add = self._labels.add
        with gr.Row():
            self._preview = add(gr.Button(elem_id="preview"), value="preview")
            self._landmarks = add(gr.Button(elem_id="landmarks"), value="landmarks")
            self._stream = add(gr.Button(elem_id="stream"), value="stream")
        with gr.Row():
            self._render = add(gr.Button(variant="primary", elem_id="render", scale=3), value="render")
            self._cancel = add(gr.Button(variant="stop", elem_id="cancel", scale=1), value="cancel")
        self._status = gr.HTML(idle_line("en"), elem_id="status")
        self._picture = add(gr.Image(interactive=False, visible=False, elem_id="preview-image", buttons=[]), label="preview.image")
        self._sketch = add(gr.Video(interactive=False, visible=False, elem_id="preview-video"), label="preview.video")
        self._player = gr.HTML(elem_id="player")
        self._result = add(gr.Video(interactive=False, elem_id="result", buttons=[]), label="result")
        self._download = add(gr.DownloadButton(elem_id="download", interactive=False), label="download")
        self._command = add(gr.Textbox(interactive=False, lines=2, elem_id="command", buttons=["copy"]), label="command")
        self._made = gr.State([])
        with gr.Row():
            self._history = add(gr.Dropdown([], elem_id="history", scale=4), label="history")
            self._show = add(gr.Button(scale=1), value="history.show")
        with add(gr.Accordion(open=False, elem_id="fold-compare"), label="compare.head"):
            self._first = gr.State(Controls())
            self._kept = gr.Markdown(elem_id="kept")
            with gr.Row():
                self._keep = add(gr.Button(elem_id="keep"), value="compare.keep")
                self._compare = add(gr.Button(elem_id="compare"), value="compare.run")
            self._compared = add(gr.Video(interactive=False, elem_id="compared"), label="compare.result")

    def _events(self) -> None:
        settings = [self._language, self._person, self._audio, *self._widgets.components]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # Renders wait at the desk, which tells each visitor the queue; Gradio's own queue only has to let them through.
        slow = {**private, "concurrency_limit": None}
        self._person.change(self.show_person, [self._person, self._language], [self._portrait, self._consent], **private)
        self._preview.click(self._do_preview, settings, [self._status, self._picture, self._command], **slow)
        self._landmarks.click(self._do_landmarks, settings, [self._status, self._sketch, self._command], **slow)
        made = [self._status, self._result, self._download, self._command, self._history, self._made]
        self._render.click(self._do_render, [*settings, self._made], made, **slow)
        self._stream.click(self._do_stream, settings, [self._status, self._player, self._command], **slow)
        self._cancel.click(self._do_cancel, [self._language], [self._status, self._player], queue=False, **private)
        self._keep.click(self._do_keep, settings, [self._status, self._first, self._kept], **private)
        self._compare.click(self._do_compare, [*settings, self._first], [self._status, self._compared], **slow)
        self._show.click(self._do_show, [self._history, self._made], [self._result, self._download, self._command], **private)
        self._say.click(self._do_say, [self._words, self._language], [self._status, self._audio], **private)

    def _read(self, values: Sequence[Any]) -> tuple[ListedPerson, Path, Controls, str]:
        """Checks everything a render needs; the last item is the command line."""
        name, audio, named = values[0], values[1], self._widgets.named(values[2:])
        context = self._context
        person = context.people.get(name)
        picture = None
        if named["bg_kind"] == "picture":
            picture = accept_picture(named["bg_picture"], context.workspace, context.limits) if named["bg_picture"] else None
        controls = controls_from(named, str(picture) if picture else None)
        wav = accept_audio(audio, context.workspace, context.limits)
        shown = controls if picture is None else dataclasses.replace(controls, bg=Path(named["bg_picture"]).name)
        return person, wav, controls, infer_line(str(person.parts.folder), Path(audio).name, shown)

    def _turn(
        self,
        request: gr.Request,
        language: str,
        values: Sequence[Any],
        make: Callable[[RenderJob, ListedPerson, Path, Controls], RenderTask[Any]],
        show: Callable[[Any, ListedPerson, str], tuple],
        outputs: int,
    ) -> Iterator[tuple]:
        """Makes something in its turn and shows it; errors become the error box.

        Args:
          values: of the components that `_read` reads.
          make: begins the work.
          show: (what was made, of whom, its command line) -> values of the outputs behind the status.
          outputs: how many those are; they stay as they are until then.
        """
        code, skipped = LANGUAGES[language], (gr.skip(),) * outputs
        ticket = None
        try:
            ticket = self._context.enter(request.session_hash or "")
            began = time.monotonic()
            person, wav, controls, line = self._read(values)
            work = make(ticket, person, wav, controls)
            while True:
                try:
                    said = next(work)
                except StopIteration as end:
                    made = end.value
                    break
                yield moving_line(said, code), *skipped
            yield done_line(time.monotonic() - began, code), *show(made, person, line)
        except Cancelled:
            yield plain_line("status.cancelled", code), *skipped
        except Exception as error:  # whatever it was, the page must say so and go on
            yield failed_line(self._context.sentence(error, code), code), *skipped
        finally:
            if ticket is not None:
                self._context.desk.leave(ticket)

    def _do_preview(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        def show(frame: np.ndarray, person: ListedPerson, line: str) -> tuple:
            return gr.update(value=frame, visible=True), line

        yield from self._turn(request, language, values, self._context.performance.first_frame, show, 2)

    def _do_landmarks(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        def show(path: Path, person: ListedPerson, line: str) -> tuple:
            return gr.update(value=str(path), visible=True), line

        yield from self._turn(request, language, values, self._context.performance.landmarks, show, 2)

    def _do_render(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        *values, history = values

        def show(path: Path, person: ListedPerson, line: str) -> tuple:
            title = f"{time.strftime('%H:%M:%S')} {person.name}, {Path(values[1]).name}"
            known = [(title, str(path), line), *history][:HISTORY]
            titles = [entry[0] for entry in known]
            return str(path), gr.update(value=str(path), interactive=True), line, gr.update(choices=titles, value=titles[0]), known

        yield from self._turn(request, language, values, self._context.performance.video, show, 5)

    def _do_stream(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        try:
            person, wav, controls, line = self._read(values)
            token = self._context.order_stream(person, wav, controls)
            player = f'<video src="/stream/{token}" autoplay controls playsinline style="width:100%"></video>'
            yield plain_line("status.streaming", LANGUAGES[language]), player, line
        except Exception as error:
            code = LANGUAGES[language]
            yield failed_line(self._context.sentence(error, code), code), gr.skip(), gr.skip()

    def _do_compare(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        *values, first = values

        def make(ticket: RenderJob, person: ListedPerson, wav: Path, controls: Controls) -> RenderTask[Path]:
            return self._context.performance.comparison(ticket, person, wav, (first, controls))

        yield from self._turn(request, language, values, make, lambda path, person, line: (str(path),), 1)

    def _do_keep(self, language: str, *values: Any) -> tuple:
        code = LANGUAGES[language]
        try:
            named = self._widgets.named(values[2:])
            controls = controls_from({**named, "bg_kind": "original" if named["bg_kind"] == "picture" else named["bg_kind"]}, None)
        except Exception as error:
            return failed_line(self._context.sentence(error, code), code), gr.skip(), gr.skip()
        words = infer_line("", "", controls).split(".mp4", 1)[-1].strip() or text("compare.defaults", code)
        return gr.skip(), controls, text("compare.kept", code, settings=f"`{words}`")

    def _do_cancel(self, language: str, request: gr.Request) -> tuple[str, str]:
        self._context.cancel(request.session_hash or "")
        return plain_line("status.cancelled", LANGUAGES[language]), ""

    def _do_show(self, title: str | None, made: list[tuple[str, str, str]]) -> tuple:
        for known, path, line in made:
            if known == title and Path(path).is_file():
                return path, gr.update(value=path, interactive=True), line
        return gr.skip(), gr.skip(), gr.skip()

    def _do_say(self, words: str, language: str) -> tuple:
        code = LANGUAGES[language]
        try:
            return gr.skip(), str(synthesize(words, code, self._context.workspace))
        except Exception as error:
            return failed_line(self._context.sentence(error, code), code), gr.skip()
