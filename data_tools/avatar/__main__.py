"""Command line of the avatar: `python -m data_tools.avatar video|corpus`."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from data_tools.avatar.clip import PARTS, make_corpus, render_clip
from data_tools.avatar.speakers import voices
from data_tools.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_tools.avatar", description="Renders the avatar with exact ground truth.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    video = verbs.add_parser("video", help="render one speaker's video and its ground truth")
    video.add_argument("--speaker", default="demo", choices=list(voices()))
    video.add_argument("--part", default="train", choices=PARTS)
    video.add_argument("--size", type=int, default=512, help="side of the square picture in pixels (default %(default)s)")
    video.add_argument("--seconds", type=float, default=None, help="render only this many seconds from the start (default: all)")
    corpus = verbs.add_parser("corpus", help="write motion and audio features of all corpus speakers, without rendering")
    corpus.add_argument("--sentences", type=int, default=None, help="sentences per speaker, from the first (default: all)")
    for verb in (video, corpus):
        verb.add_argument("--out", type=Path, required=True, help="folder to create")
        verb.add_argument("--seed", type=int, default=0, help="random seed of head movement, blinks and brows (default %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "corpus":
            meta = make_corpus(options.out, options.seed, options.sentences)
            seconds = sum(clip["n_frames"] for clip in meta["clips"]) / 25
            print(f"{options.out}: {len(meta['clips'])} clips of {len({c['speaker'] for c in meta['clips']})} speakers, {seconds:.0f} s")
            return 0
        with tqdm(unit="frame", disable=not sys.stderr.isatty()) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            out = render_clip(options.out, options.speaker, options.part, options.size, options.seconds, options.seed, progress)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(out / "video.mp4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
