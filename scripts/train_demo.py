"""Makes everything in checkpoints/ again: the avatar corpus, SyncNet, audio2motion, and the demo person.

    python scripts/train_demo.py [--work runs/demo] [--checkpoints checkpoints]

Every part is resumable and skipped when whole, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.avatar.clip import make_corpus, render_clip
from data_tools.io import read_json, write_folder, write_text
from data_tools.light import light_copy
from data_tools.prepare import prepare
from data_tools.video.read import read_video
from geneface_jax.cli.main import main as geneface
from geneface_jax.fit import fit
from geneface_jax.io import checkpoints, configs
from geneface_jax.io.person_folder import STAGES
from geneface_jax.training.loop import train

# What is stored as float16: hash tables and the occupancy grid of the person, everything the speech networks learnt.
HALF = {
    "head": ("*table*", "occupancy/*"),
    "torso": ("*table*",),
    "postnet": ("params/*",),
    "syncnet": ("params/*",),
    "audio2motion": ("params/*",),
}
SIZE = 256
SHIPPED_SENTENCES = 6
"""Of each speaker, in the corpus that is shipped: PostNet, which learns a person beside it, needs its variety and not its volume."""

UNSEEN = (
    ("A sentence it was not trained on", "heldout", None),
    ("Half a minute it was not trained on", "unseen", 30.0),
)
"""What the card is measured on: (title, part of the demo person's recordings, seconds). The one sentence is what `scripts/demo.sh` renders;
six seconds in one pose say little of the rest, so there is a longer one."""

CONSENT = "none needed: a drawn avatar"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="full datasets and checkpoints (default %(default)s)")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="where the small copies go (default %(default)s)")
    args = parser.parse_args()
    work, shipped = args.work, args.checkpoints
    corpus, small, video, subject = work / "corpus", work / "corpus_small", work / "video", work / "subject"

    timed("corpus", lambda: unless(corpus / "meta.json", lambda: make_corpus(corpus)))
    timed("small corpus", lambda: unless(small / "meta.json", lambda: make_corpus(small, sentences=SHIPPED_SENTENCES)))
    timed("syncnet", lambda: train(configs.load("syncnet:demo", [f"data.corpus={corpus}"]), work / "syncnet"))
    sources = [f"data.corpus={corpus}", f"data.syncnet={work / 'syncnet'}"]
    timed("audio2motion", lambda: train(configs.load("audio2motion_pitch:demo", sources), work / "audio2motion"))
    timed("demo video", lambda: unless(video / "video.mp4", lambda: render_clip(video, "demo", "train")))
    person = {"size": SIZE, "consent": CONSENT, "corpus": small, "corpus_models": work}
    timed("demo person", lambda: fit(video / "video.mp4", subject, **person))

    write_folder(shipped / "avatar" / "corpus", lambda folder: shutil.copytree(small, folder, dirs_exist_ok=True))
    for model in ("syncnet", "audio2motion"):
        checkpoints.release(work / model, shipped / "avatar" / model, half=HALF[model])
    for stage in STAGES:
        checkpoints.release(subject / stage, shipped / "demo" / stage, half=HALF[stage])
    light_copy(subject / "dataset", shipped / "demo" / "dataset")
    timed("measurement", lambda: measure(subject, shipped / "demo", work))
    readme_picture(work / "heldout" / "beside_truth.mp4", work / "avatar.png")
    total = sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file())
    print(f"{shipped}: {total / 1e6:.1f} MB")


def measure(subject: Path, shipped: Path, work: Path) -> None:
    """Writes the shipped card: the fit's, and how sentences the person never said in training compare with the truth."""
    sections = [section(title, compare(shipped, work / part, part, seconds)) for title, part, seconds in UNSEEN]
    card = (subject / "card.md").read_text(encoding="utf-8").replace(f"# {subject.name}:", "# The avatar's demo person:")
    write_text(shipped / "card.md", card.replace("## Use and limits", "\n".join(sections) + "\n## Use and limits"))


def compare(shipped: Path, work: Path, part: str, seconds: float | None) -> dict:
    """Renders what the person should have looked like, prepares it, and evaluates the released weights against it by the audio protocol."""
    clip = unless(work / "clip" / "video.mp4", lambda: render_clip(work / "clip", "demo", part, seconds=seconds))
    truth = prepare(clip, work / "dataset", size=SIZE, consent=CONSENT)
    figures = work / "figures.json"
    command = ["evaluate", "--subject", str(shipped), "--against", str(truth), "--protocol", "audio"]
    if geneface([*command, "--out", str(work / "beside_truth.mp4"), "--json", str(figures)]):
        raise SystemExit(2)
    return read_json(figures)


def section(title: str, found: dict) -> str:
    """One comparison as a part of the card."""
    mouth = found["landmarks"]["rendered"]
    first, end = found["frames"]
    lines = [
        f"## {title}",
        f"Audio protocol: {end - first} frames, {found['size']}x{found['size']}, 8-bit RGB before H.264; landmarks from the audio, "
        "pose and blinks from the true video; these released weights. Head: over the true torso and background; composite: over the torso "
        "network and the one background.",
        "",
        "| pixels | head: PSNR | SSIM | LPIPS | composite: PSNR | SSIM | LPIPS |",
        "|---|---|---|---|---|---|---|",
        *[row(name, found["pixels"]) for name in found["pixels"]["rendered"]],
        "",
        f"Mouth LMD {mouth['lmd']:.2f} px (MediaPipe on both videos, aligned at the nose); mouth opening, correlation with the truth "
        f"{mouth['mouth_correlation']:.2f} at zero lag; eye openness {mouth['eye_correlation']:.2f}, blinks {mouth['blinks']} "
        f"(truth {mouth['truth_blinks']}); landmark jitter {mouth['jitter']:.2f} px (truth {mouth['truth_jitter']:.2f} px).",
        "",
    ]
    return "\n".join(lines)


def row(region: str, pixels: dict) -> str:
    """A region's figures, of the head and of the composite, as a row of the card's table."""
    cells = []
    for score in (pixels["rendered"][region], pixels["composite"][region]):
        looks = f"{score['lpips']:.4f}" if "lpips" in score else "n/a"
        cells += [f"{score['psnr']:.2f} dB", f"{score['ssim']:.3f}", looks]
    return f"| {region} | {' | '.join(cells)} |"


def readme_picture(video: Path, out: Path, count: int = 6) -> None:
    """The README's picture (docs/images/avatar.png) from a side-by-side video of `geneface evaluate`: truth above, ours below."""
    frames = list(read_video(video))
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]
    width = chosen[0].shape[1] // 3
    columns = [np.concatenate([frame[:, :width], frame[:, width : 2 * width]]) for frame in chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(columns, axis=1)).save(out, optimize=True)


def timed(name: str, make: Callable[[], object]) -> None:
    """Runs one part and prints its minutes."""
    print(f"== {name}", flush=True)
    started = time.perf_counter()
    make()
    print(f"== {name}: {(time.perf_counter() - started) / 60:.1f} min", flush=True)


def unless(there: Path, make: Callable[[], object]) -> Path:
    """Runs a part whose result isn't there yet; returns the result's path."""
    if there.exists():
        print(f"{there.parent} is there already")
    else:
        make()
    return there


if __name__ == "__main__":
    main()
