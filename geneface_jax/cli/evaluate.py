"""Measures a trained person on frames it has not seen, or a video against the true one or against its own sound."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geneface_jax.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    person = parser.add_argument_group("a trained person")
    person.add_argument("--subject", metavar="DIR", help="subject folder; its held-out frames are scored")
    person.add_argument("--against", metavar="DATASET", help="score another dataset of the same person and crop instead (all its frames)")
    person.add_argument("--protocol", choices=["head", "audio"], default="head", help="what drives the head: true landmarks, or the audio")
    person.add_argument("--baselines", action="store_true", help="add what copying and averaging training frames scores")
    person.add_argument("--motion", action="store_true", help="score the landmarks predicted from audio, without rendering")
    person.add_argument("--syncnet", metavar="DIR", help="SyncNet that judges --motion (default: the one of the person's training)")
    person.add_argument("--out", metavar="MP4", help="truth and rendering side by side (default: SUBJECT/evaluation/PROTOCOL.mp4)")
    videos = parser.add_argument_group("a video")
    videos.add_argument("--video", metavar="MP4", help="video to score")
    videos.add_argument("--truth", metavar="MP4", help="the true video")
    videos.add_argument("--truth-masks", metavar="NPZ", help="head masks of the true video (array head_mask)")
    videos.add_argument("--audio", metavar="FILE", help="sound to correlate the mouth with (default: the video's own)")
    parser.add_argument("--size", type=int, metavar="PIXELS", help="size everything is area-resampled to before scoring")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON too")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; prints tables, and the paths of what it wrote last."""
    if bool(args.subject) == bool(args.video):
        raise InputError("geneface evaluate needs either --subject DIR or --video MP4; give one of them")
    if args.syncnet and not args.motion:
        raise InputError(f"--syncnet is {args.syncnet} but there is no --motion; a SyncNet judges landmarks alone")
    if args.truth_masks and not args.truth:
        raise InputError(f"--truth-masks is {args.truth_masks} but there is no --truth; give the true video too")
    if args.size is not None and not 32 <= args.size <= 2048:
        raise InputError(f"--size is {args.size}; give a number of pixels from 32 to 2048")
    report = _person(args) if args.subject else _video(args)
    if args.json:
        from geneface_jax.evaluation.report import to_json
        from geneface_jax.io.files import write_json

        print(write_json(args.json, to_json(report)))
    return 0


def _person(args: argparse.Namespace) -> dict[str, Any]:
    from geneface_jax.data.head_frame import in_head_frame_of
    from geneface_jax.data.subject import Subject
    from geneface_jax.evaluation import heldout, report
    from geneface_jax.evaluation.landmarks import pose_jitter
    from geneface_jax.io import checkpoints

    folder = Path(args.subject)
    known = Subject.load(folder)
    if args.motion:
        return _motion(args, folder, known)
    other = in_head_frame_of(Subject.load(args.against), known) if args.against else None
    target = heldout.whole_target(other, args.size) if other else heldout.heldout_target(known, args.size)
    which = f"{len(target.frames)} frames ({target.frames.start} to {target.frames.stop - 1}) of {target.subject.folder}"
    result: dict[str, Any] = {
        "frames": [target.frames.start, target.frames.stop],
        "size": target.size,
        "dataset": str(target.subject.folder),
    }
    rows: dict[str, Any] = {}
    faces = _faces_can_be_found()
    if args.baselines:
        rows |= heldout.baselines(target, known, faces=faces)
    trained = bool(checkpoints.steps(folder / "head"))
    if trained or not args.baselines:
        rendered = _render(args, folder, target, faces)
        result |= {"protocol": args.protocol, "landmarks": rendered["landmarks"], "video": rendered["video"]}
        rows["rendered"] = rendered["pixels"]
    result["pixels"] = rows
    condition = f" Rendered frames are {heldout.PROTOCOLS[args.protocol]}." if "rendered" in rows else " The head is not trained yet."
    caption = f"Mean over {which}, {target.size}x{target.size}, 8-bit RGB before H.264.{condition}"
    report.show(report.pixel_table("Held-out frames" if not args.against else "Unseen frames", rows, caption))
    degrees, millimetres = pose_jitter(target.subject.cameras[target.frames.start : target.frames.stop])
    result["pose_jitter"] = {"rotation_degrees": degrees, "translation_mm": millimetres}
    values = {"head pose jitter of the dataset": f"{degrees:.3f} degrees, {millimetres:.2f} mm"}
    if result.get("landmarks"):
        values = report.landmark_rows(result["landmarks"]) | values
    report.show(report.value_table("Rendered against true frames" if "rendered" in rows else "Poses", values))
    if "video" in result:
        print(f"true (left) and rendered (right): {result['video']}")
    return result


