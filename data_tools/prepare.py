"""Turns a talking video into a subject dataset: face crop, 25 fps, audio features, landmarks, head pose, masks, background, report.

The same command resumes an interrupted run. docs/file-formats.md lists the dataset's files.
"""

import argparse
import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from data_tools.audio.offset import OpeningPredictor
from data_tools.audio.sound import MEL_F0, AudioFeatures
from data_tools.command_line import OPTION_NAMES, PREPARE_OUT, add_prepare_arguments, check_features, jax_device, run_program
from data_tools.dataset.pipeline import Pipeline
from data_tools.dataset.settings import Settings, check_options, check_video, parse_trim
from data_tools.errors import InputError
from data_tools.io import disk_errors_as_input_errors, file_sha256, hold, read_json, require_output, write_json
from data_tools.masks import SegmenterChoice
from data_tools.picture import corrections

logger = logging.getLogger(__name__)


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
    fix_offset: str | float | None = None,
    predictor: OpeningPredictor | None = None,
    track: int | None = None,
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
      fix_offset: "auto" delays the sound by as much as the lips say, if that can be found; a number is milliseconds, as `audio_offset`.
      predictor: finds the offset of sound and picture; needed for "auto", and to report it otherwise.
      track: number of the video's sound track, from 1; None takes the first that is not silent.
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
      InputError: the video or a parameter can't be used, another run works in the folder, or networks beside an existing dataset were
        trained on it and this would be another one; an existing dataset is not touched.
    """
    video, out = Path(video), Path(out_dir)
    span = parse_trim(trim)
    folder = Path(bfm_folder) if bfm_folder is not None else None
    if fix_offset == "auto" and predictor is None:
        raise InputError("--fix-offset auto needs a network that data_tools lacks: run `geneface prepare`, or give milliseconds.")
    if fix_offset is not None and audio_offset:
        raise InputError("--fix-offset and --audio-offset are both given, and both move the sound: remove one.")
    if isinstance(fix_offset, int | float):
        audio_offset = fix_offset / 1000.0
    check_options(size, face_model, folder, audio_offset, workers)
    require_output(out, folder=True, replaced=True)
    segmenter = SegmenterChoice.from_file(segmenter_model)
    info, span = check_video(video, span, track)
    corrected = corrections(video)
    settings = Settings(
        *(video, file_sha256(video), span, size, face_model, folder, features, audio_offset, segmenter, track, corrected),
        fix_offset=fix_offset == "auto",
        predictor=predictor,
    )
    name = name or out.absolute().parent.name
    # Usually the dataset of a person, whose folder `fit` holds too.
    person = hold(out.parent, "geneface prepare") if out.name == "dataset" else contextlib.nullcontext()
    with disk_errors_as_input_errors(out, "--out"), person, jax_device(device):
        if finished := _finished_dataset(out, settings, name, consent):
            return finished
        return Pipeline(settings, info, out, name, consent, workers, progress).run()


def _finished_dataset(out: Path, settings: Settings, name: str, consent: str | None) -> Path | None:
    """The existing dataset if it was made with this recipe, or networks were trained on it; its name and consent are updated.

    Returns:
      None if there is none, or one that may be replaced.

    Raises:
      InputError: networks beside it were trained on it, and this would be another one.
    """
    try:
        meta = read_json(out / "meta.json")
        recipe = meta["source"]["recipe"] if "recipe" in meta["source"] else None
    except (InputError, KeyError, TypeError):
        return None
    if recipe != settings.recipe:
        if not (trained := _trained_beside(out)):
            return None
        networks = f"{out.parent} holds networks ({', '.join(trained)}) that were trained on its dataset"
        if different := _difference(meta, settings):
            raise InputError(f"{networks}, and {different}: name another --out, or delete those folders to train them again.")
        logger.warning("%s, which an earlier version made from the same video: it is kept as it is", networks)
    updated = {**meta, "name": name, "consent": consent if consent is not None else meta.get("consent")}
    if updated != meta:
        write_json(out / "meta.json", updated, checksum=True)
    return out


def _trained_beside(out: Path) -> list[str]:
    """The stages with checkpoints in the folder of the person whose dataset `out` is."""
    steps = out.parent.glob("*/checkpoints/*") if out.name == "dataset" else ()
    return sorted({path.parents[1].name for path in steps if path.name.isdecimal()})


def _difference(meta: Any, settings: Settings) -> str | None:
    """What was asked for otherwise than what a dataset was made with, as half a sentence; None if only the program has changed."""
    source, crop = meta["source"], meta.get("crop") or {}
    if source.get("sha256") != settings.sha256:
        return f"{settings.video} is another video than theirs ({source.get('file')})"
    asked = {
        "--size": (meta.get("size"), settings.size),
        "--trim": (crop.get("trim"), list(settings.span) if settings.span else None),
        "--face-model": (meta.get("face_model"), settings.face_model),
        "--features": (meta.get("audio_model"), settings.audio.name),
        **_offset_difference(source, settings),
        "--track": (source.get("track"), settings.track),
    }
    return next((f"{option} was {old} for them, not {new}" for option, (old, new) in asked.items() if old != new), None)


def _offset_difference(source: Any, settings: Settings) -> dict[str, tuple[Any, Any]]:
    """Option -> what it was and what is asked for; with "auto" the seconds that were found don't matter."""
    was, now = bool(source.get("fix_offset")), settings.fix_offset
    if was or now:
        return {"--fix-offset": ("auto" if was else None, "auto" if now else None)}
    return {"--audio-offset": (source.get("audio_offset", 0.0), settings.audio_offset)}


# -------- Command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options; `geneface prepare` has the same."""
    add_prepare_arguments(parser, PREPARE_OUT, features=MEL_F0.name)


def run(args: argparse.Namespace, features: AudioFeatures = MEL_F0, predictor: OpeningPredictor | None = None) -> int:
    """Runs the tool; prints the dataset's path last. Only `geneface prepare` can give other audio features than mel_f0, and a predictor."""
    check_features(args, available=features.name, instead="geneface prepare")
    options = {name: getattr(args, name) for name in OPTION_NAMES} | {"name": args.name or args.out.resolve().name}
    print(prepare(args.video, args.out / "dataset", **options, features=features, predictor=predictor))
    return 0


if __name__ == "__main__":
    run_program()
