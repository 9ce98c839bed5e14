"""Trials of PostNet: distance to the person's motion, checkpoint selection, and the curves of a run.

    python scripts/bench/postnet_trials.py distribution RUN [RUN ...] [--unseen runs/demo/unseen] [--json docs/figures/person_domain.json]
    python scripts/bench/postnet_trials.py selection [--work runs/demo] [--out runs/select_postnet] [--only NAME ...] [--json FILE]
    python scripts/bench/postnet_trials.py curves runs/select_postnet/seed_1 docs/images/postnet-curves.png \\
        --collapsed runs/select_postnet/collapsed
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from data_tools.avatar.clip import render_clip
from data_tools.io import read_json, write_json
from data_tools.light import light_copy
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.speech_batches import NormalizedClip, corpus_clips, model_audio, silence
from geneface_jax.data.subject import Subject
from geneface_jax.evaluation.evaluate import motion_report
from geneface_jax.evaluation.heldout import in_head_frame_of
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.models.audio2motion import generate, typical_voice
from geneface_jax.pipeline import prepare
from geneface_jax.training.loop import train
from geneface_jax.training.reporting import read_metrics, save_png
from geneface_jax.training.select_postnet import adversarial_start, select
from geneface_jax.training.speech_losses import SyncExpert, sync_bce
from geneface_jax.training.speech_validation import MotionDistribution
from geneface_jax.training.stages.audio2motion import expert_cosines

# -------- Distribution of the predicted motion


def add_distribution_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work folders of PostNets of the demo person")
    parser.add_argument("--unseen", type=Path, default=Path("runs/demo/unseen"), help="the unseen sentences (default %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("docs/figures/person_domain.json"), help="figures (default %(default)s)")


def distribution(args: argparse.Namespace) -> None:
    """Domain adaptation: Fréchet distance and sync before and after PostNet, on speech outside the training data.

    The step that `geneface select-postnet` selects is measured. The demo person's unseen sentences are rendered and prepared first if
    missing (four minutes on two CPU cores). Distances are between Gaussians of landmarks in 32 principal components of the person's
    training frames, of predictions (temperature 0) to the person's unseen frames: `own` is predicted from the audio of these frames,
    `others` from the same sentences of the corpus' two held-out speakers, which `sync` is measured on too. `floor` is the distance of the
    person's own training frames.
    """
    unseen = unseen_sentences(args.unseen)
    table = {run.name: figures(run, unseen) for run in args.runs}
    for name, row in table.items():
        print(name, row)
    write_json(args.json, table)


def unseen_sentences(folder: Path) -> Subject:
    """The demo person's twenty unseen sentences, prepared like any video."""
    if not (folder / "clip" / "video.mp4").is_file():
        render_clip(folder / "clip", "demo", "unseen")
    return Subject.load(prepare(folder / "clip" / "video.mp4", folder, size=256, consent="none needed: a drawn avatar"))


def figures(run: Path, unseen: Subject) -> dict[str, Any]:
    """Distances and sync of the corpus' VAE, of the fine-tuned VAE and of PostNet."""
    step = select(run).step
    data = checkpoints.load(run, step).config.data
    person = Subject.load(data.subject)
    trained = AudioToMotion.load(run, step=step)
    corpus_state = checkpoints.load(data.audio2motion).state
    corpus_vae = {"params": corpus_state["params"], "batch_stats": corpus_state["batch_stats"]}
    mean, std = trained.motion_mean, trained.motion_std

    def normalized(motion: np.ndarray) -> np.ndarray:
        return (motion.reshape(len(motion), -1) - mean) / std

    train = normalized(person.motion[person.train.start : person.train.stop])
    domain = MotionDistribution.fit(train, normalized(in_head_frame_of(unseen, person).motion))
    voices = corpus_clips(Corpus.load(data.corpus), checkpoints.load(data.audio2motion).config.data.center, std)[0]["val"]
    audio = model_audio(unseen.audio_features, unseen.f0)
    own_voice = dataclasses.replace(voices[0], audio=audio, f0=unseen.f0)
    expert = SyncExpert.load(data.syncnet)
    fine_tuned = trained.vae_variables
    sources = {"vae": (corpus_vae, None), "fine_tuned_vae": (fine_tuned, None), "postnet": (fine_tuned, trained.postnet)}
    row: dict[str, Any] = {"step": step, "unseen_frames": unseen.n_frames, "floor": round(domain.frechet([train]), 2)}
    for name, (variables, postnet) in sources.items():
        motions = [predict(trained, variables, postnet, voice) for voice in voices]
        distances = {"own": domain.frechet([predict(trained, variables, postnet, own_voice)]), "others": domain.frechet(motions)}
        row[name] = {key: round(value, 2) for key, value in distances.items()} | {"sync": round(sync(expert, voices, motions, std), 4)}
    row["postnet_over_vae"] = {key: round(value / row["vae"][key], 3) for key, value in row["postnet"].items()}
    return row


