"""The page of the studio: its language switch and tabs, and the Speak tab (person, recording or typed text, controls, history)."""

import contextlib
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
from geneface_jax.io.person_folder import person_argument
from geneface_jax.studio import widgets
from geneface_jax.studio.i18n import LANGUAGES, Labels, language_of, text
from geneface_jax.studio.jobs import JobRunner
from geneface_jax.studio.people import ListedPerson
from geneface_jax.studio.render_queue import Cancelled, Context, Portraits, RenderJob, RenderProgress, RenderTask
from geneface_jax.studio.train_tab import PostnetTab, TrainTab
from geneface_jax.studio.uploads import SessionFolder, accept_audio, accept_picture, check_picture, check_recording

# -------- The Speak tab: person, recording or typed text, controls, previews, the video, a comparison, the history

# -------- The equivalent command line of a render


def infer_command(subject: str, audio: str, controls: Controls, out: str = "video.mp4") -> str:
    """`geneface infer ...` with every control that differs from its default, quoted for a shell.

    Args:
      subject, audio, out: names for display: the visitor's file names, not those of the private folder.
      controls: an uploaded background picture also has the visitor's file name.
    """
    if controls.bg == TRANSPARENT:
        out = out.removesuffix(".mp4") + ".webm"
    command = ["geneface", "infer", "--subject", subject, "--audio", audio, "--out", out]
    for field in dataclasses.fields(controls):
        value = getattr(controls, field.name)
        if value != field.default:
            command += [flag(field.name), f"{value}"]
    return shlex.join(command)


# -------- Text to speech with the program espeak-ng, if it is installed; run as a subprocess, never linked (its license is the GPL)

PROGRAM = "espeak-ng"
MAX_CHARACTERS = 2000
SYNTHESIS_SECONDS = 60.0
VOICES = {"en": "en-us", "zh": "cmn"}


def synthesizer_available() -> bool:
    """Whether the speech synthesizer is installed."""
    return shutil.which(PROGRAM) is not None


def synthesize(typed: str, language: str, workspace: SessionFolder) -> Path:
    """Synthesizes a text to a wav in the private folder; the text is passed through a pipe, so it can't be read as an option.

    Raises:
      InputError: the text is empty or too long, or the synthesizer failed.
    """
    typed = (typed or "").strip()
    if not typed or len(typed) > MAX_CHARACTERS:
        raise InputError(f"The text has {len(typed)} characters: type 1 to {MAX_CHARACTERS}.")
    # Gradio shows a file of its own folder without copying it.
    wav = workspace.new_file("cache", ".wav")
    command = [PROGRAM, "-v", VOICES[language], "-w", str(wav), "--stdin"]
    try:
        failed = subprocess.run(command, input=typed.encode(), capture_output=True, check=False, timeout=SYNTHESIS_SECONDS).returncode
    except subprocess.TimeoutExpired:
        failed = True
    if failed or not wav.is_file():
        wav.unlink(missing_ok=True)
        raise InputError("The speech synthesizer failed on this text: record it instead.")
    return wav


# -------- The tab's components and events

HISTORY = 20
"""Number of videos in the page's history."""


@dataclasses.dataclass(frozen=True)
class RenderInputs:
    """The checked inputs of a render, nothing decoded yet.

    Attributes:
      person: who speaks.
      audio: the uploaded recording.
      picture: the uploaded background picture, or None.
      controls: validated; `bg` names the uploaded picture.
      command: the equivalent command line.
    """

    person: ListedPerson
    audio: str
    picture: str | None
    controls: Controls
    command: str


