"""Demo on the avatar: creates .venv, installs this clone, and renders the demo person speaking a sentence outside its training data.

    python scripts/demo.py            with the weights in checkpoints/; at most 4 minutes after installation
    python scripts/demo.py --train    trains those weights again first (corpus, SyncNet, audio2motion, PostNet, head, torso); about an hour

The last line printed is the video's path. Standard library only: this runs before anything is installed, on Linux, macOS and Windows.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from environment import ROOT, SetupError, ensure_system_libraries, prepare, say

SUBJECT = Path("checkpoints", "demo")
SPEECH = Path("data_tools", "avatar", "speech", "demo_heldout.wav")
VIDEO = Path("out", "demo.mp4")
HELDOUT = Path("out", "heldout")


def plan(python: Path, *, train: bool, compare: bool, rendered: bool) -> list[list[str]]:
    """The demo's commands, in order; they run in the clone.

    Args:
      python: interpreter of the environment that the clone is installed in.
      train: train the weights again first.
      compare: evaluate against the ground truth, the avatar's rendering of the sentence; needs MediaPipe.
      rendered: whether the ground truth video exists already.
    """
    geneface = [str(python), "-m", "geneface_jax"]
    steps = []
    if train:
        steps.append([str(python), str(Path("scripts", "train_demo.py"))])
    steps.append([*geneface, "infer", "--subject", str(SUBJECT), "--audio", str(SPEECH), "--out", str(VIDEO)])
    if not compare:
        return steps
    if not rendered:
        steps.append([*geneface, "avatar", "video", "--speaker", "demo", "--part", "heldout", "--out", str(HELDOUT)])
    steps.append([*geneface, "prepare", str(HELDOUT / "video.mp4"), "--out", str(HELDOUT), "--size", "256"])
    # Uses pose and blinks of the ground truth video (docs/metrics.md: audio protocol).
    against = ["--against", str(HELDOUT / "dataset"), "--protocol", "audio"]
    results = ["--out", str(VIDEO.with_name("demo_beside_truth.mp4")), "--json", str(VIDEO.with_suffix(".json"))]
    steps.append([*geneface, "evaluate", "--subject", str(SUBJECT), *against, *results])
    return steps


def main() -> int:
    """Runs the demo; returns the exit code of the first step that failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the weights in checkpoints/ again first; about an hour")
    options = parser.parse_args()
    try:
        python = prepare()
    except SetupError as error:
        say(str(error))
        return 2
    compare = not ensure_system_libraries(python)
    for command in plan(python, train=options.train, compare=compare, rendered=(ROOT / HELDOUT / "video.mp4").is_file()):
        code = subprocess.run(command, cwd=ROOT).returncode
        if code:
            return code if code > 0 else 128 - code  # as in a shell: 128 plus the number of the signal
    if not compare:
        say("The comparison with the ground truth video needs MediaPipe's system libraries and was left out.")
    print(ROOT / VIDEO)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
