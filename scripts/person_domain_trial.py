"""Does PostNet bring other people's speech into the person's domain? Fréchet distance and sync before and after, on unheard speech.

    python scripts/person_domain_trial.py RUN [RUN ...] [--unseen runs/demo/unseen] [--json docs/figures/person_domain.json]

RUN is a PostNet's work folder; the step that `geneface select-postnet` chooses is measured. The demo person's unseen sentences are
rendered and prepared first when they are not there (four minutes on two CPU cores). Distances are between Gaussians of landmarks in 32
principal components of the person's training frames: predicted (temperature 0) on one side, the person's unseen frames on the other; `own`
is predicted for the very sentences of those frames, `others` for the same sentences said by the corpus' two held-out speakers, on whom
`sync` is measured too. The person's own training frames give the floor.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.avatar.clip import render_clip
from data_tools.io import write_json
from data_tools.prepare import prepare
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.head_frame import in_head_frame_of
from geneface_jax.data.speech_batches import Pair, corpus_pairs, model_audio, silence
from geneface_jax.data.subject import Subject
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints
from geneface_jax.models.speech_to_motion import generate, typical_voice
from geneface_jax.training.select_postnet import select
from geneface_jax.training.speech.losses import sync_bce
from geneface_jax.training.speech.sync import SyncExpert
from geneface_jax.training.speech.validation import PersonDomain
from geneface_jax.training.stages.audio2motion import expert_cosines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="work folders of PostNets of the demo person")
    parser.add_argument("--unseen", type=Path, default=Path("runs/demo/unseen"), help="the unseen sentences (default %(default)s)")
    parser.add_argument("--json", type=Path, default=Path("docs/figures/person_domain.json"), help="figures (default %(default)s)")
    args = parser.parse_args()
    unseen = unseen_sentences(args.unseen)
    table = {run.name: figures(run, unseen) for run in args.runs}
    for name, row in table.items():
        print(name, row)
    write_json(args.json, table)


def unseen_sentences(folder: Path) -> Subject:
    """The demo person's twenty unseen sentences, tracked as any video is."""
    if not (folder / "clip" / "video.mp4").is_file():
        render_clip(folder / "clip", "demo", "unseen")
    return Subject.load(prepare(folder / "clip" / "video.mp4", folder / "dataset", size=256, consent="none needed: a drawn avatar"))


def figures(run: Path, unseen: Subject) -> dict[str, Any]:
    """Distances and sync of the corpus' VAE, of the VAE after fine-tuning and of PostNet."""
    step = select(run).step
    data = checkpoints.load(run, step).config.data
    person = Subject.load(data.subject)
    after = AudioToMotion.load(run, step=step)
    corpus_vae = checkpoints.load(data.audio2motion).state
    before = {"params": corpus_vae["params"], "batch_stats": corpus_vae["batch_stats"]}
    mean, std = after.motion_mean, after.motion_std

    def space(motion: np.ndarray) -> np.ndarray:
        return (motion.reshape(len(motion), -1) - mean) / std

    own = space(person.motion[person.train.start : person.train.stop])
    domain = PersonDomain.fit(own, space(in_head_frame_of(unseen, person).motion))
    voices = corpus_pairs(Corpus.load(data.corpus), checkpoints.load(data.audio2motion).config.data.center, std)[0]["val"]
    audio = model_audio(unseen.audio_features, unseen.f0)
    said = dataclasses.replace(voices[0], audio=audio, f0=unseen.f0)
    expert = SyncExpert.load(data.syncnet)
    sources = {"vae": (before, None), "fine_tuned_vae": (after.vae_variables, None), "postnet": (after.vae_variables, after.postnet)}
    row: dict[str, Any] = {"step": step, "unseen_frames": unseen.n_frames, "floor": round(domain.frechet([own]), 2)}
    for name, (variables, postnet) in sources.items():
        motions = [spoken(after, variables, postnet, voice) for voice in voices]
        distances = {"own": domain.frechet([spoken(after, variables, postnet, said)]), "others": domain.frechet(motions)}
        row[name] = {key: round(value, 2) for key, value in distances.items()} | {"sync": round(sync(expert, voices, motions, std), 4)}
    row["postnet_over_vae"] = {key: round(value / row["vae"][key], 3) for key, value in row["postnet"].items()}
    return row


def spoken(speech: AudioToMotion, variables: Any, postnet: Any, voice: Pair) -> np.ndarray:
    """[T, 204] the person's motion for another's speech, in network space."""
    quiet = silence(1, voice.audio.shape[-1])[0]
    rng = jax.random.key(0)
    return np.asarray(
        generate(speech.vae, variables, voice.audio, quiet, rng, 0.0, postnet, typical_voice(voice.f0[None], speech.amplitudes))
    )


def sync(expert: SyncExpert, voices: Sequence[Pair], motions: Sequence[np.ndarray], std: np.ndarray) -> float:
    """Cross-entropy of "in sync" over all clips, as PostNet's `val/sync`."""
    cosines = [expert_cosines(expert, voice.audio, motion, std) for voice, motion in zip(voices, motions, strict=True)]
    return float(sync_bce(jnp.concatenate(cosines), 1.0))


if __name__ == "__main__":
    main()
