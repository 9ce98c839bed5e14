"""Measures PostNet on real voices: agreement of the predicted mouth with the person's on held-out speech.

    python scripts/bench/real_voices.py DIR [--clips anchor_20s ...] [--settings both neither ...] [--work runs/real_voices] [--json FILE]

For every clip in DIR: prepares a dataset, trains the speech part of `geneface fit` (PostNet with fine-tuning of the VAE; no head, no torso)
and drives it with the audio of the held-out last 1/11, and with other audio of the same voice. Settings: `both` is the demo config, the
others omit audio augmentation, fine-tuning, or both; the number of adversarial updates is the same in all four. Existing results are
reused, so the run is resumable; the JSON file is updated after every clip.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

from data_tools.audio.sound import load_audio
from data_tools.io import read_json, write_json
from data_tools.prepare import prepare
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.evaluate import evaluate_motion, find_expert, motion_report
from geneface_jax.evaluation.report import to_json
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import AudioToMotion, shape_motion
from geneface_jax.inference.motion_filters import loudness
from geneface_jax.io import checkpoints, configs
from geneface_jax.pipeline import plan
from geneface_jax.training.loop import train

SETTINGS = {"both": (True, True), "augmentation": (True, False), "fine-tuning": (False, True), "neither": (False, False)}
"""Setting -> (audio augmentation, fine-tuning of the VAE)."""

CLOSE_MOUTH = {"as_predicted": 0.0, "mouth_shut_in_silence": 1.0}
"""Name of the figure -> value of the control close_mouth."""

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
PRINTED = ("mouth_correlation", "mouth_best_lag", "other_sound_correlation", "ratio_to_no_motion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="folder of talking videos")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="file names without suffix (default: every video in the folder)")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="settings (default: all four)")
    parser.add_argument("--work", type=Path, default=Path("runs/real_voices"), help="datasets and checkpoints (default %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("docs/figures/real_voices.json"), help="figures (default %(default)s)")
    args = parser.parse_args()
    videos = [p for p in sorted(args.dir.iterdir()) if p.suffix in SUFFIXES and (not args.clips or p.stem in args.clips)]
    if not videos:
        raise SystemExit(f"{args.dir} has no videos{f' named {args.clips}' if args.clips else ''}: give another folder.")
    report = read_json(args.json) if args.json.is_file() else {"clips": {}}
    report["machine"] = {"processor": processor(), "cores": os.cpu_count()}
    report["config"] = {"name": "postnet:demo", "weights": "checkpoints/avatar", **config_summary()}
    for video in videos:
        folder = args.work / video.stem
        if not (folder / "dataset" / "meta.json").is_file():
            prepare(video, folder / "dataset", name=video.stem)
        rows = report["clips"].setdefault(video.stem, {})
        for setting in args.settings:
            rows[setting] = trial(folder, setting)
            print(video.stem, setting, {key: round(rows[setting][key], 3) for key in PRINTED}, flush=True)
            write_json(args.json, to_json(report))
    print(args.json)


def trial(folder: Path, setting: str) -> dict[str, Any]:
    """Trains on one clip with one setting and measures the result."""
    work, record = folder / setting, folder / setting / "minutes.json"
    work.mkdir(parents=True, exist_ok=True)
    subject = Subject.load(folder / "dataset")
    augmentation, finetuning = SETTINGS[setting]
    config = plan(folder, variant="demo", corpus=None, corpus_models=None, steps={})["postnet"]
    changes = [f"data.augment.enabled={augmentation}"]
    if not finetuning:
        steps = config.train.steps - config.finetune_audio2motion.steps
        changes += ["finetune_audio2motion.steps=0", f"train.steps={steps}"]
    config = configs.override(config, changes)
    if not checkpoints.steps(work / "postnet") or checkpoints.steps(work / "postnet")[-1] < config.train.steps:
        started = time.perf_counter()
        train(config, work / "postnet")
        write_json(record, {"minutes": round((time.perf_counter() - started) / 60, 2)})
    figures = evaluate_motion(work, subject, subject.heldout, expert=find_expert(work))
    minutes = read_json(record)["minutes"] if record.is_file() else None
    controlled = {f"drawn_{name}": controlled_correlation(work, subject, close) for name, close in CLOSE_MOUTH.items()}
    return {
        "seconds": subject.n_frames / subject.fps,
        "train_frames": subject.n_train,
        "updates": checkpoints.steps(work / "postnet")[-1],
        "minutes": minutes,
        **figures,
        **controlled,
    }


def controlled_correlation(work: Path, subject: Subject, close_mouth: float) -> float:
    """Correlation of the mouth opening with the truth after the controls of `geneface infer`, defaults except for `close_mouth`."""
    frames = subject.heldout
    audio = slice(2 * frames.start, 2 * frames.stop)
    motion = AudioToMotion.load(work / "postnet").predict(subject.audio_features[audio], subject.f0[audio], temperature=0.0)
    level = loudness(load_audio(subject.folder / "audio.wav"), subject.n_frames)[frames.start :]
    shaped, _ = shape_motion(motion, subject, Controls(close_mouth=close_mouth), level)
    return motion_report(shaped, subject.motion[frames.start :], subject.mean_face)["mouth_correlation"]


def config_summary() -> dict[str, Any]:
    """The keys of the demo config that influence the results most."""
    config = configs.load("postnet:demo")
    return {"updates": config.train.steps, "of_them_fine_tuning": config.finetune_audio2motion.steps, "seed": config.seed}


def processor() -> str:
    """The processor's model name if the system provides it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
