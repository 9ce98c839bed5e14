"""The steps from video to dataset, in order, each skipped where its result stands."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_tools.audio.features import cached
from data_tools.audio.load import SAMPLE_RATE, save_wav
from data_tools.command_line import frames_bar
from data_tools.dataset import report
from data_tools.dataset.analyze import ANALYSIS_SIZE, Analysis, AnalysisJob, analyze_chunk
from data_tools.dataset.arrays import clip_sound, describe_jumps, make_arrays, n_train_frames, with_face_model
from data_tools.dataset.pictures import KINDS, TEXTURE, TRACK, PicturesJob, decode_size, make_chunk, read_texture
from data_tools.dataset.scan import LOOKS_PER_SECOND, MIN_SECONDS, Chunk, FrameSource, format_changes, plan, scan
from data_tools.dataset.settings import Settings
from data_tools.errors import InputError
from data_tools.face.align import align_texture, known_face, mean_texture, pose_state, skin_brightness, skin_of
from data_tools.face.pose import INTERPOLATED_TRUST, HeadPose, intrinsics, solve_poses
from data_tools.face.track import FaceTrack, check_gaps, fill
from data_tools.ffmpeg import VideoInfo
from data_tools.io import Workspace, settings_fingerprint, write_bytes, write_json, write_npz
from data_tools.jobs import run_jobs
from data_tools.landmarks68 import KnownFace
from data_tools.video.read import FPS, Box

FORMAT, FORMAT_VERSION = "geneface_jax.subject", 1

PICTURE_THREADS = 2
"""Threads that mask and write pictures in the single process: OpenCV works outside the interpreter lock."""

SHORT_SECONDS = 0.5
"""A picture that ends this much before the file says so is told about."""


class Pipeline:
    """One run.

    Args:
      settings: what to make.
      info: facts of the video.
      out: the dataset's folder.
      name, consent: for meta.json.
      workers: processes.
      progress: whether to draw bars and print what was changed.
    """

    def __init__(
        self, settings: Settings, info: VideoInfo, out: Path, name: str, consent: str | None, workers: int, progress: bool
    ) -> None:
        self.settings, self.info, self.name, self.consent = settings, info, name, consent
        self.workers, self.progress = workers, progress
        self.start = settings.span[0] if settings.span else 0.0
        self.length = settings.span[1] - settings.span[0] if settings.span else info.seconds
        self.work = Workspace(out)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def run(self) -> Path:
        """Makes the dataset and returns its folder.

        Raises:
          InputError: the video can't be used, or another run works on the same dataset.
        """
        with self.work.alone():
            return self._run()

    def _run(self) -> Path:
        started, size = time.time(), self.settings.size
        found = self._scan()
        box = found["box"]
        samples = self._sound()
        analysis, track = self._analyze(box)
        n_frames = self._usable_frames(analysis.n_frames, len(samples))
        landmarks = track.landmarks[:n_frames] * np.float32(size)
        seen = np.isfinite(landmarks[:, 0, 0])
        landmarks = fill(landmarks)
        changes = [*format_changes(self.info, self.settings.span, box, size), *found["changes"], *self._told(analysis, seen, landmarks)]
        trust = np.where(seen, 1.0, INTERPOLATED_TRUST)
        with self._timed("poses"):
            pose = solve_poses(self._at_analysis_size(landmarks), ANALYSIS_SIZE, trust)
        pose, known, brightness = self._pictures(box, analysis, landmarks, pose, trust)
        with self._timed("arrays"):
            arrays = make_arrays(landmarks, seen, pose, samples, size, cached(self.settings.audio))
        if self.settings.face_model == "bfm":
            with self._timed("face model"):
                arrays = with_face_model(arrays, self.settings)
        else:
            arrays |= vars(known)
        n_samples = n_frames * SAMPLE_RATE // FPS
        samples = np.pad(samples, (0, max(n_samples - len(samples), 0)))[:n_samples]
        with self._timed("report"):
            write_npz(self.work.path("arrays.npz"), **arrays)
            save_wav(self.work.path("audio.wav"), samples)
            write_json(self.work.path("meta.json"), self._meta(box, n_frames, changes))
            track = FaceTrack(track.landmarks[:n_frames], track.rival[:n_frames])
            facts = report.measure(self.info, found, track, arrays, pose, samples, brightness, size, self.settings.audio_offset)
            self.seconds["total"] = round(time.time() - started, 2)
            report.write(self.work.folder, self.name, facts | {"cpu_seconds_per_step": self.cpu_seconds}, changes, self.seconds)
        result = self.work.publish(["scan.json", "analysis", TRACK, TEXTURE])
        self._say(changes, facts)
        return result

    def _say(self, changes: list[str], facts: dict[str, Any]) -> None:
        """What the person at the keyboard should know, on stderr."""
        if not self.progress:
            return
        for change in changes:
            print(f"  {change}", file=sys.stderr)
        if (offset := facts["offset"]["suggested_audio_offset"]) is not None:
            print(f"  mouth and sound seem to be apart: look at it, and try --audio-offset {offset:g}", file=sys.stderr)
        print("  " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()), file=sys.stderr)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Adds the block's seconds, and those of all cores (ffmpeg's and workers' too, once they ended), to the tables."""
        start, cpu = time.time(), _cpu_seconds()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.time() - start, 2)
        self.cpu_seconds[step] = round(self.cpu_seconds.get(step, 0.0) + _cpu_seconds() - cpu, 2)

    def _scan(self) -> dict[str, Any]:
        """Where to crop. Depends on the video and the trim alone."""
        key, path = self.settings.scan_key, self.work.path("scan.json")
        if not self.work.done("scan", key):
            total = round(self.length * LOOKS_PER_SECOND)
            bar = functools.partial(frames_bar(self.progress), desc=_title("finding the face"), total=total)
            with self._timed("scan"), self.work.step("scan", key, ["scan.json"]):
                found = scan(self.settings.video, self.info, self.settings.span, bar)
                write_json(path, {**vars(found), "box": vars(found.box)})
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "box": Box(**found["box"])}

    def _sound(self) -> np.ndarray:
        """The clip's sound, delayed as asked."""
        with self._timed("sound"):
            samples = clip_sound(self.settings.video, self.settings.span)
            delay = round(self.settings.audio_offset * SAMPLE_RATE)
            return np.pad(samples, (max(delay, 0), 0))[max(-delay, 0) :]

    def _run_jobs(self, title: str, function, jobs: list, n_frames: int) -> None:
        """Does those jobs whose results are not there yet."""
        left = [job for job in jobs if not job.result.exists()]
        with frames_bar(self.progress)(desc=_title(title), total=n_frames) as bar:
            bar.update(n_frames - sum(len(job.chunk) for job in left))
            run_jobs(function, left, self.workers, bar.update)

    def _analyze(self, box: Box) -> tuple[Analysis, FaceTrack]:
        """Faces, mask layers and background: the slow networks."""
        settings = self.settings
        n_frames = round(self.length * FPS)
        source = FrameSource(settings.video, box, settings.span, ANALYSIS_SIZE)
        folder = self.work.path("analysis")
        jobs = [AnalysisJob(source, chunk, settings.size, settings.segmenter, folder) for chunk in plan(n_frames)]
        with self._timed("landmarks, masks"), self.work.step("analysis", settings.picture_key, ["analysis", "background.png"]):
            folder.mkdir(exist_ok=True)
            self._run_jobs("landmarks, masks", analyze_chunk, jobs, n_frames)
            analysis = Analysis.of(jobs)
            track = analysis.track()
            check_gaps(track.found, FPS, self.start)
            if not self.work.path("background.png").exists():
                picture = cv2.imencode(".png", analysis.background(settings.size)[..., ::-1])[1]
                write_bytes(self.work.path("background.png"), picture.tobytes())
        return analysis, track

    def _usable_frames(self, n_frames: int, n_samples: int) -> int:
        seconds = min(n_frames / FPS, n_samples / SAMPLE_RATE)
        if seconds < MIN_SECONDS:
            raise InputError(
                f"only {n_frames / FPS:.1f} s of picture and {n_samples / SAMPLE_RATE:.1f} s of sound could be read from "
                f"{self.settings.video}, at least {MIN_SECONDS:g} s are needed: the file is probably cut off; copy or export it again."
            )
        return min(n_frames, -(-n_samples * FPS // SAMPLE_RATE))

    def _told(self, analysis: Analysis, seen: np.ndarray, landmarks: np.ndarray) -> list[str]:
        """Sentences about what the frames turned out to be."""
        told = check_gaps(seen, FPS, self.start) + describe_jumps(landmarks, FPS, self.start)
        if analysis.n_frames / FPS < self.length - SHORT_SECONDS:
            told.append(f"the picture ends after {analysis.n_frames / FPS:.1f} s, although the file says {self.length:.1f} s")
        if (unheard := (analysis.n_frames - len(landmarks)) / FPS) > SHORT_SECONDS:
            told.append(f"the last {unheard:.1f} s of the picture have no sound and were left out")
        if self.settings.audio_offset:
            told.append(f"the sound was delayed by {self.settings.audio_offset:g} s")
        return told

    def _at_analysis_size(self, landmarks: np.ndarray) -> np.ndarray:
        return landmarks * np.float32(ANALYSIS_SIZE / self.settings.size)

    def _pictures(
        self, box: Box, analysis: Analysis, landmarks: np.ndarray, pose: HeadPose, trust: np.ndarray
    ) -> tuple[HeadPose, KnownFace, np.ndarray]:
        """Writes the pictures and, having looked at the skin on the way, returns better poses, what to know the
        person by in another clip, and the skin's brightness [T]."""
        settings, n_frames = self.settings, len(landmarks)
        source = FrameSource(settings.video, box, settings.span, decode_size(settings.size))
        chunks = [Chunk(chunk.index, chunk.first, min(chunk.end, n_frames)) for chunk in analysis.chunks if chunk.first < n_frames]
        threads = PICTURE_THREADS if self.workers == 1 else 1
        jobs = [PicturesJob(source, chunk, i, settings.size, self.work.folder, analysis, threads) for i, chunk in enumerate(chunks)]
        small = self._at_analysis_size(landmarks)
        key = settings_fingerprint(settings.picture_key, n_frames)
        with self._timed("pictures"), self.work.step("pictures", key, [*KINDS, TRACK, TEXTURE]):
            for name in (*KINDS, TEXTURE):
                self.work.path(name).mkdir(exist_ok=True)
            skin = skin_of(small, pose, ANALYSIS_SIZE)
            points = {"skin_points": skin.points, "skin_normals": skin.normals}
            write_npz(self.work.path(TRACK), landmarks=landmarks, rotation=pose.rotation, translation=pose.translation, **points)
            self._run_jobs("pictures", make_chunk, jobs, n_frames)
        with self._timed("poses"):
            samples = [functools.partial(read_texture, job.result) for job in jobs]
            pose = align_texture(samples, small, pose, trust, ANALYSIS_SIZE, n_train_frames(n_frames))
            texture = mean_texture(samples, pose_state(pose), trust, n_train_frames(n_frames))
            return pose, known_face(pose, skin, texture), np.concatenate([skin_brightness(load()) for load in samples])

    def _meta(self, box: Box, n_frames: int, changes: list[str]) -> dict[str, Any]:
        settings, info = self.settings, self.info
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "fps": FPS,
            "size": settings.size,
            "n_frames": n_frames,
            "n_train": n_train_frames(n_frames),
            "intrinsics": intrinsics(settings.size),
            "face_model": settings.face_model,
            "audio_model": settings.audio.name,
            **({"audio_weights": settings.audio.weights} if settings.audio.weights else {}),
            "crop": {
                "x": box.x,
                "y": box.y,
                "size": box.size,
                "source_width": info.width,
                "source_height": info.height,
                "trim": list(settings.span) if settings.span else None,
            },
            "source": {
                "file": settings.video.name,
                "sha256": settings.sha256,
                "fps": info.fps,
                "changes": changes,
                "recipe": settings.recipe,
                **({"audio_offset": settings.audio_offset} if settings.audio_offset else {}),
            },
            "consent": self.consent,
            "tools": {package: importlib.metadata.version(package) for package in ("mediapipe", "numpy", "librosa", "scipy")},
        }


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _title(text: str) -> str:
    """Bars stand under each other."""
    return f"{text:<18}"