def predict(speech: AudioToMotion, variables: Any, postnet: Any, voice: NormalizedClip) -> np.ndarray:
    """[T, 204] the person's normalized motion for the speech of `voice`."""
    quiet = silence(1, voice.audio.shape[-1])[0]
    rng = jax.random.key(0)
    return np.asarray(
        generate(speech.vae, variables, voice.audio, quiet, rng, 0.0, postnet, typical_voice(voice.f0[None], speech.amplitudes))
    )


def sync(expert: SyncExpert, voices: Sequence[NormalizedClip], motions: Sequence[np.ndarray], std: np.ndarray) -> float:
    """Cross-entropy of "in sync" over all clips, like PostNet's `val/sync`."""
    cosines = [expert_cosines(expert, voice.audio, motion, std) for voice, motion in zip(voices, motions, strict=True)]
    return float(sync_bce(jnp.concatenate(cosines), 1.0))


# -------- Checkpoint selection

SOUND = ["train.keep=20"]
# With the person's motion in random order the audio has no information, so the squared error makes the generator predict the mean face.
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
"""Name -> (overrides of configs/postnet.py:demo, expected verdict)."""


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, default=Path("runs/demo"), help="work folder of scripts/train_demo.py (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/select_postnet"), help="work folders of the runs (default %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("docs/figures/select_postnet.json"), help="figures (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="runs (default: all)")


def selection(args: argparse.Namespace) -> None:
    """Validates `geneface select-postnet` on the avatar: distance of its choice to the best step, and verdicts on bad runs.

    Trains PostNet on the demo person with three seeds, once so that it collapses and once far too briefly, then measures the mouth error
    of every checkpoint on a sentence outside training and selection (`WORK/heldout`, from scripts/train_demo.py). A quarter of an hour on
    two CPU cores; finished runs are kept.
    """
    folders = {"corpus": "corpus_small", "syncnet": "syncnet", "audio2motion": "audio2motion", "subject": "subject/dataset"}
    sources = [f"data.{name}={args.work / folder}" for name, folder in folders.items()]

    table = read_json(args.json) if args.json.is_file() else {}
    for name in args.only:
        overrides, expected = RUNS[name]
        if name == "collapsed":
            overrides = [*overrides, f"data.subject={scrambled(args.work / 'subject' / 'dataset', args.out / 'scrambled')}"]
        train(configs.load("postnet:demo", [*sources, *overrides]), args.out / name)
        table[name] = {"overrides": overrides, **selection_figures(args.out / name, args.work, expected)}
        print(name, {key: value for key, value in table[name].items() if key != "overrides"}, flush=True)
        write_json(args.json, table)


def scrambled(dataset: Path, out: Path) -> Path:
    """A copy of a dataset with the motion's frames in random order."""
    if not out.exists():
        light_copy(dataset, out)
        with np.load(out / "arrays.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        arrays["motion"] = np.random.default_rng(0).permutation(arrays["motion"])
        np.savez(out / "arrays.npz", **arrays)
    return out


def selection_figures(workdir: Path, work: Path, expected: str) -> dict:
    """The selection, and the true mouth error of every candidate, which is unknown to the selection."""
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
        "frechet_over_vae": _ratio(chosen.frechet, chosen.vae_frechet),
        "diversity_over_vae": _ratio(chosen.diversity, chosen.vae_diversity),
        "mouth_lmd_mm": {str(step): round(errors[step], 4) for step in sorted(errors)},
    }


