"""The PostNet tab: which PostNet checkpoint of a person to use, and the landmarks of each candidate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from data_tools.audio.features import FPS
from data_tools.audio.load import SAMPLE_RATE, load_audio
from data_tools.errors import InputError
from data_tools.landmarks68 import mean_face
from data_tools.video.write import write_video
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints
from geneface_jax.rendering.landmark_video import landmark_frames
from geneface_jax.studio.context import LANDMARK_SIZE, Context, RenderProgress
from geneface_jax.studio.i18n import LANGUAGES, Labels, text
from geneface_jax.studio.uploads import accept_audio
from geneface_jax.studio.widgets import failed_line, idle_line, plain_line, progress_line, status_lines
from geneface_jax.training.reporting import draw_curves
from geneface_jax.training.select_postnet import COLUMNS, charts, select


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
            wav = accept_audio(audio, context.workspace, context.limits)
            job = context.queue.submit()
            for ahead in context.queue.wait(job):
                yield progress_line(RenderProgress(ahead), code), gr.skip()
            yield plain_line("status.opening", code), gr.skip()
            out = context.workspace.new_file("results", ".mp4")
            draw_candidate(workdir, step, wav, out, context.limits.preview_seconds)
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
