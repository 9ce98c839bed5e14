"""From a talking video to a subject dataset (docs/file-formats.md), step by step and resumable.

`python -m data_tools.prepare VIDEO DATASET_DIR [--size 512] [--trim A-B]`
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from data_tools.audio.features import MEL_F0, AudioFeatures
from data_tools.audio.load import SAMPLE_RATE, save_wav
from data_tools.dataset import report
from data_tools.dataset.analyse import ANALYSIS_SIZE, analyse
from data_tools.dataset.arrays import make_arrays, n_train_frames
from data_tools.dataset.pictures import KINDS, make_all
from data_tools.dataset.scan import LOOKS_PER_SECOND, MIN_SECONDS, check_video, format_changes, parse_trim, scan
from data_tools.dataset.sound import clip_sound
from data_tools.dataset.workspace import (
    Workspace,
    file_sha256,
    fingerprint,
    full_disk_told,
    read_npz,
    write_bytes,
    write_json,
    write_npz,
)
from data_tools.errors import InputError
from data_tools.face.align import align_texture
from data_tools.face.pose import HeadPose, intrinsics, solve_poses
from data_tools.face.track import check_gaps, fill
from data_tools.video.read import FPS, Box, frames

FORMAT, FORMAT_VERSION = "geneface_jax.subject", 1
RECIPE_VERSION = 3
"""Raised when the steps change so that datasets should be made again."""

INTERPOLATED_TRUST = 0.05
"""Weight of a frame's landmarks in the pose estimate where they were interpolated."""


