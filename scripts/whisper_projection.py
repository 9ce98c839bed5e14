"""Makes checkpoints/whisper/projection.npz: the directions of Whisper's states that tell how the mouth moves.

    python scripts/whisper_projection.py [GRID_FOLDER] [--components 128] [--out checkpoints/whisper]

The states (384 numbers) are whitened by the covariance of the avatar's speech. A ridge regression then predicts the mouth's motion from a
window of whitened states, for the avatar and for the talkers of GRID that are not held out; the span of its coefficients, strongest first,
is the projection. Principal components alone lose much of it: what moves the mouth is not what varies most (figures: docs/corpus.md).
Without GRID_FOLDER the avatar's speech alone is used.

    python scripts/whisper_projection.py --live [--out checkpoints/whisper]

makes live.npz instead: the mean of the avatar's states at each place in the windows of live speech, which share the projection.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from grid_corpus import VAL, read_clips
from whisper_weights import save

from data_tools.audio.sound import SAMPLES_PER_FRAME
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import sentence_clips, voices
from geneface_jax.data.speech_batches import MOUTH
from geneface_jax.inference.whisper_features import PROJECTION, WINDOW, Encoder, whisper_folder
from geneface_jax.live.features import BLOCK, HOPS, MEANS, encoder_arrays, recording_states
from geneface_jax.models.whisper import Whisper

REACH = 2
"""Video frames before and after, whose states predict a frame's motion."""

SHAPES = 20
"""Principal components of the mouth's motion that are predicted."""

RIDGE = 3000.0
AVATAR_WEIGHT = 0.25
"""Weight of the avatar's frames against GRID's: both together count about the same."""

SENTENCES, LIVE_SENTENCES = 8, 2
"""Sentences of each of the avatar's speakers; for the means of live features."""

Clip = tuple[str, np.ndarray, np.ndarray]
"""Speaker, states [2T, 384], mouth motion [T, 60]."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, nargs="?", help="folder of GRID's talkers, see scripts/grid_corpus.py")
    parser.add_argument("--work", type=Path, default=Path("runs/voices/grid"), help="tracked clips of GRID (default %(default)s)")
    parser.add_argument("--components", type=int, default=128, help="directions that are kept (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write to; the shipped one by default")
    parser.add_argument("--live", action="store_true", help="make the means of live features instead")
    args = parser.parse_args()
    if args.live:
        print(save((args.out or whisper_folder()) / MEANS, {"mean": live_means()}))
        return 0
    encoder = Encoder(whisper_folder())
    avatar = list(avatar_clips(encoder))
    real = list(grid_clips(encoder, args.grid, args.work)) if args.grid else []
    mean, whitening = whitened(avatar, real)
    matrix = whitening @ telling_directions([(avatar, AVATAR_WEIGHT if real else 1.0), (real, 1.0)], mean, whitening, args.components)
    arrays = {"mean": mean.astype(np.float32), "matrix": matrix.astype(np.float16)}
    print(save((args.out or whisper_folder()) / PROJECTION, arrays), matrix.shape)
    return 0


def live_means() -> np.ndarray:
    """[HOPS, 384] mean of the states at each place of a block, over the first sentences of the avatar's speakers."""
    arrays, found = encoder_arrays(whisper_folder()), []
    for speaker, split in voices().items():
        for clip in sentence_clips(speaker)[:LIVE_SENTENCES] if split == "train" else ():
            frames = clip.n_frames // BLOCK * BLOCK
            found.append(recording_states(arrays, clip.samples, frames).reshape(-1, HOPS, Whisper.width))
    return np.concatenate(found).mean(axis=0, dtype=np.float64).astype(np.float32)


def avatar_clips(encoder: Encoder) -> Iterator[Clip]:
    """Sentences of the speakers of the avatar's training corpus."""
    for speaker, split in voices().items():
        for clip in sentence_clips(speaker)[:SENTENCES] if split == "train" else ():
            yield speaker, padded_states(encoder, clip.samples, clip.n_frames), perform(clip, 0).motion.reshape(-1, 204)[:, MOUTH]


