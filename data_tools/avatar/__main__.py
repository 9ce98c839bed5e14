"""Makes data of the avatar with exact ground truth: a video of one speaker, a corpus of many, or the recordings themselves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.command_line import add_features_arguments, check_features, run_program

if TYPE_CHECKING:
    from data_tools.audio.sound import AudioFeatures


def add_arguments(parser: argparse.ArgumentParser, features: str = "mel_f0") -> None:
    """Adds the tool's sub-commands and their options; `features` is the default of --features."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    video = commands.add_parser("video", help="render one speaker's video and its ground truth", allow_abbrev=False)
    video.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    video.add_argument("--speaker", default="demo", metavar="NAME", help="voice of speech/script.json (default %(default)s)")
    video.add_argument(
        "--part",
        default="train",
        metavar="NAME",
        help="train, the speaker's recording; the demo person also has heldout and unseen, sentences outside of it (default %(default)s)",
    )
    video.add_argument(
        "--size", type=int, default=512, metavar="PIXELS", help="height and width, even, from 64 to 2048 (default %(default)s)"
    )
    video.add_argument("--seconds", type=float, metavar="X", help="render only the first X seconds (default: all)")
    corpus = commands.add_parser(
        "corpus", help="write motion and audio features of all corpus speakers, without rendering", allow_abbrev=False
    )
    corpus.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to create")
    corpus.add_argument("--sentences", type=int, metavar="N", help="only the first N sentences of each speaker (default: all)")
    add_features_arguments(corpus, features)
    for command in (video, corpus):
        command.add_argument(
            "--seed", type=int, default=0, metavar="N", help="random seed of head movement, blinks and brows (default %(default)s)"
        )
    record = commands.add_parser("record", help="synthesize the recordings again, with espeak-ng", allow_abbrev=False)
    record.add_argument("--out", type=Path, metavar="DIR", help="folder of the recordings (default: the avatar's own, speech/)")
    record.add_argument("--only", nargs="+", default=(), metavar="NAME", help="voices to record (default: all)")


def run(args: argparse.Namespace, features: AudioFeatures | None = None) -> int:
    """Runs one sub-command; prints what was made last. Only `geneface avatar corpus` gives audio features, None are mel_f0."""
    if args.command == "corpus":
        _corpus(args, features)
    else:
        {"video": _video, "record": _record}[args.command](args)
    return 0


def _video(args: argparse.Namespace) -> None:
    from data_tools.avatar.clip import render_clip
    from data_tools.command_line import frames_bar

    with frames_bar(sys.stderr.isatty())(desc="rendering") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        out = render_clip(args.out, args.speaker, args.part, args.size, args.seconds, args.seed, progress)
    print(out / "video.mp4")


def _corpus(args: argparse.Namespace, features: AudioFeatures | None) -> None:
    from data_tools.audio.sound import MEL_F0
    from data_tools.avatar.clip import make_corpus

    features = features or MEL_F0
    check_features(args, available=features.name, instead="geneface avatar corpus")
    meta = make_corpus(args.out, args.seed, args.sentences, features)
    seconds = sum(clip["n_frames"] for clip in meta["clips"]) / 25
    print(f"{args.out}: {len(meta['clips'])} clips of {len({c['speaker'] for c in meta['clips']})} speakers, {seconds:.0f} s")


def _record(args: argparse.Namespace) -> None:
    from data_tools.avatar.record_speech import record_voices

    print(record_voices(args.out, args.only))


if __name__ == "__main__":
    run_program()
