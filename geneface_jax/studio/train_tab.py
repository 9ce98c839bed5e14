"""The Train and PostNet tabs: data report, consent, training jobs with their curves, and choosing a PostNet checkpoint."""

import dataclasses
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from data_tools.audio.sound import FPS, SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.landmarks68 import mean_face
from data_tools.video import write_video
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.studio.i18n import LANGUAGES, Labels, text
from geneface_jax.studio.jobs import Job, JobRunner, active_stage, curves, report_rows, sample_pictures
from geneface_jax.studio.render_queue import LANDMARK_SIZE, Context, RenderProgress
from geneface_jax.studio.uploads import accept_audio, check_recording, check_video
from geneface_jax.studio.widgets import failed_line, idle_line, plain_line, progress_line, status_lines
from geneface_jax.training.reporting import draw_curves
from geneface_jax.training.select_postnet import COLUMNS, charts, select

# -------- The Train tab: upload of a video, data report, consent, training in another process with curves and sample pictures

SIZES = [128, 256, 512]
REFRESH_SECONDS = 5.0


class TrainTab:
    """Builds the tab inside the current `gr.Blocks`; `jobs` runs the training jobs, the other arguments are as in `SpeakTab`.

    Attributes:
      jobs: the component with the names of the jobs.
    """

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
                    self.jobs = add(gr.Dropdown(self.names(), elem_id="train-jobs", scale=3), label="train.job")
                    self._resume = add(gr.Button(elem_id="train-resume", scale=1), value="train.resume")
                    self._stop = add(gr.Button(variant="stop", elem_id="train-stop", scale=1), value="train.stop")
                self._state = gr.HTML(elem_id="train-state")
                self._log = add(gr.Textbox(interactive=False, lines=6, max_lines=6, elem_id="train-log"), label="train.log")
                self._curves = add(gr.Image(interactive=False, elem_id="train-curves", buttons=[]), label="train.curves")
                self._samples = add(gr.Gallery(columns=2, interactive=False, elem_id="train-samples"), label="train.samples")
                with add(gr.Accordion(open=False), label="train.report"):
                    self._report = gr.HTML(elem_id="train-report")
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self._prepare.click(self._do_prepare, [language, self._video, self._name, self._size], [self._message, self.jobs], **quiet)
        self._start.click(self._do_start, [language, self.jobs, self._consent, self._agree], [self._message], **quiet)
        self._resume.click(self._do_resume, [language, self.jobs], [self._message], **quiet)
        self._stop.click(self._do_stop, [language], [self._message], **quiet)
        outputs = [self._state, self._log, self._curves, self._samples, self._report]
        timer = gr.Timer(REFRESH_SECONDS)
        timer.tick(self._refresh, [language, self.jobs], outputs, **quiet)
        self.jobs.change(self._refresh, [language, self.jobs], outputs, **quiet)

    def names(self) -> list[str]:
        """Names of the people with a job."""
        return [job.name for job in self._runner.jobs()]

    def _do_prepare(self, language: str, video: str | None, name: str, size: int) -> tuple[str, Any]:
        code, context = LANGUAGES[language], self._context
        try:
            self._runner.require_free(name)
            if video is None and any(job.name == name for job in self._runner.jobs()):
                # Analyze the video again that was uploaded before.
                self._runner.start(dataclasses.replace(self._runner.job(name), kind="prepare"))
            else:
                source = check_video(video, context.workspace, context.limits)
                suffix = source.suffix.lower()
                job = Job(name, "prepare", f"source{suffix if re.fullmatch(r'[.][a-z0-9]{1,7}', suffix) else ''}", int(size))
                self._runner.start(job, source)
            return self._status(name, "prepare", "running", code), gr.update(choices=self.names(), value=name)
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
        try:
            rows = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in report_rows(folder))
            report = f"<table>{rows}</table>"
        except Exception as error:  # a damaged file must not hide the state of the job
            report = self._error(error, code)
        try:
            stage = active_stage(folder)
            return state, log, curves(folder, stage) if stage else None, sample_pictures(folder, stage) if stage else [], report
        except Exception as error:
            return state + self._error(error, code), log, None, [], report

    def _status(self, name: str, kind: str, state: str, code: str, log: str = "") -> str:
        sentence = log.strip().rsplit("\n", 1)[-1]
        description = text("train.failed", code, sentence=sentence) if state == "failed" else text(f"train.{state}", code)
        line = html.escape(text("train.status", code, name=name, what=text(f"what.{kind}", code), state=description))
        return f'<div class="{"studio-error" if state == "failed" else "studio-status"}">{line}</div>'

    def _error(self, error: Exception, code: str) -> str:
        return failed_line(self._context.error_message(error, code), code)


