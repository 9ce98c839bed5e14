"""The Train tab: upload of a video, data report, consent, training in another process with curves and sample pictures."""

import dataclasses
import html
from pathlib import Path
from typing import Any

import gradio as gr

from data_tools.errors import InputError
from geneface_jax.studio.context import Context
from geneface_jax.studio.i18n import LANGUAGES, Labels, text
from geneface_jax.studio.jobs import Job, JobRunner, active_stage, curves, report_rows, sample_pictures
from geneface_jax.studio.uploads import accept_video
from geneface_jax.studio.widgets import failed_line, plain_line

SIZES = [128, 256, 512]
REFRESH_SECONDS = 5.0


class TrainTab:
    """Builds the tab inside the current `gr.Blocks`; `jobs` runs the training jobs, the other arguments are as in `SpeakTab`."""

    def __init__(self, context: Context, labels: Labels, language: gr.Radio, jobs: JobRunner):
        self._context, self._runner, self._language = context, jobs, language
        add = labels.add
        add(gr.Markdown(), value="train.intro")
        with gr.Row():
            with gr.Column(scale=5):
                self._video = add(gr.Video(sources=["upload"], elem_id="train-video", buttons=[]), label="train.video")
                self._name = add(gr.Textbox(max_length=40, max_lines=1, elem_id="train-name"), label="train.name")
                self._size = add(gr.Radio(SIZES, value=256), label="train.size")
                self._prepare = add(gr.Button(elem_id="train-prepare"), value="train.prepare")
                self._consent = add(gr.Textbox(max_length=200, max_lines=1, elem_id="train-consent"), label="train.consent")
                self._agree = add(gr.Checkbox(elem_id="train-agree"), label="train.agree")
                self._start = add(gr.Button(variant="primary", elem_id="train-start"), value="train.start")
            with gr.Column(scale=6):
                self._message = gr.HTML(elem_id="train-message")
                with gr.Row():
                    self._jobs = add(gr.Dropdown(self._names(), elem_id="train-jobs", scale=3), label="train.job")
                    self._resume = add(gr.Button(elem_id="train-resume", scale=1), value="train.resume")
                    self._stop = add(gr.Button(variant="stop", elem_id="train-stop", scale=1), value="train.stop")
                self._state = gr.HTML(elem_id="train-state")
                self._log = add(gr.Textbox(interactive=False, lines=6, max_lines=6, elem_id="train-log"), label="train.log")
                self._curves = add(gr.Image(interactive=False, elem_id="train-curves", buttons=[]), label="train.curves")
                self._samples = add(gr.Gallery(columns=2, interactive=False, elem_id="train-samples"), label="train.samples")
                with add(gr.Accordion(open=False), label="train.report"):
                    self._report = gr.HTML(elem_id="train-report")
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self._prepare.click(self._do_prepare, [language, self._video, self._name, self._size], [self._message, self._jobs], **quiet)
        self._start.click(self._do_start, [language, self._jobs, self._consent, self._agree], [self._message], **quiet)
        self._resume.click(self._do_resume, [language, self._jobs], [self._message], **quiet)
        self._stop.click(self._do_stop, [language], [self._message], **quiet)
        outputs = [self._state, self._log, self._curves, self._samples, self._report]
        timer = gr.Timer(REFRESH_SECONDS)
        timer.tick(self._refresh, [language, self._jobs], outputs, **quiet)
        self._jobs.change(self._refresh, [language, self._jobs], outputs, **quiet)

    def _names(self) -> list[str]:
        return [job.name for job in self._runner.jobs()]

    def _do_prepare(self, language: str, video: str | None, name: str, size: int) -> tuple[str, Any]:
        code = LANGUAGES[language]
        try:
            folder = self._runner.require_free(name)
            if video is None and any(job.name == name for job in self._runner.jobs()):
                job = self._runner.job(name)  # analyze the video again that was uploaded before
            else:
                suffix = Path(video or "").suffix.lower()[:8]
                source = accept_video(video, folder / f"source{suffix}", self._context.workspace, self._context.limits)
                job = Job(name, "prepare", source.name, int(size))
            self._runner.start(dataclasses.replace(job, kind="prepare"))
            return self._status(name, "prepare", "running", code), gr.update(choices=self._names(), value=name)
        except Exception as error:
            return self._error(error, code), gr.skip()

    def _do_start(self, language: str, name: str | None, consent: str, agree: bool) -> str:
        code = LANGUAGES[language]
        try:
            if not agree or not (consent or "").strip():
                raise InputError(text("train.nobody", code))
            job = self._runner.job(name)
            self._runner.start(dataclasses.replace(job, kind="fit", consent=consent.strip()[:200]))
            return self._status(name, "fit", "running", code)
        except Exception as error:
            return self._error(error, code)

    def _do_resume(self, language: str, name: str | None) -> str:
        code = LANGUAGES[language]
        try:
            job = self._runner.start(self._runner.job(name))
            return self._status(job.name, job.kind, "running", code)
        except Exception as error:
            return self._error(error, code)

    def _do_stop(self, language: str) -> str:
        code = LANGUAGES[language]
        try:
            self._runner.stop()
            return plain_line("train.stopped", code)
        except Exception as error:
            return self._error(error, code)

    def _refresh(self, language: str, name: str | None) -> tuple:
        """The current state, log, curves, pictures and report of a job."""
        code = LANGUAGES[language]
        try:
            job = self._runner.job(name)
        except InputError:
            return plain_line("train.none", code), "", None, [], ""
        folder, log = self._runner.person_folder(job.name), self._runner.log(job.name)
        state = self._status(job.name, job.kind, job.state, code, log)
        rows = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in report_rows(folder))
        stage = active_stage(folder)
        if stage is None:
            return state, log, None, [], f"<table>{rows}</table>"
        return state, log, curves(folder, stage), sample_pictures(folder, stage), f"<table>{rows}</table>"

    def _status(self, name: str, kind: str, state: str, code: str, log: str = "") -> str:
        sentence = log.strip().rsplit("\n", 1)[-1]
        description = text("train.failed", code, sentence=sentence) if state == "failed" else text(f"train.{state}", code)
        line = html.escape(text("train.status", code, name=name, what=text(f"what.{kind}", code), state=description))
        return f'<div class="{"studio-error" if state == "failed" else "studio-status"}">{line}</div>'

    def _error(self, error: Exception, code: str) -> str:
        return failed_line(self._context.error_message(error, code), code)