def grid_clips(encoder: Encoder, folder: Path, work: Path) -> Iterator[Clip]:
    """Sentences of GRID's talkers, without those held out."""
    for clip in read_clips(folder, work):
        if clip.talker not in VAL:
            yield clip.talker, padded_states(encoder, clip.samples, len(clip.motion)), clip.motion[:, MOUTH]


def padded_states(encoder: Encoder, samples: np.ndarray, frames: int) -> np.ndarray:
    """[2 * frames, 384] states of a recording that may end a little before its picture."""
    length = frames * SAMPLES_PER_FRAME
    return encoder.states(np.pad(samples, (0, max(length - len(samples), 0)))[:length])


def whitened(avatar: Sequence[Clip], real: Sequence[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the states by place in the encoder's window [WINDOW, 384], over all clips; matrix [384, 384] that whitens the avatar's."""
    sums, counts = np.zeros((WINDOW, avatar[0][1].shape[1])), np.zeros((WINDOW, 1))
    for _, states, _ in (*avatar, *real):
        np.add.at(sums, np.arange(len(states)) % WINDOW, states)
        np.add.at(counts, np.arange(len(states)) % WINDOW, 1.0)
    mean = sums / np.maximum(counts, 1.0)
    values, vectors = np.linalg.eigh(np.cov(np.concatenate([states - np.resize(mean, states.shape) for _, states, _ in avatar]).T))
    return mean, vectors / np.sqrt(np.maximum(values, 1e-6 * values.max()))


def telling_directions(
    sets: Sequence[tuple[Sequence[Clip], float]], mean: np.ndarray, whitening: np.ndarray, components: int
) -> np.ndarray:
    """[384, components] orthonormal directions of whitened states from which a linear map predicts the mouth best."""
    scaled = [(list(by_speaker_scaled(clips)), weight) for clips, weight in sets if clips]
    motion = np.concatenate([clip[2] for clips, _ in scaled for clip in clips])
    shapes = np.linalg.svd(motion[::5] - motion.mean(axis=0), full_matrices=False)[2][:SHAPES].T
    gram, cross = 0.0, 0.0
    for clips, weight in scaled:
        for _, states, mouth in clips:
            x = neighbors((states - np.resize(mean, states.shape)) @ whitening)
            gram, cross = gram + weight * x.T @ x, cross + weight * x.T @ (mouth @ shapes)
    coefficients = np.linalg.solve(gram + RIDGE * np.eye(len(gram)), cross)
    by_direction = coefficients.reshape(-1, len(whitening), SHAPES).transpose(1, 0, 2).reshape(len(whitening), -1)
    directions = np.linalg.svd(by_direction, full_matrices=False)[0][:, :components]
    return directions * np.sign(directions[np.argmax(np.abs(directions), axis=0), np.arange(components)])  # they have no sign of their own


def by_speaker_scaled(clips: Sequence[Clip]) -> Iterator[Clip]:
    """The clips, with the mouth's motion around each speaker's mean and scaled to a deviation of 1."""
    for speaker in dict.fromkeys(clip[0] for clip in clips):
        own = [clip for clip in clips if clip[0] == speaker]
        motion = np.concatenate([clip[2] for clip in own])
        center, scale = motion.mean(axis=0), np.sqrt(np.mean(np.square(motion - motion.mean(axis=0))))
        yield from ((speaker, states, (mouth - center) / scale) for _, states, mouth in own)


def neighbors(states: np.ndarray) -> np.ndarray:
    """[2T, C] -> [T, (4 * REACH + 2) * C]: the states of a video frame and of `REACH` frames on both sides."""
    frames = len(states) // 2
    padded = np.pad(states, ((2 * REACH, 2 * REACH + 1), (0, 0)))
    return np.concatenate([padded[k : k + 2 * frames : 2] for k in range(4 * REACH + 2)], axis=1)


if __name__ == "__main__":
    sys.exit(main())
