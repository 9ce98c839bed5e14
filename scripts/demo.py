"""The main job on the embedded avatar: makes .venv, installs this clone, and lets the demo person say a sentence it was never trained on.

    python scripts/demo.py            with the weights in checkpoints/; at most 4 minutes after installation
    python scripts/demo.py --train    makes those weights again first (corpus, SyncNet, audio2motion, PostNet, head, torso); about an hour

The last line is the video's path. Standard library only: this runs before anything is installed, on Linux, macOS and Windows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from environment import ROOT, Unprepared, ensure_system_libraries, prepare, say

SUBJECT = Path("checkpoints", "demo")
SPEECH = Path("data_tools", "avatar", "speech", "demo_heldout.wav")
VIDEO = Path("out", "demo.mp4")
HELDOUT = Path("out", "heldout")


def plan(python: Path, *, train: bool, compare: bool, rendered: bool) -> list[list[str]]:
    """The commands of the demo, in order, to be run in the clone.

    Args:
      python: of the environment that the clone is installed in.
      train: whether to make the weights again first.
      compare: whether to measure against the truth, the avatar really saying the sentence; needs MediaPipe.
      rendered: whether that true video is there already.
    """
    geneface = [str(python), "-m", "geneface_jax"]
    steps = []
    if train:
        steps.append([str(python), str(Path("scripts", "train_demo.py"))])
    steps.append([*geneface, "infer", "--subject", str(SUBJECT), "--audio", str(SPEECH), "--out", str(VIDEO)])
    if not compare:
        return steps
    if not rendered:
        steps.append([str(python), "-m", "data_tools.avatar", "video", "--speaker", "demo", "--part", "heldout", "--out", str(HELDOUT)])
    steps.append([*geneface, "prepare", str(HELDOUT / "video.mp4"), "--out", str(HELDOUT), "--size", "256"])
    # Takes pose and blinks from the true video (docs/metrics.md: audio protocol).
    against = ["--against", str(HELDOUT / "dataset"), "--protocol", "audio"]
    results = ["--out", str(VIDEO.with_name("demo_beside_truth.mp4")), "--json", str(VIDEO.with_suffix(".json"))]
    steps.append([*geneface, "evaluate", "--subject", str(SUBJECT), *against, *results])
    return steps


def main() -> int:
    """Runs the demo; returns the exit code, that of the first step that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="make the weights in checkpoints/ again first; about an hour")
    options = parser.parse_args()
    try:
        python = prepare()
    except Unprepared as problem:
        say(str(problem))
        return 2
    compare = not ensure_system_libraries(python)
    surroundings = {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"), **os.environ}
    for command in plan(python, train=options.train, compare=compare, rendered=(ROOT / HELDOUT / "video.mp4").is_file()):
        code = subprocess.run(command, cwd=ROOT, env=surroundings).returncode
        if code:
            return code if code > 0 else 128 - code  # as a shell says it: 128 and the number of the signal
    if not compare:
        say("The comparison with the true video needs MediaPipe's system libraries and is left out.")
    print(ROOT / VIDEO)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
