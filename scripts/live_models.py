"""Makes checkpoints/live, the live network of the corpora, and live.npz beside the shipped ones: the live features of their clips.

    python scripts/live_models.py [GRID_FOLDER] [--work runs/live] [--teacher runs/demo/audio2motion] [--avatar runs/demo/corpus]

The teacher is the offline network of `scripts/train_demo.py`. Live features need the sound: the avatar's comes with data_tools, GRID's from
GRID_FOLDER (`scripts/grid_corpus.py`), or its features alone from the shipped file. Features that were computed are kept in --work.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from grid_corpus import TAKES, VAL, another_take, read_clips, rounded

from data_tools.avatar.speakers import sentence_clips, voices
from data_tools.io import atomic_path, read_npz
from geneface_jax.data.corpus import Corpus
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.live.features import live_features, recording_features
from geneface_jax.live.fit import CONFIG, FEATURES, corpus_lessons, write_lessons
from geneface_jax.training.loop import train

FEATURE_STEP = 1 / 8
"""Step to which released features (of about unit deviation) are rounded."""

Sound = tuple[str, np.ndarray, int]
"""Clip, samples, video frames."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, nargs="?", help="folder of GRID's talkers, see scripts/grid_corpus.py")
    parser.add_argument("--work", type=Path, default=Path("runs/live"), help="features, corpora and the training (default %(default)s)")
    parser.add_argument("--teacher", type=Path, default=Path("runs/demo/audio2motion"), help="offline network (default %(default)s)")
    parser.add_argument("--avatar", type=Path, default=Path("runs/demo/corpus"), help="the avatar's corpus (default %(default)s)")
    small = Path("checkpoints/avatar/corpus")
    parser.add_argument("--small", type=Path, default=small, help="the part of it that is shipped (default %(default)s)")
    parser.add_argument("--real", type=Path, default=Path("checkpoints/grid"), help="GRID's corpus (default %(default)s)")
    parser.add_argument("--tracked", type=Path, default=Path("runs/voices/grid"), help="tracked clips of GRID (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/live"), help="folder to write to (default %(default)s)")
    args = parser.parse_args()
    sounds = grid_sounds(args.grid, args.tracked) if args.grid else None
    make(args.work, args.teacher, args.avatar, args.small, args.real, args.out, sounds)


def make(work: Path, teacher: Path, avatar: Path, small: Path, real: Path, out: Path, sounds: Iterator[Sound] | None = None) -> None:
    """Makes the network and live.npz of the corpora `small` and `real`; the latter is read, not made, without the `sounds` of its clips."""
    heard = {avatar: features_of(work / "avatar.npz", avatar_sounds())}
    if sounds is not None:
        heard[real] = features_of(work / "grid.npz", sounds)
    elif (real / FEATURES).is_file():
        heard[real] = read_npz(real / FEATURES)
    speech, lead = AudioToMotion.load_corpus_model(teacher), checkpoints.load(teacher).config.data.get("lead", 0)
    lessons = [
        write_lessons(work / f"lessons_{number}", corpus_lessons(Corpus.load(folder), features, speech, lead))
        for number, (folder, features) in enumerate(heard.items())
    ]
    sources = [f"{key}={folder}" for key, folder in zip(("data.corpus", "data.extra_corpus"), lessons, strict=False)]
    train(configs.load(f"{CONFIG}:demo", sources), work / "network")
    checkpoints.release(work / "network", out, half=("params/*",))
    release_features(small, heard[avatar])
    if sounds is not None:
        release_features(real, heard[real])


def release_features(corpus: Path, features: Mapping[str, np.ndarray]) -> None:
    """Writes live.npz of a corpus, without the takes of GRID's sentences: a person's network learns from the recordings."""
    names = [clip.name for clip in Corpus.load(corpus).clips if "~" not in clip.name]
    with atomic_path(corpus / FEATURES, ".npz") as temporary:
        np.savez_compressed(temporary, **{name: rounded(features[name], FEATURE_STEP).astype(np.float16) for name in names})


def avatar_sounds() -> Iterator[Sound]:
    """All sentences of the corpus' speakers."""
    for speaker, split in voices().items():
        for clip in sentence_clips(speaker) if split in ("train", "val") else ():
            yield clip.name, clip.samples, clip.n_frames


def grid_sounds(folder: Path, tracked: Path) -> Iterator[Sound]:
    """All clips, and the takes of checkpoints/grid by other voices in other rooms."""
    rng = np.random.default_rng(3)
    for clip in read_clips(folder, tracked):
        yield clip.name, clip.samples, len(clip.motion)
        for number in range(0 if clip.talker in VAL else TAKES):
            take, _ = another_take(clip, rng)
            yield f"{clip.name}~{number}", take.samples, len(take.motion)


def features_of(path: Path, sounds: Iterator[Sound]) -> Mapping[str, np.ndarray]:
    """Live features by clip, from the file if it is there and was made by the same encoder."""
    key = "#weights"
    if path.is_file() and str((found := read_npz(path)).pop(key, "")) == live_features().weights:
        return found
    found = {name: recording_features(samples, frames).astype(np.float16) for name, samples, frames in sounds}
    with atomic_path(path, ".npz") as temporary:
        np.savez(temporary, **found, **{key: np.array(live_features().weights)})
    return found


if __name__ == "__main__":
    main()