class SpeakTab:
    """Builds the tab inside the current `gr.Blocks`.

    Args:
      context: the studio.
      labels: collects the components to translate.
      language: the component with the language's name.

    Attributes:
      person, portrait, consent, broken: the components with the person's name, picture and consent, and with the broken persons.
    """

    def __init__(self, context: Context, labels: Labels, language: gr.Radio):
        self._context, self._labels, self._language = context, labels, language
        self._portraits = Portraits(context)
        with gr.Row():
            with gr.Column(scale=5):
                self._build_person()
                self._build_speech()
                self._widgets = widgets.ControlWidgets.build(labels)
            with gr.Column(scale=6):
                self._build_results()
        self._connect_events()

    def show_person(self, name: str | None, language: str) -> tuple[Any, str]:
        """The portrait and the consent of the chosen person."""
        code = LANGUAGES[language]
        if name is None:
            return None, text("person.none", code)
        try:
            person = self._context.people.get(name)
            stated = html.escape(person.consent) or text("consent.none", code)
            return self._portraits.get(person), text("consent", code, consent=stated)
        except Exception as error:  # a missing portrait must not keep the page from opening
            return None, html.escape(self._context.error_message(error, code))

    def broken_lines(self, code: str) -> str:
        """The persons that can't be used, with the reasons; "" if there are none."""
        reasons = [self._context.without_folders(person.reason) for person in self._context.people.broken()]
        return widgets.status_lines(text("people.broken", code), *reasons) if reasons else ""

    def _build_person(self) -> None:
        names = self._context.people.names()
        add = self._labels.add
        with gr.Row():
            self.person = add(gr.Radio(names, value=names[0] if names else None, elem_id="person"), label="person")
            self.portrait = add(
                gr.Image(interactive=False, height=180, width=180, elem_id="portrait", buttons=[], min_width=180), label="portrait"
            )
        self.consent = gr.Markdown(elem_id="consent")
        self.broken = gr.HTML(self.broken_lines("en"), elem_id="broken")

    def _build_speech(self) -> None:
        add = self._labels.add
        self._audio = add(gr.Audio(type="filepath", sources=["upload", "microphone"], elem_id="audio"), label="audio")
        with gr.Row(visible=synthesizer_available()):
            self._text = add(gr.Textbox(max_length=MAX_CHARACTERS, lines=2, scale=4), label="speech.text")
            self._synthesize = add(gr.Button(scale=1), value="speech.say")

    def _build_results(self) -> None:
        add = self._labels.add
        with gr.Row():
            self._preview = add(gr.Button(elem_id="preview"), value="preview")
            self._landmarks = add(gr.Button(elem_id="landmarks"), value="landmarks")
            self._stream = add(gr.Button(elem_id="stream"), value="stream")
        with gr.Row():
            self._render = add(gr.Button(variant="primary", elem_id="render", scale=3), value="render")
            self._cancel = add(gr.Button(variant="stop", elem_id="cancel", scale=1), value="cancel")
        self._status = gr.HTML(widgets.idle_line("en"), elem_id="status")
        self._picture = add(gr.Image(interactive=False, visible=False, elem_id="preview-image", buttons=[]), label="preview.image")
        self._landmark_video = add(gr.Video(interactive=False, visible=False, elem_id="preview-video"), label="preview.video")
        self._player = gr.HTML(elem_id="player")
        self._result = add(gr.Video(interactive=False, elem_id="result", buttons=[]), label="result")
        self._download = add(gr.DownloadButton(elem_id="download", interactive=False), label="download")
        self._command = add(gr.Textbox(interactive=False, lines=2, elem_id="command", buttons=["copy"]), label="command")
        self._videos = gr.State([])
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

    def _connect_events(self) -> None:
        settings = [self._language, self.person, self._audio, *self._widgets.components]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # Renders wait in the studio's render queue, which reports the position; Gradio's queue must not limit them as well.
        render = {**private, "concurrency_limit": None}
        self.person.change(self.show_person, [self.person, self._language], [self.portrait, self.consent], **private)
        self._preview.click(self._do_preview, settings, [self._status, self._picture, self._command], **render)
        self._landmarks.click(self._do_landmarks, settings, [self._status, self._landmark_video, self._command], **render)
        outputs = [self._status, self._result, self._download, self._command, self._history, self._videos]
        self._render.click(self._do_render, [*settings, self._videos], outputs, **render)
        self._stream.click(self._do_stream, settings, [self._status, self._player, self._command], **render)
        self._cancel.click(self._do_cancel, [self._language], [self._status, self._player], queue=False, **private)
        self._keep.click(self._do_keep, settings, [self._status, self._first, self._kept], **private)
        self._compare.click(self._do_compare, [*settings, self._first], [self._status, self._compared], **render)
        self._show.click(self._do_show, [self._history, self._videos], [self._result, self._download, self._command], **private)
        self._synthesize.click(self._do_synthesize, [self._text, self._language], [self._status, self._audio], **private)

    def _check_inputs(self, values: Sequence[Any]) -> "RenderInputs":
        """Checks the inputs of a render as far as nothing has to be decoded."""
        name, audio, named = values[0], values[1], self._widgets.named(values[2:])
        context = self._context
        person = context.people.get(name)
        picture = named["bg_picture"] if named["bg_kind"] == "picture" else None
        if picture:
            check_picture(picture, context.workspace, context.limits)
        controls = widgets.controls_from(named, picture or None)
        check_recording(audio, context.workspace, context.limits)
        displayed = controls if not picture else dataclasses.replace(controls, bg=Path(picture).name)
        command = infer_command(person_argument(person.parts.folder), Path(audio).name, displayed)
        return RenderInputs(person, audio, picture or None, controls, command)

    @contextlib.contextmanager
    def _decoded(self, inputs: "RenderInputs", keep: bool = False) -> Iterator[tuple[Path, Path | None, Controls]]:
        """Decodes the recording and the background picture, which needs the running job: (wav, png or None, controls).

        The files are deleted at the end of the block, or, with `keep`, only if it raises.
        """
        files: list[Path] = []
        context = self._context
        try:
            wav = accept_audio(inputs.audio, context.workspace, context.limits)
            files.append(wav)
            png, controls = None, inputs.controls
            if inputs.picture:
                png = accept_picture(inputs.picture, context.workspace, context.limits)
                files.append(png)
                controls = dataclasses.replace(controls, bg=str(png))
            yield wav, png, controls
            if keep:
                files.clear()
        finally:
            for path in files:
                path.unlink(missing_ok=True)

    def _run_job(
        self,
        request: gr.Request,
        language: str,
        values: Sequence[Any],
        start: Callable[[RenderJob, ListedPerson, Path, Controls], RenderTask[Any]],
        show: Callable[[Any, ListedPerson, str], tuple],
        outputs: int,
    ) -> Iterator[tuple]:
        """Runs a render task in the queue and yields the values of the status and the other outputs; errors go to the error box.

        Args:
          values: of the components that `_check_inputs` reads.
          start: starts the render task.
          show: (result, person, command line) -> values of the outputs after the status.
          outputs: number of these outputs; they are unchanged until the task is finished.
        """
        code, unchanged = LANGUAGES[language], (gr.skip(),) * outputs
        session, job = request.session_hash or "", None
        try:
            job = self._context.submit(session)
            started = time.monotonic()
            inputs = self._check_inputs(values)
            for ahead in self._context.queue.wait(job):
                yield widgets.progress_line(RenderProgress(ahead), code), *unchanged
            with self._decoded(inputs) as (wav, _, controls):
                task = start(job, inputs.person, wav, controls)
                while True:
                    try:
                        progress = next(task)
                    except StopIteration as end:
                        result = end.value
                        break
                    yield widgets.progress_line(progress, code), *unchanged
            yield widgets.done_line(time.monotonic() - started, code), *show(result, inputs.person, inputs.command)
        except Cancelled:
            yield widgets.plain_line("status.cancelled", code), *unchanged
        except Exception as error:  # any failure must be shown, and the page must stay usable
            yield widgets.failed_line(self._context.error_message(error, code), code), *unchanged
        finally:
            if job is not None:
                self._context.finish(session, job)

    def _do_preview(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        yield from self._run_job(request, language, values, self._context.renders.first_frame, _show_preview, 2)

    def _do_landmarks(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        yield from self._run_job(request, language, values, self._context.renders.landmarks, _show_preview, 2)

    def _do_render(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        *values, history = values

        def show(path: Path, person: ListedPerson, command: str) -> tuple:
            title = f"{time.strftime('%H:%M:%S')} {person.name}, {Path(values[1]).name}"
            videos = [(title, str(path), command), *history][:HISTORY]
            titles = [entry[0] for entry in videos]
            return str(path), gr.update(value=str(path), interactive=True), command, gr.update(choices=titles, value=titles[0]), videos

        yield from self._run_job(request, language, values, self._context.renders.video, show, 5)

    def _do_stream(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        code, context = LANGUAGES[language], self._context
        session, job = request.session_hash or "", None
        try:
            job = context.submit(session)
            inputs = self._check_inputs(values)
            for ahead in context.queue.wait(job):
                yield widgets.progress_line(RenderProgress(ahead), code), gr.skip(), gr.skip()
            # What is wrong with the recording is told here, where there is a place for sentences.
            with self._decoded(inputs, keep=True) as (wav, png, controls):
                token = context.register_stream(inputs.person, wav, controls, png)
            player = f'<video src="{context.root_path}/stream/{token}" autoplay controls playsinline style="width:100%"></video>'
            yield widgets.plain_line("status.streaming", code), player, inputs.command
        except Cancelled:
            yield widgets.plain_line("status.cancelled", code), gr.skip(), gr.skip()
        except Exception as error:
            yield widgets.failed_line(context.error_message(error, code), code), gr.skip(), gr.skip()
        finally:
            if job is not None:
                context.finish(session, job)

    def _do_compare(self, request: gr.Request, language: str, *values: Any) -> Iterator[tuple]:
        *values, first = values

        def start(job: RenderJob, person: ListedPerson, wav: Path, controls: Controls) -> RenderTask[Path]:
            return self._context.renders.comparison(job, person, wav, (first, controls))

        yield from self._run_job(request, language, values, start, lambda path, person, command: (str(path),), 1)

    def _do_keep(self, language: str, *values: Any) -> tuple:
        code = LANGUAGES[language]
        try:
            named = self._widgets.named(values[2:])
            controls = widgets.controls_from({**named, "bg_kind": "original" if named["bg_kind"] == "picture" else named["bg_kind"]}, None)
        except Exception as error:
            return widgets.failed_line(self._context.error_message(error, code), code), gr.skip(), gr.skip()
        options = infer_command("", "", controls).split(".mp4", 1)[-1].strip() or text("compare.defaults", code)
        return gr.skip(), controls, text("compare.kept", code, settings=f"`{options}`")

    def _do_cancel(self, language: str, request: gr.Request) -> tuple[str, str]:
        self._context.cancel(request.session_hash or "")
        return widgets.plain_line("status.cancelled", LANGUAGES[language]), ""

    def _do_show(self, chosen: str | None, videos: list[tuple[str, str, str]]) -> tuple:
        for title, path, command in videos:
            if title == chosen and Path(path).is_file():
                return path, gr.update(value=path, interactive=True), command
        return gr.skip(), gr.skip(), gr.skip()

    def _do_synthesize(self, typed: str, language: str) -> tuple:
        code = LANGUAGES[language]
        try:
            return gr.skip(), str(synthesize(typed, code, self._context.workspace))
        except Exception as error:
            return widgets.failed_line(self._context.error_message(error, code), code), gr.skip()


def _show_preview(result: np.ndarray | Path, person: ListedPerson, command: str) -> tuple:
    return gr.update(value=str(result) if isinstance(result, Path) else result, visible=True), command


# -------- The page: a header with the language switch, and the tabs

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
            train = TrainTab(context, labels, language, jobs)
        with labels.add(gr.Tab(id="postnet"), label="tab.postnet"):
            postnet = PostnetTab(context, labels, language)

        def leave(request: gr.Request) -> None:
            """Cancels the job of a closed page."""
            context.cancel(request.session_hash or "")

        def translate(chosen: str, person: str | None) -> list[Any]:
            code = LANGUAGES[chosen]
            heading = f"# {text('title', code)}\n{text('tagline', code)}"
            return [heading, *labels.updates(code), speak.show_person(person, chosen)[1], speak.broken_lines(code)]

        def load(request: gr.Request) -> list[Any]:
            """A new page: the current lists of persons and jobs, the browser's language, the first portrait."""
            names = context.people.names()
            code = language_of(request.headers.get("accept-language"))
            chosen = next(name for name, value in LANGUAGES.items() if value == code)
            person = names[0] if names else None
            choices, jobs_choices = gr.update(choices=names, value=person), gr.update(choices=train.names())
            return [choices, choices, jobs_choices, chosen, speak.broken_lines(code), *speak.show_person(person, chosen)]

        outputs = [heading, *labels.components, speak.consent, speak.broken]
        language.change(translate, [language, speak.person], outputs, api_visibility="private", show_progress="hidden")
        loaded = [speak.person, postnet.person, train.jobs, language, speak.broken, speak.portrait, speak.consent]
        page.load(load, None, loaded, api_visibility="private", show_progress="hidden")
        page.unload(leave)
    return page
