"""The steps from video to dataset, in order; a step whose result exists is skipped."""

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.audio.offset import Offset
from data_tools.audio.sound import SAMPLE_RATE, SoundTrack, cached, load_track, save_wav
from data_tools.command_line import frames_bar
from data_tools.dataset import report
from data_tools.dataset.analyze import (
    ANALYSIS_SIZE,
    KINDS,
    TEXTURE,
    TRACK,
    Analysis,
    AnalysisJob,
    PicturesJob,
    analyze_chunk,
    decode_size,
    make_chunk,
    read_texture,
    write_picture,
)
from data_tools.dataset.arrays import describe_jumps, make_arrays, n_train_frames, with_face_model
from data_tools.dataset.settings import MIN_SECONDS, SCAN_FPS, Chunk, FrameSource, Settings, format_changes, plan, scan, tool_versions
from data_tools.errors import InputError
from data_tools.face.align import align_texture, known_face, mean_texture, pose_state, skin_brightness, skin_of
from data_tools.face.identity import check_faults
from data_tools.face.pose import INTERPOLATED_TRUST, HeadPose, canonical_landmarks, intrinsics, solve_poses
from data_tools.face.track import FaceTrack, check_gaps, fill
from data_tools.ffmpeg import VideoInfo
from data_tools.io import Workspace, settings_fingerprint, write_json, write_npz
from data_tools.jobs import run_jobs
from data_tools.landmarks68 import KnownFace
from data_tools.records import Field, check_fields, read_record
from data_tools.video import FPS, Box

logger = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "geneface_jax.subject", 1

PICTURE_THREADS = 2
"""Threads that make and write pictures in a single-process run: OpenCV releases the interpreter lock (GIL)."""

SHORT_SECONDS = 0.5
"""A note is made when picture or sound ends earlier than expected by more than this."""