def prepare(
    video: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    size: int = 512,
    trim: str | tuple[float, float] | None = None,
    face_model: str = "mediapipe",
    audio: AudioFeatures = MEL_F0,
    name: str | None = None,
    consent: str | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Makes a subject dataset from a video of one talking person.

    The work goes on in `<out_dir>.partial`; what was finished there is not done again, and `out_dir` appears by one rename. A dataset that
    stands already is kept when it was made from the same video with the same parameters.

    Args:
      video: local file, at least 3 s, with sound.
      out_dir: the dataset folder, usually `SUBJECT/dataset`.
      size: height and width of the pictures, an even number of pixels from 64 to 2048.
      trim: seconds to use, "A-B" or (A, B).
      face_model: "mediapipe".
      audio: the audio features; others than mel_f0 come with their own code (see `geneface_jax.inference.audio_features`).
      name: name of the person; the folder above `out_dir` without it.
      consent: who agreed to this use, and when.
      workers: threads that write pictures.
      progress: whether to draw progress bars and print what was changed.

    Returns:
      `out_dir`.

    Raises:
      InputError: the video or a parameter can't be used; an earlier dataset is left as it was.
    """
    video, out = Path(video), Path(out_dir)
    span = parse_trim(trim)
    if face_model != "mediapipe":
        raise InputError(f"the face model {face_model} is not available: use mediapipe.")
    if not (64 <= size <= 2048 and size % 2 == 0):
        raise InputError(f"a picture size of {size} is not possible: choose an even number from 64 to 2048, for example 256 or 512.")
    info, span = check_video(video, span)
    sha256 = file_sha256(video)
    recipe = fingerprint(RECIPE_VERSION, sha256, span, size, face_model, audio.recipe)
    name = name or out.absolute().parent.name
    if kept := _standing(out, recipe, name, consent):
        return kept
    with full_disk_told(out):
        return _Preparation(video, out, info, span, size, audio, sha256, recipe, name, consent, workers, progress).run()


def _standing(out: Path, recipe: str, name: str, consent: str | None) -> Path | None:
    """The dataset that is there already, when this recipe made it; name and consent are brought up to date."""
    try:
        meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
        if meta["source"]["recipe"] != recipe:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    updated = {**meta, "name": name, "consent": consent if consent is not None else meta.get("consent")}
    if updated != meta:
        write_json(out / "meta.json", updated)
    return out


class _Preparation:
    """One run: the steps in order, each skipped where its result stands."""

    def __init__(self, video, out, info, span, size, audio, sha256, recipe, name, consent, workers, progress) -> None:
        self.video, self.info, self.span, self.size, self.audio = video, info, span, size, audio
        self.sha256, self.recipe, self.name, self.consent = sha256, recipe, name, consent
        self.workers, self.progress = max(workers, 1), progress
        self.work = Workspace(out)
        self.seconds: dict[str, float] = {}
        self.started = time.time()

    def run(self) -> Path:
        found = self._scan()
        samples = self._sound()
        n_frames = round(self._length() * FPS)
        landmarks, confidence, background = self._analyse(found, n_frames)
        self._check_length(len(landmarks), len(samples))
        n_frames = min(len(landmarks), -(-len(samples) * FPS // SAMPLE_RATE))
        landmarks, confidence = landmarks[:n_frames], confidence[:n_frames]
        seen = np.isfinite(landmarks[:, 0, 0])
        changes = format_changes(self.info, self.span, found["box"], self.size) + found["changes"]
        changes += check_gaps(seen, FPS, self.span[0] if self.span else 0.0)
        landmarks = fill(landmarks)
        pose = self._poses(found["box"], landmarks, seen)
        self._pictures(found["box"], landmarks, confidence, background)
        with self._timed("arrays"):
            arrays = make_arrays(landmarks, seen, pose, samples, self.size, self.audio)
            write_npz(self.work.path("arrays.npz"), **arrays)
            samples = np.pad(samples, (0, max(n_frames * SAMPLE_RATE // FPS - len(samples), 0)))[: n_frames * SAMPLE_RATE // FPS]
            save_wav(self.work.path("audio.wav"), samples)
        write_json(self.work.path("meta.json"), self._meta(found, n_frames, changes))
        with self._timed("report"):
            facts = report.measure(self.info, found, arrays, pose, samples, self.size, changes)
            self.seconds["total"] = round(time.time() - self.started, 2)
            report.write(self.work.folder, self.name, facts, self.seconds)
        result = self.work.publish(["scan.json", "analysis.npz"])
        if self.progress:
            for change in changes:
                print(f"  {change}", file=sys.stderr)
            print("  " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in self.seconds.items()), file=sys.stderr)
        return result

    def _length(self) -> float:
        return self.span[1] - self.span[0] if self.span else self.info.seconds

    def _timed(self, step: str) -> _Timer:
        return _Timer(self.seconds, step)

    def _bar(self, title: str, total: float):
        return functools.partial(tqdm, desc=f"{title:<18}", total=round(total), unit="frame", disable=not self.progress, leave=True)

    def _scan(self) -> dict[str, Any]:
        """Where to crop. Depends on the video and the trim alone."""
        key, path = fingerprint(RECIPE_VERSION, self.sha256, self.span), self.work.path("scan.json")
        if not self.work.done("scan", key):
            with self._timed("scan"), self.work.step("scan", key, ["scan.json"]):
                found = scan(self.video, self.info, self.span, self._bar("finding the face", self._length() * LOOKS_PER_SECOND))
                write_json(path, {**vars(found), "box": vars(found.box)})
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "box": Box(**found["box"])}

    def _sound(self) -> np.ndarray:
        with self._timed("sound"):
            return clip_sound(self.video, self.span)

    def _analyse(self, found: dict[str, Any], n_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Landmarks, person confidence, background: the slow networks."""
        names = ["analysis.npz", "background.png"]
        if not self.work.done("analysis", self.recipe):
            with self._timed("landmarks, masks"), self.work.step("analysis", self.recipe, names):
                bar = self._bar("landmarks, masks", n_frames)
                landmarks, confidence, background = analyse(self.video, found["box"], self.span, self.size, n_frames, bar)
                check_gaps(np.isfinite(landmarks[:, 0, 0]), FPS, self.span[0] if self.span else 0.0)
                write_bytes(self.work.path(names[1]), cv2.imencode(".png", background[..., ::-1])[1].tobytes())
                write_npz(self.work.path(names[0]), landmarks=landmarks, confidence=confidence)
        arrays = read_npz(self.work.path(names[0]))
        background = cv2.imread(str(self.work.path(names[1])))[..., ::-1]
        return arrays["landmarks"], arrays["confidence"], background

    def _poses(self, box: Box, landmarks: np.ndarray, seen: np.ndarray) -> HeadPose:
        """Head poses, from the landmarks and then from the skin's texture. Poses do not depend on the size of the picture."""
        trust = np.where(seen, 1.0, INTERPOLATED_TRUST)
        landmarks = landmarks * np.float32(ANALYSIS_SIZE / self.size)
        with self._timed("poses"):
            pose = solve_poses(landmarks, ANALYSIS_SIZE, trust)
            stream = self._bar("poses", len(landmarks))(frames(self.video, (ANALYSIS_SIZE, ANALYSIS_SIZE), crop=box, trim=self.span))
            return align_texture(stream, landmarks, pose, trust, ANALYSIS_SIZE, n_train_frames(len(landmarks)))

    def _check_length(self, n_frames: int, n_samples: int) -> None:
        seconds = min(n_frames / FPS, n_samples / SAMPLE_RATE)
        if seconds < MIN_SECONDS:
            raise InputError(
                f"only {n_frames / FPS:.1f} s of picture and {n_samples / SAMPLE_RATE:.1f} s of sound could be read from {self.video}, "
                f"at least {MIN_SECONDS:g} s are needed: the file is probably cut off; copy or export it again."
            )

    def _pictures(self, box: Box, landmarks: np.ndarray, confidence: np.ndarray, background: np.ndarray) -> None:
        key = fingerprint(self.recipe, len(landmarks))
        if self.work.done("pictures", key):
            return
        with self._timed("pictures"), self.work.step("pictures", key, list(KINDS)):
            stream = frames(self.video, (self.size, self.size), crop=box, trim=self.span)
            bar = self._bar("pictures", len(landmarks))
            make_all(self.work.folder, bar(stream), landmarks, confidence, background, self.workers)

    def _meta(self, found: dict[str, Any], n_frames: int, changes: list[str]) -> dict[str, Any]:
        box = found["box"]
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "fps": FPS,
            "size": self.size,
            "n_frames": n_frames,
            "n_train": n_train_frames(n_frames),
            "intrinsics": intrinsics(self.size),
            "face_model": "mediapipe",
            "audio_model": self.audio.name,
            **({"audio_weights": self.audio.weights} if self.audio.weights else {}),
            "crop": {"x": box.x, "y": box.y, "size": box.size, "source_width": self.info.width, "source_height": self.info.height},
            "source": {"file": self.video.name, "sha256": self.sha256, "fps": self.info.fps, "changes": changes, "recipe": self.recipe},
            "consent": self.consent,
            "tools": {package: importlib.metadata.version(package) for package in ("mediapipe", "numpy", "librosa", "scipy")},
        }


class _Timer:
    """Adds the seconds of a `with` block to a table."""

    def __init__(self, table: dict[str, float], step: str) -> None:
        self.table, self.step = table, step

    def __enter__(self) -> None:
        self.start = time.time()

    def __exit__(self, *_) -> None:
        self.table[self.step] = round(self.table.get(self.step, 0.0) + time.time() - self.start, 2)


def main() -> None:
    """Command line; exit code 2 and one sentence for bad input."""
    parser = argparse.ArgumentParser(description="Makes a subject dataset from a talking video.")
    parser.add_argument("video", type=Path)
    parser.add_argument("out_dir", type=Path, help="the dataset folder to make, for example SUBJECT/dataset")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--trim", help="seconds A-B")
    parser.add_argument("--name")
    parser.add_argument("--consent")
    parser.add_argument("--workers", type=int, default=1)
    args = vars(parser.parse_args())
    try:
        print(prepare(args.pop("video"), args.pop("out_dir"), **args))
    except InputError as error:
        sys.exit((print(f"error: {error}", file=sys.stderr), 2)[1])


if __name__ == "__main__":
    main()