def _motion(args: argparse.Namespace, folder: Path, known: Any) -> dict[str, Any]:
    from geneface_jax.data.head_frame import in_head_frame_of
    from geneface_jax.data.subject import Subject
    from geneface_jax.evaluation import motion, report

    subject = in_head_frame_of(Subject.load(args.against), known) if args.against else known
    frames = range(subject.n_frames) if args.against else subject.heldout
    expert = motion.find_expert(folder, Path(args.syncnet) if args.syncnet else None)
    if expert is None:
        print("the sync AUC is left out: the person's SyncNet is not here; name one with --syncnet DIR")
    figures = motion.evaluate_motion(folder, subject, frames, expert=expert)
    which = f"{len(frames)} frames ({frames.start} to {frames.stop - 1}) of {subject.folder}"
    report.show(report.value_table("Landmarks from audio", report.motion_rows(figures), which))
    return {"dataset": str(subject.folder), "frames": [frames.start, frames.stop], "motion": figures}


def _render(args: argparse.Namespace, folder: Path, target: Any, faces: bool) -> dict[str, Any]:
    import numpy as np
    from tqdm import tqdm

    from geneface_jax.evaluation import heldout
    from geneface_jax.inference.video import VideoWriter

    out = Path(args.out) if args.out else folder / "evaluation" / f"{args.protocol}.mp4"
    images = heldout.render_target(folder, target, args.protocol)
    sound = heldout.sound(target)
    with VideoWriter(out, sound) as writer:
        progress = tqdm(images, total=len(target.frames), unit="frame", desc="rendering", leave=False, disable=None)
        scores = heldout.score_render(target, progress, lambda truth, image: writer.write(np.concatenate([truth, image], 1)), faces=faces)
    return {**scores, "video": str(out)}


def _video(args: argparse.Namespace) -> dict[str, Any]:
    from geneface_jax.evaluation import compare, report

    result: dict[str, Any] = {"video": args.video}
    if args.truth:
        masks = compare.load_head_masks(Path(args.truth_masks)) if args.truth_masks else None
        found = compare.compare_videos(Path(args.video), Path(args.truth), size=args.size, head_masks=masks)
        result |= {"truth": args.truth, **found}
        caption = f"Mean over {found['frames']} frames, {found['size']}x{found['size']}, decoded video (after H.264)"
        caption += f"; {found['frames_left_out']} frames of the longer video left out." if found["frames_left_out"] else "."
        report.show(report.pixel_table(f"{args.video} against {args.truth}", {"video": found["pixels"]}, caption))
        report.show(report.value_table("Landmarks", report.landmark_rows(found["landmarks"])))
    if args.audio or not args.truth:
        result["envelope"] = compare.video_against_audio(Path(args.video), Path(args.audio) if args.audio else None)
        report.show(report.value_table(f"Mouth of {args.video} and {args.audio or 'its sound'}", report.envelope_rows(result["envelope"])))
    return result


def _faces_can_be_found() -> bool:
    """Whether MediaPipe runs here; says what is left out when it does not."""
    from geneface_jax.evaluation.detector import landmark_tracks

    try:
        with landmark_tracks(1):
            return True
    except InputError as error:
        print(f"landmark figures are left out: {error}")
        return False
