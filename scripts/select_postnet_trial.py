"""Tries `geneface select-postnet` on the avatar: is its choice near the best step, and does it know a bad run when it sees one?

    python scripts/select_postnet_trial.py [--work runs/demo] [--out runs/select_postnet] [--json docs/figures/select_postnet.json]

Trains PostNet on the demo person with three seeds, once so that it collapses and once far too short, then measures the mouth of every
checkpoint on a sentence that no part of training or selection has seen (`WORK/heldout`, made by scripts/train_demo.py). A quarter of
an hour on two CPU cores; finished runs are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data_tools.io import read_json, write_json
from data_tools.light import light_copy
from geneface_jax.data.head_frame import in_head_frame_of
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.motion import motion_report
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.loop import train
from geneface_jax.training.select_postnet import select

SOUND = ["train.keep=20"]
# The person's motion in a random order: no speech tells which face is right, so the squared error teaches the generator to give one.
COLLAPSE = [
    "finetune_audio2motion.steps=0",
    "train.steps=200",
    "data.augment.enabled=false",
    "data.window=32",
    "loss.mse=1.0",
    "loss.mse_upper=1.0",
    "loss.adv=0.0",
    "loss.sync=0.0",
    "optimizer.postnet.lr=0.002",
    "optimizer.postnet.schedule=constant",
]
SHORT = ["finetune_audio2motion.steps=0", "train.steps=30"]
RUNS = {
    "seed_1": ([*SOUND, "seed=1"], "sound"),
    "seed_2": ([*SOUND, "seed=2"], "sound"),
    "seed_3": ([*SOUND, "seed=3"], "sound"),
    "collapsed": ([*COLLAPSE, "train.eval_every=100", "train.save_every=100", "train.keep=20"], "collapsed"),
    "under_trained": ([*SHORT, "train.eval_every=10", "train.save_every=10", "train.log_every=10", "train.keep=20"], "under-fitted"),
}
"""Name -> (overrides of configs/postnet.py:demo, the verdict it deserves)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="work folder of scripts/train_demo.py (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/select_postnet"), help="work folders of the runs (default %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("docs/figures/select_postnet.json"), help="figures (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="runs to make (default: all)")
    args = parser.parse_args()
    folders = {"corpus": "corpus_small", "syncnet": "syncnet", "audio2motion": "audio2motion", "subject": "subject/dataset"}
    sources = [f"data.{name}={args.work / folder}" for name, folder in folders.items()]

    table = read_json(args.json) if args.json.is_file() else {}
    for name in args.only:
        overrides, expected = RUNS[name]
        if name == "collapsed":
            overrides = [*overrides, f"data.subject={scrambled(args.work / 'subject' / 'dataset', args.out / 'scrambled')}"]
        train(configs.load("postnet:demo", [*sources, *overrides]), args.out / name)
        table[name] = {"overrides": overrides, **figures(args.out / name, args.work, expected)}
        print(name, {key: value for key, value in table[name].items() if key != "overrides"}, flush=True)
        write_json(args.json, table)


def scrambled(dataset: Path, out: Path) -> Path:
    """A copy of a dataset with its frames of motion in a random order."""
    if not out.exists():
        light_copy(dataset, out)
        with np.load(out / "arrays.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        arrays["motion"] = np.random.default_rng(0).permutation(arrays["motion"])
        np.savez(out / "arrays.npz", **arrays)
    return out


def figures(workdir: Path, work: Path, expected: str) -> dict:
    """The selection, and the true mouth error of every candidate, which the selection has no way of knowing."""
    selection = select(workdir)
    errors = {candidate.step: mouth_error(workdir, candidate.step, work) for candidate in selection.candidates}
    best = min(errors, key=errors.get)
    chosen = next(candidate for candidate in selection.candidates if candidate.step == selection.step)
    return {
        "verdict": selection.verdict,
        "expected": expected,
        "findings": selection.findings,
        "chosen_step": selection.step,
        "best_step": best,
        "chosen_over_best": round(errors[selection.step] / errors[best], 4),
        "newest_over_best": round(errors[checkpoints.steps(workdir)[-1]] / errors[best], 4),
        "worst_over_best": round(max(errors.values()) / errors[best], 4),
        "frechet_over_vae": _share(chosen.frechet, chosen.vae_frechet),
        "diversity_over_vae": _share(chosen.diversity, chosen.vae_diversity),
        "mouth_lmd_mm": {str(step): round(errors[step], 4) for step in sorted(errors)},
    }


def mouth_error(workdir: Path, step: int, work: Path) -> float:
    """Mouth LMD in millimetres on the held-out sentence."""
    subject = Subject.load(work / "subject" / "dataset")
    truth = in_head_frame_of(Subject.load(work / "heldout" / "dataset"), subject)
    prediction = AudioToMotion.load(workdir, step=step).predict(truth.audio_features, truth.f0, temperature=0.0)
    return motion_report(prediction.reshape(-1, 68, 3), truth.motion, subject.mean_face)["mouth_lmd_mm"]


def _share(value: float | None, of: float | None) -> float | None:
    return None if value is None or of is None else round(value / of, 4)


if __name__ == "__main__":
    main()
