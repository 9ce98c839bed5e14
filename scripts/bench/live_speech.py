"""Compares live speech with the offline networks: mouths that follow the sound, closed lips, and the time of a block.

    python scripts/bench/live_speech.py NETWORK [--teacher WORKDIR | --person DIR] [--clips FOLDER] [--json FILE]

NETWORK is the work folder of the stage "live", or with --person the person's folder is enough. Both hear the same sound: the avatar's
speakers that are held out of the corpora (with --person: the half minute that the demo person was never trained on), whose true motion is
known, and every clip FOLDER/NAME/{motion.npz, audio.wav} that `scripts/bench/real_voices.py` tracked.

Correlations are Pearson's, of the mouth's opening (inner-lip gap over mouth width). The corpora's faces are moved earlier by `lead` frames
in training, and so is the avatar's truth here. closure: share of p, b and m with shut lips. best_lag: frames by which the live mouth is
late.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_tools.audio.sound import SAMPLES_PER_FRAME, cached, load_audio
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import SpeechClip, recording, sentence_clips, voices
from data_tools.io import read_npz, write_json
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.data.motion import mouth_opening, pearson
from geneface_jax.evaluation.lips import Phone, closure, shut_share
from geneface_jax.evaluation.metrics import best_lag
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints
from geneface_jax.live.features import WINDOW_SAMPLES
from geneface_jax.live.speech import STAGE, LiveNetwork, LiveSpeech, predict

BLOCKS = 100
"""Blocks that are timed."""


class Recording(NamedTuple):
    """A clip: set it belongs to, name, samples, true motion [T, 204] as early as the networks', phones or ()."""

    kind: str
    name: str
    samples: np.ndarray
    motion: np.ndarray
    phones: Sequence[Phone]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, nargs="?", help="work folder of the live network")
    parser.add_argument(
        "--teacher", type=Path, default=Path("checkpoints/avatar/audio2motion"), help="offline network (default %(default)s)"
    )
    parser.add_argument("--person", type=Path, help="compare a person's networks instead")
    parser.add_argument("--clips", type=Path, help="folder of tracked clips of real people")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    if args.person:
        offline, lead = AudioToMotion.load(args.person / "postnet"), 0
    else:
        offline, lead = AudioToMotion.load_corpus_model(args.teacher), checkpoints.load(args.teacher).config.data.get("lead", 0)
    live = LiveNetwork.load(args.network or args.person / STAGE)
    print(
        f"{1e3 * block_seconds(live):.1f} ms a block of {LiveSpeech.BLOCK} frames, decided {LiveSpeech.DELAY:.2f} s after its first sample"
    )
    clips = [*avatar_clips(bool(args.person), lead), *(real_clips(args.clips) if args.clips else ())]
    rows = [figures(clip, live, offline) for clip in clips]
    for row in rows:
        print("  ".join(f"{name} {value:.3f}" if isinstance(value, float) else str(value) for name, value in row.items()), flush=True)
    for kind in dict.fromkeys(clip.kind for clip in clips):
        names = [name for name, value in rows[0].items() if isinstance(value, float)]
        means = {name: float(np.nanmean([row[name] for row in rows if row["kind"] == kind])) for name in names}
        print(f"mean of {kind}: " + "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
    if args.json:
        write_json(args.json, {"block_ms": 1e3 * block_seconds(live), "clips": rows})


def avatar_clips(person: bool, lead: int) -> Iterator[Recording]:
    """Speech of the avatar with its true motion."""
    held_out = (name for name, split in voices().items() if split == "val")
    for clip in [recording("demo_unseen")] if person else [clip for name in held_out for clip in sentence_clips(name)]:
        yield Recording("avatar", clip.name, clip.samples, perform(clip).motion.reshape(-1, 204)[lead:], phones_of(clip, lead))


def phones_of(clip: SpeechClip, lead: int) -> list[Phone]:
    return [Phone(phone.start - lead / 25.0, phone.end - lead / 25.0, phone.ipa) for phone in clip.phonemes]


def real_clips(folder: Path) -> Iterator[Recording]:
    """Tracked clips of real people."""
    for path in sorted(folder.glob("*/motion.npz")):
        motion = read_npz(path)["motion"].reshape(-1, 204)
        yield Recording("real", path.parent.name, load_audio(path.with_name("audio.wav")), motion, ())


def figures(clip: Recording, live: LiveNetwork, offline: AudioToMotion) -> dict[str, float | str]:
    """How the mouths of both networks follow the clip's."""
    samples = np.zeros(len(clip.motion) * SAMPLES_PER_FRAME + 2 * SAMPLES_PER_FRAME, np.float32)
    samples[: min(len(clip.samples), len(samples))] = clip.samples[: len(samples)]
    n_frames = len(samples) // SAMPLES_PER_FRAME
    said = offline.predict(*cached(audio_features(offline.kind.audio_model)).compute(samples, n_frames), temperature=0.0)
    centers = {"offline": offline.motion_mean, "live": np.asarray(live.arrays["mean_motion"])}
    motions = {"offline": said, "live": predict(live, samples).reshape(n_frames, -1)}
    truth = opening_of(clip.motion)
    # A network's mean face is replaced by the true one: the face can't be told from the sound.
    found = {name: opening_of(motion[: len(truth)] - centers[name] + clip.motion.mean(0)) for name, motion in motions.items()}
    row: dict[str, float | str] = {"kind": clip.kind, "clip": clip.name, "live_and_offline": pearson(found["live"], found["offline"])}
    row |= {name: pearson(opening, truth) for name, opening in found.items()}
    row["best_lag"] = float(best_lag(found["live"], truth)[1])
    row |= {f"deviation_{name}": float(opening.std() / truth.std()) for name, opening in found.items()}
    row |= {f"shut_{name}": shut_share(opening) for name, opening in {**found, "truth": truth}.items()}
    row |= {f"closure_{name}": closure(opening, clip.phones).share for name, opening in {**found, "truth": truth}.items()}
    return row


def opening_of(motion: np.ndarray) -> np.ndarray:
    return mouth_opening(landmarks_from_motion(motion))


def block_seconds(live: LiveNetwork) -> float:
    """Median seconds of a block."""
    speech, seconds = LiveSpeech(live), []
    block = np.random.default_rng(0).normal(0.0, 0.1, LiveSpeech.BLOCK * SAMPLES_PER_FRAME).astype(np.float32)
    speech.push(np.zeros(WINDOW_SAMPLES, np.float32))
    for _ in range(BLOCKS):
        seconds.append(timed(lambda: speech.push(block)))
    return statistics.median(seconds)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
