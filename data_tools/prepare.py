"""From a talking video to a subject dataset (docs/file-formats.md), step by step and resumable.

`python -m data_tools.prepare VIDEO DATASET_DIR [--size 512] [--trim A-B]`
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from data_tools.audio.features import MEL_F0, AudioFeatures
from data_tools.command_line import add_prepare_options, jax_device, run_step
from data_tools.dataset.pipeline import Pipeline
from data_tools.dataset.scan import check_video, parse_trim
from data_tools.dataset.settings import Settings, check_options
from data_tools.io import disk_full_as_input_error, file_sha256, write_json
from data_tools.masks.segmenters import SegmenterChoice


def prepare(
    video: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    size: int = 512,
    trim: str | tuple[float, float] | None = None,
    face_model: str = "mediapipe",
    bfm_folder: str | os.PathLike | None = None,
    audio: AudioFeatures = MEL_F0,
    audio_offset: float = 0.0,
    segmenter_model: str | os.PathLike | None = None,
    name: str | None = None,
    consent: str | None = None,
    workers: int = 1,
    device: str | None = None,
    progress: bool = True,
) -> Path:
    """Makes a subject dataset from a video of one talking person.

    The work goes on in `<out_dir>.partial`, in chunks of ten seconds; what was finished there is not done again, and `out_dir` appears by
    one rename. A run that was killed, and run again, gives the same bytes as one that was not (the report's timings apart). A dataset
    that stands already is kept when it was made from the same video with the same parameters.

    Args:
      video: local file, at least 3 s, with sound.
      out_dir: the dataset folder, usually `SUBJECT/dataset`.
      size: height and width of the pictures, an even number of pixels from 64 to 2048.
      trim: seconds to use, "A-B" or (A, B).
      face_model: "mediapipe", or "bfm" for the Basel face model (docs/data-tools.md).
      bfm_folder: the Basel model's files, for "bfm".
      audio: the audio features; others than mel_f0 come with their own code (see `geneface_jax.inference.audio_features`).
      audio_offset: seconds by which the sound is delayed against the picture (negative: moved forward), -5 to 5.
      segmenter_model: MediaPipe's selfie_multiclass_256x256.tflite, which tells hair, neck and clothes apart; None uses the built-in person
        segmenter and the landmarks.
      name: name of the person; the folder above `out_dir` without it.
      consent: who agreed to this use, and when.
      workers: processes that work on chunks of the clip at the same time; the result is the same with any number.
      device: "cpu" or "gpu" for what runs in JAX; None leaves it to JAX.
      progress: whether to draw progress bars and print what was changed.

    Returns:
      `out_dir`.

    Raises:
      InputError: the video or a parameter can't be used; an earlier dataset is left as it was.
    """
    video, out = Path(video), Path(out_dir)
    span = parse_trim(trim)
    folder = Path(bfm_folder) if bfm_folder is not None else None
    check_options(size, face_model, folder, audio_offset, workers)
    segmenter = SegmenterChoice.from_file(segmenter_model)
    info, span = check_video(video, span)
    settings = Settings(video, file_sha256(video), span, size, face_model, folder, audio, audio_offset, segmenter)
    name = name or out.absolute().parent.name
    if kept := _finished_dataset(out, settings.recipe, name, consent):
        return kept
    with disk_full_as_input_error(out), jax_device(device):
        return Pipeline(settings, info, out, name, consent, workers, progress).run()


def _finished_dataset(out: Path, recipe: str, name: str, consent: str | None) -> Path | None:
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


def main() -> None:
    """Command line; exit code 2 and one sentence for bad input."""
    parser = argparse.ArgumentParser(prog="python -m data_tools.prepare", description="Makes a subject dataset from a talking video.")
    parser.add_argument("video", type=Path)
    parser.add_argument("out_dir", type=Path, help="the dataset folder to make, for example SUBJECT/dataset")
    add_prepare_options(parser)
    args = vars(parser.parse_args())
    print(prepare(args.pop("video"), args.pop("out_dir"), **args))


if __name__ == "__main__":
    run_step(main)
