"""Recreates the trained parts of checkpoints/: the avatar corpus, SyncNet, audio2motion, and the demo person.

    python scripts/train_demo.py [--work runs/demo] [--checkpoints checkpoints]

Every part is resumable and skipped when complete, so the same command resumes after an interruption. Real voices are mixed in from
checkpoints/grid (`scripts/grid_corpus.py`); without that folder the networks are trained on the avatar alone.
"""

import argparse
import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from live_models import make as make_live
from PIL import Image

from data_tools.audio.sound import AudioFeatures, cached
from data_tools.avatar.clip import make_corpus, render_clip
from data_tools.command_line import DEFAULT_FEATURES
from data_tools.io import read_json, write_folder, write_text
from data_tools.light import light_copy
from data_tools.video import read_video
from geneface_jax.cli.main import main as geneface
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.io import checkpoints, configs, cull
from geneface_jax.io.person_folder import STAGES
from geneface_jax.live.fit import fit_live
from geneface_jax.pipeline import fit, prepare
from geneface_jax.training.loop import train

# Tensors stored as float16: hash tables and the occupancy grid of the person, all parameters of the speech networks.
HALF = {
    "head": ("*table*", "occupancy/*"),
    "torso": ("*table*",),
    "postnet": ("params/*",),
    "syncnet": ("params/*",),
    "audio2motion": ("params/*",),
}
SIZE = 256
SENTENCES_PER_SPEAKER = 6
"""Size of the released corpus: PostNet, which is trained with it, needs variety, not volume."""

LEAD = 1
"""Frames by which faces are earlier than in the corpora: what the sound of published videos is late by in the mean."""

HEAD_STEPS = 9000
"""Half as many again as configs/head.py:demo, for the half minute that it never saw."""

UNSEEN = (
    ("A sentence it was not trained on", "heldout", None),
    ("Half a minute it was not trained on", "unseen", 30.0),
)
"""Test clips of the model card: (title, part of the demo person's recordings, seconds). The first is the sentence that `scripts/demo.sh`
renders; its six seconds have little pose variation, so there is a longer one."""

CONSENT = "none needed: a drawn avatar"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/demo"), help="folder of full datasets and checkpoints (default %(default)s)"
    )
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"), help="folder of the released copies (default %(default)s)")
    args = parser.parse_args()
    work, released = args.work, args.checkpoints
    corpus, small, video, subject = work / "corpus", work / "corpus_small", work / "video", work / "subject"

    features = cached(audio_features(DEFAULT_FEATURES))
    timed("corpus", lambda: make_once(corpus / "meta.json", lambda: make_corpus(corpus, features=features)))
    some = {"sentences": SENTENCES_PER_SPEAKER, "features": rounded(features)}
    timed("small corpus", lambda: make_once(small / "meta.json", lambda: make_corpus(small, **some)))
    real = released / "grid"
    real = real if (real / "meta.json").is_file() else None
    sources = [f"data.corpus={corpus}", f"data.extra_corpus={real or ''}", f"data.lead={LEAD}"]
    timed("syncnet", lambda: train(configs.load("syncnet:demo", sources), work / "syncnet"))
    sources.append(f"data.syncnet={work / 'syncnet'}")
    timed("audio2motion", lambda: train(configs.load("audio2motion:demo", sources), work / "audio2motion"))
    timed("demo video", lambda: make_once(video / "video.mp4", lambda: render_clip(video, "demo", "train")))
    person = {"size": SIZE, "consent": CONSENT, "corpus": small, "corpus_models": work, "extra_corpus": real, "steps": {"head": HEAD_STEPS}}
    person["live"] = False  # below: the shipped network that it begins with isn't there yet
    timed("demo person", lambda: fit(video / "video.mp4", subject, **person))

    write_folder(released / "avatar" / "corpus", lambda folder: shutil.copytree(small, folder, dirs_exist_ok=True))
    for model in ("syncnet", "audio2motion"):
        checkpoints.release(work / model, released / "avatar" / model, half=HALF[model])
    for stage in STAGES:
        checkpoints.release(subject / stage, released / "demo" / stage, half=HALF[stage])
    # It recognizes its networks by their values in half precision.
    shutil.copyfile(subject / "head" / cull.FILE, released / "demo" / "head" / cull.FILE)
    light_copy(subject / "dataset", released / "demo" / "dataset")
    shipped_corpus = released / "avatar" / "corpus"
    folders = work / "live", work / "audio2motion", corpus, shipped_corpus, released / "grid", released / "live"
    timed("live", lambda: make_live(*folders))
    postnet = configs.override(checkpoints.load(subject / "postnet").config, [f"data.corpus={shipped_corpus}"])
    timed("live person", lambda: fit_live(subject, postnet))
    checkpoints.release(subject / "live", released / "demo" / "live", half=("params/*",))
    timed("measurement", lambda: measure(subject, released / "demo", work))
    readme_image(work / "heldout" / "beside_truth.mp4", work / "avatar.png")
    total = sum(path.stat().st_size for path in released.rglob("*") if path.is_file())
    print(f"{released}: {total / 1e6:.1f} MB")


