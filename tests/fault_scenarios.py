"""The commands whose files `tests.faults` lets fail, each at a tiny size with stand-ins for what is slow and writes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.sound import save_wav
from data_tools.encoder import EncoderOptions
from data_tools.face.crop import CropRecord, record_path, save_record
from data_tools.video import write_video
from geneface_jax.data.subject import FeatureTypes
from geneface_jax.inference.motion import AudioToMotion
from tests.faults import Scenario
from tests.tiny_person import write_person
from tests.tiny_speech import StubRenderer
from tests.toy_stage import ToyStage, toy_config

FAST = EncoderOptions(preset="ultrafast")


class _Renderer(StubRenderer):
    """Gray frames, as bright as the mouth is open."""

    def render(self, motion: np.ndarray, cameras: np.ndarray, eye_openness: np.ndarray, **_: Any) -> Iterator[np.ndarray]:
        del cameras, eye_openness
        for each in motion:
            yield np.full_like(self.subject.background, int(np.clip(100 + 20 * each.mean(), 0, 255)))


class _Speech(AudioToMotion):
    """Motion that moves a little."""

    kind = FeatureTypes()
    follows_mouth_amp = False

    def __init__(self) -> None:
        pass

    def predict(self, audio_features: np.ndarray, f0: np.ndarray, **_: Any) -> np.ndarray:
        del f0
        return np.tile(np.linspace(0, 1, len(audio_features) // 2, dtype=np.float32)[:, None], (1, 204))


def infer(folder: Path) -> Scenario:
    from geneface_jax.inference import person as module

    template, place = folder / "template", folder / "place"
    write_person(template / "anna")
    (template / "anna" / "postnet" / "checkpoints").mkdir(parents=True)
    save_wav(template / "speech.wav", 0.3 * np.sin(np.arange(6400) / 20.0).astype(np.float32))
    patches = [
        (module, "open_speech", lambda parts, subject: _Speech()),
        (module, "open_renderer", lambda parts, subject, precision="fp32": _Renderer(subject)),
    ]
    arguments = ["--subject", place / "anna", "--audio", place / "speech.wav", "--out", place / "talk.mp4", "--debug", place / "debug"]
    return Scenario("infer", template, place, [*map(str, arguments), "--preset", "ultrafast"], ["talk.mp4", "debug"], patches, _infer_check)


def _infer_check(path: Path) -> None:
    from geneface_jax.inference import provenance

    if path.is_dir():
        assert sorted(each.name for each in path.iterdir()) == ["audio.wav", "landmarks.mp4", "script.npz", "settings.json"]
        json.loads((path / "settings.json").read_text())
        return
    found = provenance.read(path)
    assert found is not None and found.person == "synthetic", "no provenance"


def export(folder: Path) -> Scenario:
    from geneface_jax import export as module

    template, place = folder / "template", folder / "place"
    write_person(template / "anna")
    (template / "anna" / "card.md").write_text("# Anna\n")
    patches = [(module.RenderStep, "serialize", lambda step, platforms: b"a render step")]
    return Scenario("export", template, place, ["--subject", str(place / "anna"), "--out", str(place / "out")], ["out"], patches)


def import_torch(folder: Path) -> Scenario:
    from tests.geneface_jax.convert.person_files import write_person as write_original

    template, place = folder / "template", folder / "place"
    truth = write_original(template, plus=True, frames=11, channels=8)
    arguments = [str(place / truth.npy.relative_to(template)), str(place / "out")]
    return Scenario("import-torch", template, place, [*arguments, "--frames", str(place / truth.processed.relative_to(template))], ["out"])


def compose(folder: Path) -> Scenario:
    template, place = folder / "template", folder / "place"
    template.mkdir(parents=True)
    write_video(template / "face.mp4", [np.full((32, 32, 3), 200, np.uint8)] * 8, np.full(6400, 0.1, np.float32), options=FAST)
    write_video(template / "scene.mp4", [np.full((64, 96, 3), 20 * i, np.uint8) for i in range(8)], None, options=FAST)
    save_record(record_path(template / "face.mp4"), CropRecord(96, 64, 32, np.array([[40.0, 20.0]]), frames=8), {"file": "scene.mp4"})
    arguments = ["--face", str(place / "face.mp4"), "--into", str(place / "scene.mp4"), "--out", str(place / "out.mp4")]
    return Scenario("compose", template, place, [*arguments, "--preset", "ultrafast"], ["out.mp4"])


def train(folder: Path) -> Scenario:
    from geneface_jax.io import checkpoints, configs
    from geneface_jax.training import devices, loop
    from geneface_jax.training.reporting import read_metrics

    template, place = folder / "template", folder / "place"
    template.mkdir(parents=True)

    def check(workdir: Path) -> None:
        for step in checkpoints.steps(workdir):
            assert checkpoints.damage(workdir, step) is None, f"step {step}: {checkpoints.damage(workdir, step)}"
        if checkpoints.steps(workdir):
            configs.load_saved(workdir)
        read_metrics(workdir)

    config = toy_config(steps=4, save_every=2, log_every=2, eval_every=4, keep=1)
    compiled: list[Any] = []

    def parallel_step(step: Any) -> Any:
        compiled[:] = compiled or [real_step(step)]
        return compiled[0]

    real_step = devices.parallel_step
    patches = [
        (configs, "load", lambda name, overrides=(): config),
        (loop, "get_stage", ToyStage),
        (devices, "parallel_step", parallel_step),
    ]
    return Scenario("train", template, place, ["--config", "toy", "--workdir", str(place / "run")], ["run"], patches, check)


def prepare(folder: Path) -> Scenario:
    """A clip of 0.6 s. The face finder and the segmenter answer what they answered the first time."""
    from data_tools.avatar.clip import render_clip
    from data_tools.dataset import analyze, pipeline, settings

    template, place = folder / "template", folder / "place"
    render_clip(folder / "clip", size=128, seconds=SECONDS)
    template.mkdir(parents=True)
    (folder / "clip" / "video.mp4").rename(template / "video.mp4")
    answers: dict[str, Any] = {}

    def known(key: str, ask: Callable[[], Any]) -> Any:
        if key not in answers:
            answers[key] = ask()
        return answers[key]

    real_find, real_open = analyze.find_faces, analyze.open_segmenter

    def find_faces(frames: Iterator[np.ndarray], fps: float) -> Any:
        pictures = list(frames)
        return known(f"faces {_digest(*pictures)}", lambda: real_find(iter(pictures), fps))

    @contextlib.contextmanager
    def open_segmenter(choice: Any) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        with contextlib.ExitStack() as stack:
            opened: list[Any] = []

            def segment(frame: np.ndarray) -> np.ndarray:
                def ask() -> np.ndarray:
                    if not opened:
                        opened.append(stack.enter_context(real_open(choice)))
                    return np.array(opened[0](frame))

                return known(f"mask {_digest(frame)}", ask)

            yield segment

    def remembered(holder: Any, name: str) -> tuple[Any, str, Any]:
        real = getattr(holder, name)
        return holder, name, lambda *args, **kwargs: known(name, lambda: real(*args, **kwargs))

    patches = [
        (settings, "MIN_SECONDS", 0.4),
        (pipeline, "MIN_SECONDS", 0.4),
        (analyze, "find_faces", find_faces),
        (analyze, "open_segmenter", open_segmenter),
        # Functions of arrays, each called once a run, and always with the same ones.
        *(remembered(pipeline, name) for name in ("scan", "solve_poses", "align_texture", "mean_texture", "make_arrays")),
    ]
    arguments = [str(place / "video.mp4"), "--out", str(place / "anna"), "--size", "64", "-q"]
    return Scenario("prepare", template, place, arguments, ["anna/dataset"], patches)


SECONDS = 0.6


def _digest(*pictures: np.ndarray) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture))
    return digest.hexdigest()


SCENARIOS: dict[str, Callable[[Path], Scenario]] = {
    "compose": compose,
    "infer": infer,
    "train": train,
    "export": export,
    "import-torch": import_torch,
    "prepare": prepare,
}