# -------- The PostNet tab: which PostNet checkpoint of a person to use, and the landmarks of each candidate


class PostnetTab:
    """Builds the tab inside the current `gr.Blocks`; arguments and `person` as in `SpeakTab`."""

    def __init__(self, context: Context, labels: Labels, language: gr.Radio):
        self._context = context
        add, names = labels.add, context.people.names()
        add(gr.Markdown(), value="postnet.intro")
        with gr.Row():
            self.person = add(gr.Dropdown(names, value=names[0] if names else None, elem_id="postnet-person"), label="person")
            self._inspect = add(gr.Button(elem_id="postnet-look"), value="postnet.look")
        self._message = gr.HTML(elem_id="postnet-message")
        self._curves = add(gr.Image(interactive=False, elem_id="postnet-curves", buttons=[]), label="postnet.curves")
        self._table = add(gr.Dataframe(headers=["rank", *COLUMNS, "reason"], interactive=False), label="postnet.table")
        with gr.Row():
            with gr.Column():
                self._audio = add(gr.Audio(type="filepath", sources=["upload", "microphone"], elem_id="postnet-audio"), label="audio")
                self._step = add(gr.Dropdown([], elem_id="postnet-step"), label="postnet.step")
                self._draw = add(gr.Button(elem_id="postnet-draw"), value="postnet.draw")
            self._video = add(gr.Video(interactive=False, elem_id="postnet-video"), label="postnet.video")
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        outputs = [self._message, self._curves, self._table, self._step]
        self._inspect.click(self._do_inspect, [language, self.person], outputs, **quiet)
        self._draw.click(self._do_draw, [language, self.person, self._step, self._audio], [self._message, self._video], **quiet)

    def _do_inspect(self, language: str, name: str | None) -> tuple:
        code = LANGUAGES[language]
        steps: list[int] = []
        try:
            workdir = self._context.people.get(name).parts.folder / "postnet"
            steps = checkpoints.steps(workdir)
            chosen = select(workdir)
            picture = draw_curves(charts(str(workdir)), chosen.step, f"{name}: {chosen.step}")
            rows = [[c.rank, *(_cell(getattr(c, column)) for column in COLUMNS), c.reason] for c in chosen.candidates]
            message = status_lines(text("postnet.recommended", code, step=chosen.step, verdict=chosen.verdict), *chosen.findings)
            return message, picture, rows, gr.update(choices=steps, value=chosen.step)
        except Exception as error:
            # A released person has no curves, but its checkpoints can be drawn.
            message = failed_line(self._context.error_message(error, code), code)
            return message, None, None, gr.update(choices=steps, value=steps[-1] if steps else None)

    def _do_draw(self, language: str, name: str | None, step: int | None, audio: str | None) -> Iterator[tuple]:
        code, context = LANGUAGES[language], self._context
        job = None
        try:
            workdir = context.people.get(name).parts.folder / "postnet"
            if step not in checkpoints.steps(workdir):
                raise InputError("No candidate is chosen: choose one from the list first.")
            check_recording(audio, context.workspace, context.limits)
            context.quota.require()
            job = context.queue.submit()
            for ahead in context.queue.wait(job):
                yield progress_line(RenderProgress(ahead), code), gr.skip()
            yield plain_line("status.opening", code), gr.skip()
            wav = accept_audio(audio, context.workspace, context.limits)
            out = context.workspace.new_file("results", ".mp4")
            try:
                draw_candidate(workdir, step, wav, out, context.limits.preview_seconds)
            finally:
                wav.unlink(missing_ok=True)
            yield idle_line(code), str(out)
        except Exception as error:
            yield failed_line(context.error_message(error, code), code), gr.skip()
        finally:
            if job is not None:
                context.queue.remove(job)


def draw_candidate(workdir: Path, step: int, wav: Path, out: Path, seconds: float) -> None:
    """Draws the landmarks of the first seconds: VAE alone (left) and with this PostNet (right). Raises as `AudioToMotion.load`."""
    samples = load_audio(wav)[: round(seconds * SAMPLE_RATE)]
    motions = []
    for stage in ("vae", "postnet"):
        speech = AudioToMotion.load(workdir, step=step, stage=stage)
        features, f0 = audio_features(speech.kind.audio_model).compute(samples, -(-len(samples) * FPS // SAMPLE_RATE))
        motions.append(speech.predict(features, f0))
    write_video(out, landmark_frames(motions, ["VAE", f"PostNet {step}"], mean_face(), LANDMARK_SIZE), samples)


def _cell(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4f}"