def rounded(features: AudioFeatures) -> AudioFeatures:
    """The features in steps of a sixteenth of their deviation, as those of checkpoints/grid, which take half the bytes."""

    def compute(samples: np.ndarray, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
        values, f0 = features.compute(samples, n_frames)
        return np.round(values * 16.0) / 16.0, f0

    return dataclasses.replace(features, compute=compute)


def measure(subject: Path, released: Path, work: Path) -> None:
    """Writes the released model card: the one of `fit` with the scores of the test clips added."""
    sections = [section(title, compare(released, work / part, part, seconds)) for title, part, seconds in UNSEEN]
    card = (subject / "card.md").read_text(encoding="utf-8").replace(f"# {subject.name}:", "# The avatar's demo person:")
    write_text(released / "card.md", card.replace("## Use and limits", "\n".join(sections) + "\n## Use and limits"))


def compare(released: Path, work: Path, part: str, seconds: float | None) -> dict:
    """Renders and prepares a ground truth clip and evaluates the released weights against it with the audio protocol."""
    clip = make_once(work / "clip" / "video.mp4", lambda: render_clip(work / "clip", "demo", part, seconds=seconds))
    truth = prepare(clip, work, size=SIZE, consent=CONSENT)
    figures = work / "figures.json"
    command = ["evaluate", "--subject", str(released), "--against", str(truth), "--protocol", "audio"]
    if geneface([*command, "--out", str(work / "beside_truth.mp4"), "--json", str(figures)]):
        raise SystemExit(2)
    return read_json(figures)


def section(title: str, figures: dict) -> str:
    """The model card's section of a test clip."""
    mouth = figures["landmarks"]["rendered"]
    first, end = figures["frames"]
    lines = [
        f"## {title}",
        f"Audio protocol: {end - first} frames, {figures['size']}x{figures['size']}, 8-bit RGB before H.264; landmarks from the audio, "
        "pose and blinks from the true video; these released weights. Head: over the true torso and background; composite: over the torso "
        "network and the one background.",
        "",
        "| pixels | head: PSNR | SSIM | LPIPS | composite: PSNR | SSIM | LPIPS |",
        "|---|---|---|---|---|---|---|",
        *[row(name, figures["pixels"]) for name in figures["pixels"]["rendered"]],
        "",
        f"Mouth LMD {mouth['lmd']:.2f} px (MediaPipe on both videos, aligned at the nose); mouth opening, correlation with the truth "
        f"{mouth['mouth_correlation']:.2f} at zero lag; eye openness {mouth['eye_correlation']:.2f}, blinks {mouth['blinks']} "
        f"(truth {mouth['truth_blinks']}); landmark jitter {mouth['jitter']:.2f} px (truth {mouth['truth_jitter']:.2f} px).",
        "",
    ]
    return "\n".join(lines)


def row(region: str, pixels: dict) -> str:
    """A row of the model card's table: a region's scores of the head and of the composite."""
    cells = []
    for score in (pixels["rendered"][region], pixels["composite"][region]):
        lpips = f"{score['lpips']:.4f}" if "lpips" in score else "n/a"
        cells += [f"{score['psnr']:.2f} dB", f"{score['ssim']:.3f}", lpips]
    return f"| {region} | {' | '.join(cells)} |"


def readme_image(video: Path, out: Path, count: int = 6) -> None:
    """Writes the README's image (docs/images/avatar.png) from a video of `geneface evaluate`: truth above, prediction below."""
    frames = list(read_video(video))
    selected = [frames[i] for i in np.linspace(0, len(frames) - 1, count + 2).astype(int)[1:-1]]
    width = selected[0].shape[1] // 3
    columns = [np.concatenate([frame[:, :width], frame[:, width : 2 * width]]) for frame in selected]
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(columns, axis=1)).save(out, optimize=True)


def timed(name: str, make: Callable[[], object]) -> None:
    """Runs one part and prints its duration."""
    print(f"== {name}", flush=True)
    started = time.perf_counter()
    make()
    print(f"== {name}: {(time.perf_counter() - started) / 60:.1f} min", flush=True)


def make_once(result: Path, make: Callable[[], object]) -> Path:
    """Runs `make` unless `result` exists; returns `result`."""
    if result.exists():
        print(f"{result.parent} exists already")
    else:
        make()
    return result


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt as stopped:  # after SIGTERM too, see `gf.TrainingStopped`
        raise SystemExit(getattr(stopped, "exit_code", 130)) from None