def mouth_error(workdir: Path, step: int, work: Path) -> float:
    """Mouth LMD in millimeters on the held-out sentence."""
    subject = Subject.load(work / "subject" / "dataset")
    truth = in_head_frame_of(Subject.load(work / "heldout" / "dataset"), subject)
    prediction = AudioToMotion.load(workdir, step=step).predict(truth.audio_features, truth.f0, temperature=0.0)
    return motion_report(prediction.reshape(-1, 68, 3), truth.motion, subject.mean_face)["mouth_lmd_mm"]


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else round(value / reference, 4)


# -------- Curves of a run

INK, OURS, OTHER, MARK = "#26323f", "#266298", "#d68222", "#c45c5c"


def add_curves_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="work folder of a PostNet")
    parser.add_argument("out", type=Path, help="PNG to write")
    parser.add_argument("--collapsed", type=Path, metavar="RUN", help="work folder of a run that collapsed, for comparison")


def curves(args: argparse.Namespace) -> None:
    """Draws the curves of a PostNet run as explained in docs/training.md, optionally with a collapsed run."""
    plt.switch_backend("Agg")  # no window
    print(draw(args.run, args.out, args.collapsed))


def draw(run: Path, out: Path, collapsed: Path | None) -> Path:
    """Writes the image and returns its path. Raises InputError like `geneface select-postnet`."""
    chosen = select(run)
    rows = [row for row in read_metrics(run) if row["step"] > adversarial_start(run)]
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.2), dpi=110, layout="constrained")
    (sync, error), (score, diversity) = axes

    sync.set_title("1  val/sync: low, but not at any price")
    line(sync, rows, "val/sync", "PostNet", OURS)
    error.set_title("2  val/mse: still falling = train on")
    line(error, rows, "val/mse", "PostNet", OURS)
    line(error, rows, "val_vae/mse", "the VAE alone", OTHER)
    score.set_title("3  discriminator: 0.5 for both = undecided")
    line(score, rows, "tr/disc_pos_conf", "the person's frames", OURS)
    line(score, rows, "tr/disc_neg_conf", "generated frames", OTHER)
    score.axhline(0.5, color=INK, lw=0.8, ls=":")
    diversity.set_title("4  val/diversity: near 0 = the same face for any speech")
    line(diversity, rows, "val/diversity", "PostNet", OURS)
    line(diversity, rows, "val_vae/diversity", "the VAE alone", OTHER)
    if collapsed:
        collapsed_rows = [row for row in read_metrics(collapsed) if row["step"] > adversarial_start(collapsed)]
        line(diversity, collapsed_rows, "val/diversity", "a collapsed run", MARK)
    diversity.set_ylim(bottom=0)
    for panel in axes.flat:
        panel.axvline(chosen.step, color=MARK, lw=1.2)
        panel.grid(color="#dddddd", lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("update")
        panel.legend(frameon=False, fontsize=9)
    figure.suptitle(f"PostNet curves, verdict: {chosen.verdict}. Red line: step {chosen.step}, which `geneface select-postnet` chooses")
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    return save_png(Image.fromarray(pixels[..., :3]), out)


def line(panel: Axes, rows: list[dict], tag: str, name: str, color: str) -> None:
    """Plots `tag` over the updates at which it was logged."""
    points = [(row["step"], row[tag]) for row in rows if tag in row]
    panel.plot(*zip(*points, strict=True), marker="o", ms=3, lw=1.6, color=color, label=name)


# -------- Command line

TRIALS = {
    "distribution": (add_distribution_arguments, distribution),
    "selection": (add_selection_arguments, selection),
    "curves": (add_curves_arguments, curves),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trials = parser.add_subparsers(required=True)
    for name, (add_arguments, run) in TRIALS.items():
        trial_parser = trials.add_parser(name, description=run.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        add_arguments(trial_parser)
        trial_parser.set_defaults(trial=run)
    args = parser.parse_args()
    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
    args.trial(args)


if __name__ == "__main__":
    main()
