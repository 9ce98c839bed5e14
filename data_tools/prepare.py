"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report.

The same command resumes an interrupted run. docs/file-formats.md lists the dataset's files.
"""

import argparse
import json
import os
from pathlib import Path

from data_tools.audio.sound import MEL_F0, AudioFeatures
from data_tools.command_line import OPTION_NAMES, PREPARE_OUT, add_prepare_arguments, check_features, jax_device, run_program
from data_tools.dataset.pipeline import Pipeline
from data_tools.dataset.settings import Settings, check_options, check_video, parse_trim
from data_tools.errors import InputError
from data_tools.io import disk_full_as_input_error, file_sha256, write_json
from data_tools.masks import SegmenterChoice


def prepare(
    video: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    size: int = 512,
    trim: str | tuple[float, float] | None = None,
    face_model: str = "mediapipe",
    bfm_folder: str | os.PathLike | None = None,
    features: AudioFeatures = MEL_F0,
    audio_offset: float = 0.0,
    segmenter_model: str | os.PathLike | None = None,
    name: str | None = None,
    consent: str | None = None,
    workers: int = 1,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Makes a subject dataset from a video of one talking person.

    The work folder is `<out_dir>.partial`, processed in chunks of ten seconds; it is renamed to `out_dir` at the end. A run that was killed
    resumes there, and writes the same bytes as an uninterrupted one (except the report's timings). An existing dataset made from the same
    video with the same parameters is kept.

    Args:
      video: local file, at least 3 s, with sound.
      out_dir: the dataset folder, usually `SUBJECT/dataset`.
      size: height and width of the pictures, an even number of pixels from 64 to 2048.
      trim: seconds to use, "A-B" or (A, B).
      face_model: "mediapipe", or "bfm" for the Basel face model (docs/data-tools.md).
      bfm_folder: the Basel model's files, for "bfm".
      features: the audio features; other than mel_f0 they need code of their own (see `geneface_jax.inference.audio_features`).
      audio_offset: seconds by which the sound is delayed against the picture (negative: advanced), -5 to 5.
      segmenter_model: MediaPipe's selfie_multiclass_256x256.tflite, which separates hair, neck and clothes; None uses the built-in person
        segmenter and the landmarks.
      name: name of the person; default: the name of the folder above `out_dir`.
      consent: who agreed to this use, and when.
      workers: processes that work on chunks in parallel; the result is the same with any number.
      device: "cpu" or "gpu" for what runs in JAX; None leaves it to JAX.
      progress: whether to draw progress bars and log what was changed.

    Returns:
      `out_dir`.

    Raises:
      InputError: the video or a parameter can't be used; an existing dataset is not touched.
    """
    video, out = Path(video), Path(out_dir)
    span = parse_trim(trim)
    folder = Path(bfm_folder) if bfm_folder is not None else None
    check_options(size, face_model, folder, audio_offset, workers)
    segmenter = SegmenterChoice.from_file(segmenter_model)
    info, span = check_video(video, span)
    settings = Settings(video, file_sha256(video), span, size, face_model, folder, features, audio_offset, segmenter)
    name = name or out.absolute().parent.name
    if finished := _finished_dataset(out, settings.recipe, name, consent):
        return finished
    with disk_full_as_input_error(out), jax_device(device):
        return Pipeline(settings, info, out, name, consent, workers, progress).run()


def _finished_dataset(out: Path, recipe: str, name: str, consent: str | None) -> Path | None:
    """The existing dataset if it was made with this recipe, else None; its name and consent are updated."""
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


# -------- Command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; `geneface prepare` has the same."""
    add_prepare_arguments(parser, PREPARE_OUT)


def run(args: argparse.Namespace, features: AudioFeatures = MEL_F0) -> int:
    """Runs the tool; prints the dataset's path last. Only `geneface prepare` can give other audio features than mel_f0."""
    check_features(args)
    if args.features != features.name:
        raise InputError(
            f"--features {args.features} needs a network that data_tools lacks: run `geneface prepare` with the same arguments."
        )
    options = {name: getattr(args, name) for name in OPTION_NAMES} | {"name": args.name or args.out.resolve().name}
    print(prepare(args.video, args.out / "dataset", **options, features=features))
    return 0


if __name__ == "__main__":
    run_program()