class Pipeline:
    """One run.

    Args:
      settings: what to make.
      info: metadata of the video.
      out: the dataset's folder.
      name, consent: for meta.json.
      workers: processes.
      progress: whether to draw progress bars and log what was changed.
    """

    def __init__(
        self, settings: Settings, info: VideoInfo, out: Path, name: str, consent: str | None, workers: int, progress: bool
    ) -> None:
        self.settings, self.info, self.name, self.consent = settings, info, name, consent
        self.workers, self.progress = workers, progress
        self.audio_offset = settings.audio_offset  # seconds by which the sound is delayed; found later with `fix_offset`
        self.start = settings.span[0] if settings.span else 0.0
        self.length = settings.span[1] - settings.span[0] if settings.span else info.seconds
        self.work = Workspace(out)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def run(self) -> Path:
        """Makes the dataset and returns its folder.

        Raises:
          InputError: the video can't be used, or another run holds the lock of the same dataset.
        """
        with self.work.lock():
            return self._run()

    def _run(self) -> Path:
        started, size = time.time(), self.settings.size
        found = self._scan()
        box = found["box"]
        samples, sound_track = self._sound()
        cut_off = found["faults"]["cut_off"] > 0.5
        analysis, track = self._analyze(box, cut_off)
        n_frames = self._usable_frames(analysis.n_frames, len(samples))
        landmarks = track.landmarks[:n_frames] * np.float32(size)
        seen = np.isfinite(landmarks[:, 0, 0])
        landmarks = fill(landmarks)
        changes = [*self.settings.corrections.notes, *format_changes(self.info, self.settings.span, box, size, sound_track)]
        changes += [*found["changes"], *self._notes(analysis, seen, landmarks)]
        trust = np.where(seen, 1.0, INTERPOLATED_TRUST)
        with self._timed("poses"):
            pose = solve_poses(self._at_analysis_size(landmarks), ANALYSIS_SIZE, trust)
        pose, face, brightness = self._pictures(box, analysis, landmarks, pose, trust)
        samples, offset, notes = self._fix_offset(canonical_landmarks(landmarks, pose, size), samples)
        changes += notes
        with self._timed("arrays"):
            arrays = make_arrays(landmarks, seen, pose, samples, size, cached(self.settings.audio))
        if self.settings.face_model == "bfm":
            with self._timed("face model"):
                arrays = with_face_model(arrays, self.settings)
        else:
            arrays |= vars(face)
        n_samples = n_frames * SAMPLE_RATE // FPS
        samples = np.pad(samples, (0, max(n_samples - len(samples), 0)))[:n_samples]
        with self._timed("report"):
            write_npz(self.work.path("arrays.npz"), **arrays)
            save_wav(self.work.path("audio.wav"), samples)
            write_json(self.work.path("meta.json"), self._meta(box, n_frames, changes), checksum=True)
            track = FaceTrack(track.landmarks[:n_frames], track.rival[:n_frames])
            facts = report.measure(self.info, found, track, arrays, pose, samples, brightness, size, self.audio_offset, offset)
            self.seconds["total"] = round(time.time() - started, 2)
            report.write(self.work.folder, self.name, facts | {"cpu_seconds_per_step": self.cpu_seconds}, changes, self.seconds)
        result = self.work.publish(["scan.json", "analysis", TRACK, TEXTURE])
        if self.progress:
            self._log_summary(changes, facts)
        return result

    def _log_summary(self, changes: list[str], facts: dict[str, Any]) -> None:
        for change in changes:
            logger.info("  %s", change)
        if (offset := facts["offset"]["suggested_audio_offset"]) is not None:
            logger.warning(
                "  Mouth and sound are out of sync by %.0f ms: --fix-offset auto (or --fix-offset %.0f) corrects it.",
                *(facts["values"]["mouth_offset_ms"], 1000.0 * offset),
            )
        for name in report.SERIOUS:
            if facts["lights"][name] == "poor":
                check, value = report.CHECKS[name], facts["values"][name]
                logger.warning("  %s is %.3g%s: %s.", check.title, value, f" {check.unit}" if check.unit else "", check.advice)
        logger.info("  %s", ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Adds the block's wall time and CPU time (including finished children: ffmpeg, workers) to the tables."""
        start, cpu = time.time(), _cpu_seconds()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.time() - start, 2)
        self.cpu_seconds[step] = round(self.cpu_seconds.get(step, 0.0) + _cpu_seconds() - cpu, 2)

    def _scan(self) -> dict[str, Any]:
        """The crop, as the fields of `scan.Scan`; depends on the video and the trim only."""
        key, path = self.settings.scan_key, self.work.path("scan.json")
        if not self.work.done("scan", key):
            total = round(self.length * SCAN_FPS)
            bar = functools.partial(frames_bar(self.progress), desc=_title("finding the face"), total=total)
            with self._timed("scan"), self.work.step("scan", key, ["scan.json"]):
                found = scan(self.settings.video, self.info, self.settings.span, bar, MIN_SECONDS)
                check_faults(found.faults, self.start, self.length, MIN_SECONDS)
                write_json(path, {**vars(found), "box": vars(found.box)}, checksum=True)
        remedy = f"delete {self.work.folder} and run the same command again"
        record = read_record(path, {"box": Field(dict)}, remedy)
        box = check_fields(record["box"], path, dict.fromkeys(("x", "y", "size"), Field(int, low=0)), remedy)
        return {**record, "box": Box(**box)}

    def _sound(self) -> tuple[np.ndarray, SoundTrack]:
        """The clip's audio, delayed by `audio_offset`: sample 0 belongs to frame 0. And the track it is from."""
        with self._timed("sound"):
            samples, track = load_track(self.settings.video, span=self.settings.span, track=self.settings.track)
            return delayed(samples, self.settings.audio_offset), track

    def _fix_offset(self, points: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, Offset, list[str]]:
        """Finds the offset of sound and picture from `points` [T, 68, 3] in the head's frame, and corrects it if that was asked for.

        Returns:
          the samples, the offset that is left, and a note of the correction.
        """
        with self._timed("offset"):
            offset = report.mouth_offset(points, samples, self.settings.predictor)
        if not self.settings.fix_offset:
            return samples, offset, []
        if not report.believed(offset):
            return samples, offset, ["no offset of sound and picture stands out, so none was corrected"]
        self.audio_offset = round(offset.lag / FPS, 3)
        note = f"the sound was delayed by {self.audio_offset:g} s, as the lips ask for"
        return delayed(samples, self.audio_offset), dataclasses.replace(offset, lag=offset.lag - self.audio_offset * FPS), [note]

    def _run_jobs(self, title: str, function, jobs: list, n_frames: int) -> None:
        """Runs the jobs whose results don't exist yet."""
        pending = [job for job in jobs if not job.result.exists()]
        with frames_bar(self.progress)(desc=_title(title), total=n_frames) as bar:
            bar.update(n_frames - sum(len(job.chunk) for job in pending))
            run_jobs(function, pending, self.workers, bar.update)

    def _analyze(self, box: Box, cut_off: bool) -> tuple[Analysis, FaceTrack]:
        """Faces, mask layers and background: the network inference. `cut_off`: whether the picture's border cuts off the face."""
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
            check_gaps(track.found, FPS, self.start, MIN_SECONDS, cut_off)
            if not self.work.path("background.png").exists():
                write_picture(self.work.path("background.png"), analysis.background(settings.size))
        return analysis, track

    def _usable_frames(self, n_frames: int, n_samples: int) -> int:
        seconds = min(n_frames / FPS, n_samples / SAMPLE_RATE)
        if seconds < MIN_SECONDS:
            raise InputError(
                f"Only {n_frames / FPS:.1f} s of picture and {n_samples / SAMPLE_RATE:.1f} s of sound could be read from "
                f"{self.settings.video}, at least {MIN_SECONDS:g} s are needed: the file is probably cut off; copy or export it again."
            )
        return min(n_frames, -(-n_samples * FPS // SAMPLE_RATE))

    def _notes(self, analysis: Analysis, seen: np.ndarray, landmarks: np.ndarray) -> list[str]:
        """Notes for the report about the decoded frames: gaps, jumps, early ends, the applied audio offset."""
        notes = check_gaps(seen, FPS, self.start) + describe_jumps(landmarks, FPS, self.start)
        if analysis.n_frames / FPS < self.length - SHORT_SECONDS:
            notes.append(f"the picture ends after {analysis.n_frames / FPS:.1f} s, although the file says {self.length:.1f} s")
        if (silent := (analysis.n_frames - len(landmarks)) / FPS) > SHORT_SECONDS:
            notes.append(f"the last {silent:.1f} s of the picture have no sound and were left out")
        if self.settings.audio_offset:
            notes.append(f"the sound was delayed by {self.settings.audio_offset:g} s")
        return notes

    def _at_analysis_size(self, landmarks: np.ndarray) -> np.ndarray:
        return landmarks * np.float32(ANALYSIS_SIZE / self.settings.size)

    def _pictures(
        self, box: Box, analysis: Analysis, landmarks: np.ndarray, pose: HeadPose, trust: np.ndarray
    ) -> tuple[HeadPose, KnownFace, np.ndarray]:
        """Writes the pictures and samples the skin texture; returns the refined poses, the face (to pose another clip of the same person),
        and the skin's brightness [T]."""
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
                **({"audio_offset": self.audio_offset} if self.audio_offset else {}),
                **({"fix_offset": True} if settings.fix_offset else {}),
                **({"track": settings.track} if settings.track is not None else {}),
            },
            "consent": self.consent,
            "tools": tool_versions(),
        }


def delayed(samples: np.ndarray, seconds: float) -> np.ndarray:
    """[n] samples at 16 kHz with silence before them, or without their beginning if `seconds` is negative."""
    delay = round(seconds * SAMPLE_RATE)
    return np.pad(samples, (max(delay, 0), 0))[max(-delay, 0) :]


def _cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    return sum(os.times()[:4])


def _title(text: str) -> str:
    """Label of a progress bar, padded so that the bars are aligned."""
    return f"{text:<18}"
