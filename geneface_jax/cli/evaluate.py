"""Measures a trained person on held-out frames, or a video against ground truth or against its own audio."""

import argparse
from typing import Any

from data_tools.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's options."""
    person = parser.add_argument_group("a trained person")
    person.add_argument("--subject", metavar="DIR", help="subject folder, or the name of a shipped person; its held-out frames are scored")
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
    both = parser.add_argument_group("both")
    both.add_argument("--size", type=int, metavar="PIXELS", help="size that all frames are area-resampled to before scoring")
    both.add_argument("--json", metavar="FILE", help="also write the figures as JSON")


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
    from data_tools.io import require_output, write_json
    from geneface_jax.evaluation import report
    from geneface_jax.evaluation.evaluate import evaluate, evaluate_speech, evaluate_video

    require_output(args.json, option="--json")
    found: dict[str, Any]
    if args.video:
        found = evaluate_video(args.video, truth=args.truth, truth_masks=args.truth_masks, audio=args.audio, size=args.size)
        report.show_video(found)
    elif args.motion:
        found = evaluate_speech(args.subject, against=args.against, syncnet=args.syncnet)
        report.show_speech(found)
    else:
        names = ("protocol", "against", "size", "baselines", "out", "lpips", "syncnet")
        found = evaluate(args.subject, **{name: getattr(args, name) for name in names})
        report.show_person(found)
    if args.json:
        print(write_json(args.json, report.to_json(found)))
    return 0
