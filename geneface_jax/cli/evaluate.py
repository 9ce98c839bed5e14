"""Measures a trained person on held-out frames, or a video against ground truth or against its own audio."""

import argparse
import logging
from pathlib import Path
from typing import Any

from data_tools.errors import InputError

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    person = parser.add_argument_group("a trained person")
    person.add_argument("--subject", metavar="DIR", help="subject folder; its held-out frames are scored")
    person.add_argument("--against", metavar="DATASET", help="score all frames of another dataset of the same person and crop instead")
    person.add_argument(
        "--protocol", choices=["head", "audio"], default="head", help="drive the head by true landmarks or by audio (default %(default)s)"
    )
    person.add_argument("--baselines", action="store_true", help="add the scores of copied and averaged training frames")
    person.add_argument("--motion", action="store_true", help="score the landmarks predicted from audio, without rendering")
    person.add_argument(
        "--syncnet", metavar="DIR", help="SyncNet that scores landmarks from audio (default: that of the person's training)"
    )
    person.add_argument(
        "--out",
        metavar="MP4",
        help="video of truth, prediction and difference side by side (default: SUBJECT/evaluation/PROTOCOL.mp4)",
    )
    person.add_argument("--lpips", metavar="FILE", help="LPIPS weights (default: those of scripts/fetch_lpips.py)")
    videos = parser.add_argument_group("a video")
    videos.add_argument("--video", metavar="MP4", help="video to score")
    videos.add_argument("--truth", metavar="MP4", help="ground truth video")
    videos.add_argument("--truth-masks", metavar="NPZ", help="head masks of the ground truth video (array head_mask)")
    videos.add_argument("--audio", metavar="FILE", help="audio to correlate the mouth with (default: the video's own)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="size that all frames are area-resampled to before scoring")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints tables, and the paths of written files last."""
    if bool(args.subject) == bool(args.video):
        raise InputError("Neither or both of --subject and --video were given: give either --subject DIR or --video MP4.")
    if args.syncnet and not args.motion and args.protocol != "audio":
        raise InputError(
            f"--syncnet is {args.syncnet} but no landmarks are predicted from audio: add --motion or --protocol audio, or remove --syncnet."
        )
    if args.truth_masks and not args.truth:
        raise InputError(f"--truth-masks is {args.truth_masks} without --truth: give the ground truth video too.")
    if args.size is not None and not 32 <= args.size <= 2048:
        raise InputError(f"--size is {args.size}: give a number of pixels from 32 to 2048.")
    report = _person(args) if args.subject else _video(args)
    if args.json:
        from data_tools.io import write_json
        from geneface_jax.evaluation.report import to_json

        print(write_json(args.json, to_json(report)))
    return 0


def _person(args: argparse.Namespace) -> dict[str, Any]:
    from geneface_jax.data.subject import Subject
    from geneface_jax.evaluation import heldout
    from geneface_jax.evaluation.heldout import in_head_frame_of
    from geneface_jax.evaluation.metrics import Perceptual
    from geneface_jax.evaluation.scores import smoothing_report

    folder = Path(args.subject)
    training_subject = Subject.load(folder)
    if args.motion:
        return _motion(args, folder, training_subject)
    other = in_head_frame_of(Subject.load(args.against), training_subject) if args.against else None
    target = heldout.full_clip_target(other, args.size) if other else heldout.heldout_target(training_subject, args.size)
    perceptual = Perceptual.find(args.lpips)
    faces = _mediapipe_works()
    result: dict[str, Any] = {
        "frames": [target.frames.start, target.frames.stop],
        "size": target.size,
        "dataset": str(target.subject.folder),
        "lpips": None if perceptual is None else "0.1, AlexNet",
        "pixels": heldout.baselines(target, training_subject, faces=faces, perceptual=perceptual) if args.baselines else {},
    }
    if not args.baselines or heldout.trained_parts(folder):
        result |= _renderings(args, folder, target, faces, perceptual, result["pixels"])
    # In the dataset's own head frame: `target` may have been transformed into the training subject's.
    result["pose_jitter"] = smoothing_report(training_subject if other is None else Subject.load(args.against))
    _show_person(args, result)
    return result


def _renderings(args: argparse.Namespace, folder: Path, target: Any, faces: bool, perceptual: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """Renders and scores the head over the true torso and, if there is a torso network, the complete person; adds scores to `rows`."""
    from geneface_jax.evaluation import heldout, report
    from geneface_jax.evaluation.scores import frames_per_second

    parts = heldout.trained_parts(folder)
    # Version -> suffix of the video's file name.
    versions = {"rendered": ""} | ({"composite": "_composite"} if parts and parts.torso else {})
    found: dict[str, Any] = {"protocol": args.protocol, "videos": {}, "speed": {}, "landmarks": {}}
    for name, ending in versions.items():
        composite = name == "composite"
        path = Path(args.out) if args.out else folder / "evaluation" / f"{args.protocol}.mp4"
        path = path.with_name(f"{path.stem}{ending}{path.suffix}")
        scores = _write_comparison(
            path, target, heldout.render_target(folder, target, args.protocol, composite=composite), faces, perceptual
        )
        rows[name] = scores["pixels"]
        found["landmarks"][name] = scores["landmarks"]
        found["videos"][name] = str(path)
        found["speed"][name] = frames_per_second(heldout.render_target(folder, target, args.protocol, composite=composite))
    if args.protocol == "audio":
        expert = report.find_expert(folder, Path(args.syncnet) if args.syncnet else None)
        found["motion"] = report.evaluate_motion(folder, target.subject, target.frames, expert=expert)
    return found


def _show_person(args: argparse.Namespace, result: dict[str, Any]) -> None:
    from geneface_jax.evaluation import heldout, report
    from geneface_jax.evaluation.metrics import LPIPS_UNAVAILABLE

    rows, (first, end), size = result["pixels"], result["frames"], result["size"]
    caption = f"Mean over {end - first} frames ({first} to {end - 1}) of {result['dataset']}, {size}x{size}, 8-bit RGB before H.264."
    values: dict[str, str] = {} if result["lpips"] else {"LPIPS": LPIPS_UNAVAILABLE}
    if "rendered" in rows:
        caption += f" Frames are {heldout.PROTOCOLS[args.protocol]}; rendered: over the true torso and background"
        caption += "; composite: over the torso network and the one background." if "composite" in rows else "."
        version = "composite" if "composite" in rows else "rendered"
        if result["landmarks"][version]:
            values |= report.landmark_rows(result["landmarks"][version])
        values |= report.seam_rows(rows["composite"]) if "composite" in rows else {}
        values |= report.sync_rows(result["motion"]) if "motion" in result else {}
        values |= report.speed_rows(result["speed"])
    else:
        caption += " The head is not trained yet."
    values |= report.smoothing_rows(result["pose_jitter"])
    report.show(report.pixel_table("Unseen frames" if args.against else "Held-out frames", rows, caption))
    report.show(report.value_table("Rendered against true frames" if "rendered" in rows else "Poses", values))
    for name, path in result.get("videos", {}).items():
        print(f"true, {name}, difference (x4): {path}")


def _motion(args: argparse.Namespace, folder: Path, training_subject: Any) -> dict[str, Any]:
    from geneface_jax.data.subject import Subject
    from geneface_jax.evaluation import report
    from geneface_jax.evaluation.heldout import in_head_frame_of

    subject = in_head_frame_of(Subject.load(args.against), training_subject) if args.against else training_subject
    frames = range(subject.n_frames) if args.against else subject.heldout
    expert = report.find_expert(folder, Path(args.syncnet) if args.syncnet else None)
    if expert is None:
        logger.warning("The sync AUC is omitted because the person's SyncNet is missing: give one with --syncnet DIR.")
    figures = report.evaluate_motion(folder, subject, frames, expert=expert)
    caption = f"{len(frames)} frames ({frames.start} to {frames.stop - 1}) of {subject.folder}"
    report.show(report.value_table("Landmarks from audio", report.motion_rows(figures), caption))
    return {"dataset": str(subject.folder), "frames": [frames.start, frames.stop], "motion": figures}


def _write_comparison(out: Path, target: Any, images: Any, faces: bool, perceptual: Any) -> dict[str, Any]:
    """Scores frames while they are rendered and writes truth, prediction and difference side by side."""
    import numpy as np
    from tqdm import tqdm

    from data_tools.video.write import VideoWriter
    from geneface_jax.evaluation import heldout
    from geneface_jax.evaluation.metrics import difference

    with VideoWriter(out, heldout.heldout_sound(target)) as writer:

        def write(truth: np.ndarray, image: np.ndarray) -> None:
            writer.write(np.concatenate([truth, image, difference(image, truth)], axis=1))

        progress = tqdm(images, total=len(target.frames), unit="frame", desc="rendering", leave=False, disable=None)
        return heldout.score_render(target, progress, write, faces=faces, perceptual=perceptual)


def _video(args: argparse.Namespace) -> dict[str, Any]:
    from geneface_jax.evaluation import report
    from geneface_jax.evaluation.scores import compare_videos, load_head_masks, video_against_audio

    result: dict[str, Any] = {"video": args.video}
    if args.truth:
        masks = load_head_masks(Path(args.truth_masks)) if args.truth_masks else None
        found = compare_videos(Path(args.video), Path(args.truth), size=args.size, head_masks=masks)
        result |= {"truth": args.truth, **found}
        caption = f"Mean over {found['frames']} frames, {found['size']}x{found['size']}, decoded video (after H.264)"
        caption += f"; {found['frames_left_out']} frames of the longer video left out." if found["frames_left_out"] else "."
        report.show(report.pixel_table(f"{args.video} against {args.truth}", {"video": found["pixels"]}, caption))
        report.show(report.value_table("Landmarks", report.landmark_rows(found["landmarks"])))
    if args.audio or not args.truth:
        result["envelope"] = video_against_audio(Path(args.video), Path(args.audio) if args.audio else None)
        report.show(report.value_table(f"Mouth of {args.video} and {args.audio or 'its sound'}", report.envelope_rows(result["envelope"])))
    return result


def _mediapipe_works() -> bool:
    """Whether MediaPipe runs on this machine; otherwise warns that landmark figures are omitted."""
    from geneface_jax.evaluation.scores import landmark_tracks

    try:
        with landmark_tracks(1):
            return True
    except InputError as error:
        logger.warning("Landmark figures are omitted: %s", error)
        return False
