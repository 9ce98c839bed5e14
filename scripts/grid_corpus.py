"""Makes checkpoints/grid: a corpus of real speech from the GRID recordings, and the linear map from sound to the mouth's opening.

    python scripts/grid_corpus.py FOLDER [--out checkpoints/grid] [--work runs/voices/grid]
    python scripts/grid_corpus.py FOLDER --timing     # how well the offset of sound and picture is found on talkers left out

FOLDER holds a folder of .mpg files for every talker, with the word times (.align) that there are. Written are, of every clip, the
landmarks' motion with the talker's mean face subtracted, the projected Whisper features (at most 160 numbers per audio frame, from which
the sound can't be made again), f0, the mouth's opening, and the words with their times: no picture, no sound, and no face of a person;
and features and motion of two more takes of every training clip, by other voices in other rooms (`another_take`).
The same files give the same bytes on the same machine. Tracked clips are kept in --work.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import signal

from data_tools.audio.offset import estimate_offset
from data_tools.audio.sound import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, AudioFeatures, cached, load_audio, load_track, save_wav
from data_tools.avatar.performance import perform
from data_tools.avatar.speakers import sentence_clips, voices
from data_tools.corpus.measure import measure_clip
from data_tools.corpus.selection import CorpusSettings
from data_tools.errors import InputError
from data_tools.ffmpeg import probe
from data_tools.io import atomic_folder, atomic_path, file_sha256, read_npz, write_text
from data_tools.landmarks68 import landmarks_from_motion
from geneface_jax.data.motion import mouth_opening, pearson
from geneface_jax.evaluation.lips import read_words
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.opening import OpeningMap, fit_opening_map
from geneface_jax.io import configs

VAL = ("s2", "s31", "s33", "s5")
"""Talkers held out with all their clips (48 s): women and men, one of them with 30 s. None of those without a number, who may be
talkers that are here under their number too."""

DOUBTFUL = "_1600ms"
"""In the names of two clips whose sound does not fit."""

MOST_CHANNELS = 160
"""Of the projected features: what may be given away."""

FEATURE_STEP, MOTION_STEP = 1 / 16, 1 / 128
"""Steps to which features (of about unit deviation) and motion (a unit is 10 mm) are rounded: 35 dB below the features, a thirtieth of the
trembling of tracked landmarks, and half the bytes."""

TAKES, TAKE_STEP = 2, 1 / 8
"""More takes of every training clip, and the step of their features: a network trained with them follows real voices as well after twice as
many updates, which the avatar's mouth needs; without them it begins to know the few talkers by heart."""

AVATAR_WEIGHT = 0.25
"""Weight of the avatar's frames against GRID's in the linear map: both together count about the same."""

NOTICE = """\
clips.npz, live.npz and opening.npz are computed from a part of the GRID audiovisual sentence corpus:

    M. Cooke, J. Barker, S. Cunningham and X. Shao (2006): "An audio-visual corpus for speech perception and automatic speech
    recognition", Journal of the Acoustical Society of America 120, 2421-2424. https://zenodo.org/records/3625687

The corpus is published under the Creative Commons Attribution 4.0 International license (https://creativecommons.org/licenses/by/4.0/).

What was changed: of {clips} sentences of {talkers} talkers ({minutes:.1f} minutes) the positions of facial landmarks were measured and each
talker's mean face was subtracted; the sound was replaced by {channels} projected features of a speech network and the pitch. Two more takes
of every training sentence were made with another tempo, voice and room. Neither the pictures nor the recordings are here, and neither can
be made again from these numbers.

To leave it out, delete this folder: no other file needs it, but networks that were trained on it say so on their cards. Train without it by
config.data.extra_corpus="".
"""


@dataclasses.dataclass(frozen=True)
class GridClip:
    """A tracked sentence: motion [T, 204], samples [640 T] at 16 kHz, words (start s, end s, word), empty where there are no times."""

    name: str
    talker: str
    motion: np.ndarray
    samples: np.ndarray
    words: Sequence[tuple[float, float, str]]

    @property
    def opening(self) -> np.ndarray:
        """[T] inner-lip gap over mouth width."""
        return mouth_opening(landmarks_from_motion(self.motion))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of .mpg and .align files for every talker")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/grid"), help="the corpus (default %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/voices/grid"), help="tracked clips (default %(default)s)")
    parser.add_argument("--features", default="whisper", help="audio features (default %(default)s)")
    parser.add_argument("--timing", action="store_true", help="measure the estimate of offsets instead")
    args = parser.parse_args()
    features = cached(audio_features(args.features))
    clips = list(read_clips(args.folder, args.work))
    if not {clip.talker for clip in clips} > set(VAL):
        raise SystemExit(f"{args.folder} lacks talkers of {', '.join(VAL)}: give the folder with one folder for every talker of GRID.")
    if args.timing:
        timing(clips, features)
    else:
        write_corpus(args.out, clips, features)
        describe(args.out, clips)


def read_clips(folder: Path, work: Path) -> Iterator[GridClip]:
    """The sentences of a folder, in the order of their names; each is tracked once."""
    settings = dataclasses.replace(CorpusSettings.from_mapping(configs.load("corpus")).measure, offset_max_corrected=0)
    for video in sorted(folder.glob("*/*.mpg")):
        if DOUBTFUL in video.stem:
            continue
        talker, digest = video.parent.name, file_sha256(video)
        path = work / talker / video.stem / "motion.npz"
        if not path.is_file() or str(read_npz(path).get("sha256")) != digest:
            motion = measure_clip(video, probe(video), None, settings)[0]["motion"]
            save_wav(path.with_name("audio.wav"), load_track(video)[0])
            with atomic_path(path, ".npz") as temporary:
                np.savez(temporary, motion=motion, sha256=np.array(digest))
        motion, samples = read_npz(path)["motion"], load_audio(path.with_name("audio.wav"))
        samples = np.pad(samples, (0, max(len(motion) * SAMPLES_PER_FRAME - len(samples), 0)))[: len(motion) * SAMPLES_PER_FRAME]
        align = video.with_suffix(".align")
        yield GridClip(f"{talker}_{video.stem}", talker, motion, samples, read_words(align) if align.is_file() else ())


# -------- The corpus


def write_corpus(out: Path, clips: Sequence[GridClip], features: AudioFeatures) -> None:
    """Writes the folder; an existing one is replaced.

    Raises:
      InputError: the features are more than `MOST_CHANNELS` wide, or a spectrogram.
    """
    arrays: dict[str, np.ndarray] = {}
    means = talker_means(clips)
    rows, rng = [], np.random.default_rng(3)
    for clip in clips:
        values, f0 = features.compute(clip.samples, len(clip.motion))
        if values.shape[1] > MOST_CHANNELS or features.name == "mel_f0":
            raise InputError(f"{features.name} features with {values.shape[1]} channels may not be given away: use --features whisper.")
        split = "val" if clip.talker in VAL else "train"
        rows.append({"name": clip.name, "speaker": clip.talker, "n_frames": len(clip.motion), "split": split})
        arrays[f"{clip.name}/audio_features"] = rounded(values, FEATURE_STEP)
        arrays[f"{clip.name}/f0"] = f0
        arrays[f"{clip.name}/motion"] = rounded(clip.motion - means[clip.talker], MOTION_STEP)
        arrays[f"{clip.name}/opening"] = clip.opening
        if clip.words:
            arrays[f"{clip.name}/word_times"] = np.array([[start, end] for start, end, _ in clip.words], np.float32)
            rows[-1]["words"] = [word for _, _, word in clip.words]
        for number in range(TAKES if split == "train" else 0):
            take, stretch = another_take(clip, rng)
            name, n_frames = f"{clip.name}~{number}", len(take.motion)
            rows.append({"name": name, "speaker": clip.talker, "n_frames": n_frames, "split": split})
            arrays[f"{name}/audio_features"] = rounded(features.compute(take.samples, n_frames)[0], TAKE_STEP)
            heard_at = np.minimum((np.arange(2 * n_frames) / stretch).astype(int), len(f0) - 1)
            arrays[f"{name}/f0"] = f0[heard_at] / stretch
            arrays[f"{name}/motion"] = rounded(take.motion - means[clip.talker], MOTION_STEP)
    channels = next(array.shape[1] for name, array in arrays.items() if name.endswith("/audio_features"))
    meta = {"format": "geneface_jax.corpus", "format_version": 1, "face_model": "mediapipe", "audio_model": features.name}
    meta |= {"audio_weights": features.weights, "license": "CC-BY-4.0, see NOTICE", "clips": rows}
    opening = fit(clips, features, [clip for clip in clips if clip.talker not in VAL])
    facts = {"clips": len(clips), "talkers": len(means), "minutes": sum(len(clip.motion) for clip in clips) / FPS / 60.0}
    with atomic_folder(out, replace=True) as temporary:
        np.savez_compressed(temporary / "clips.npz", **{name: array.astype(np.float16) for name, array in arrays.items()})
        write_text(temporary / "meta.json", json.dumps(meta, indent=1) + "\n")
        write_text(temporary / "NOTICE", NOTICE.format(channels=channels, **facts))
        opening.save(temporary / "opening.npz")


def another_take(clip: GridClip, rng: np.random.Generator) -> tuple[GridClip, float]:
    """The clip by another voice in another room, and how many times as long it is.

    0.84 to 1.2 times as long, and as much deeper; then a random frequency response of +-5 dB, in 6 of 10 cases a decaying echo of 0.1 to
    0.6 s, in 8 of 10 noise at 8 to 40 dB.
    """
    percent, count = int(rng.integers(84, 120)), len(clip.motion)
    stretch, n_frames = percent / 100.0, count * percent // 100
    at = np.minimum(np.arange(n_frames) / stretch, count - 1)
    motion = np.stack([np.interp(at, np.arange(count), track) for track in clip.motion.T], axis=1)
    sound = np.zeros(n_frames * SAMPLES_PER_FRAME)
    slower = signal.resample_poly(clip.samples, percent, 100)[: len(sound)]
    sound[: len(slower)] = slower
    spectrum = np.fft.rfft(sound)
    waves = np.cos(np.pi * np.arange(1, 6)[:, None] * np.linspace(0.0, 1.0, len(spectrum)) ** 0.5)
    decibels = (rng.uniform(-5.0, 5.0, 5) / np.sqrt(np.arange(1, 6))) @ waves
    sound = np.fft.irfft(spectrum * 10.0 ** (decibels / 20.0), len(sound))
    if rng.random() < 0.6:
        seconds = rng.uniform(0.1, 0.6)
        decay = 10.0 ** (-3.0 * np.arange(int(seconds * SAMPLE_RATE)) / (seconds * SAMPLE_RATE))
        echo = rng.normal(size=len(decay)) * decay
        echo *= 10.0 ** (-rng.uniform(3.0, 15.0) / 20.0) / np.linalg.norm(echo)
        echo[0] += 1.0
        sound = signal.fftconvolve(sound, echo)[: len(sound)]
    if rng.random() < 0.8:
        hiss = np.fft.rfft(rng.normal(size=len(sound)))
        hiss = np.fft.irfft(hiss / np.maximum(np.arange(len(hiss)), 20.0) ** rng.uniform(0.0, 0.5), len(sound))
        sound += hiss * np.sqrt(np.mean(sound**2) / np.mean(hiss**2)) * 10.0 ** (-rng.uniform(8.0, 40.0) / 20.0)
    loudness = 10.0 ** (rng.uniform(-12.0, 6.0) / 20.0)
    return dataclasses.replace(clip, motion=motion, samples=(loudness * sound).astype(np.float32)), stretch


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    """Values as they are stored: multiples of `step`, in half precision."""
    return (np.round(values / step) * step).astype(np.float16).astype(np.float32)


def talker_means(clips: Sequence[GridClip]) -> dict[str, np.ndarray]:
    """Talker -> [204] mean motion over all frames."""
    talkers = dict.fromkeys(clip.talker for clip in clips)
    return {name: np.concatenate([clip.motion for clip in clips if clip.talker == name]).mean(0) for name in talkers}


def describe(out: Path, clips: Sequence[GridClip]) -> None:
    """Prints minutes, talkers, words and the size of the files."""
    for split, chosen in (("train", [c for c in clips if c.talker not in VAL]), ("val", [c for c in clips if c.talker in VAL])):
        seconds, talkers = sum(len(clip.motion) for clip in chosen) / FPS, {clip.talker for clip in chosen}
        timed = sum(bool(clip.words) for clip in chosen)
        print(f"{split}: {seconds / 60:.2f} minutes, {len(chosen)} clips ({timed} with word times), {len(talkers)} talkers")
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1e6:.3f} MB")


# -------- The linear map, and how well it finds offsets


def fit(clips: Sequence[GridClip], features: AudioFeatures, chosen: Sequence[GridClip]) -> OpeningMap:
    """The linear map of the avatar's speakers and of `chosen` clips. Openings are in deviations from the talker's mean in `clips`."""
    scales: dict[str, tuple[float, float]] = {}
    for talker in {clip.talker for clip in clips}:
        whole = np.concatenate([clip.opening for clip in clips if clip.talker == talker])
        scales[talker] = float(whole.mean()), float(whole.std())
    rows = []
    for clip in chosen:
        mean, std = scales[clip.talker]
        rows.append((heard(clip.samples, len(clip.motion), features), (clip.opening - mean) / std, 1.0))
    return fit_opening_map([*rows, *avatar_rows(features)], features.name, features.weights)


def heard(samples: np.ndarray, n_frames: int, features: AudioFeatures) -> np.ndarray:
    """[2T, C] audio features as a corpus stores them, so that the map can be made again from a corpus."""
    return rounded(features.compute(samples, n_frames)[0], FEATURE_STEP)


@functools.cache
def avatar_rows(features: AudioFeatures) -> tuple[tuple[np.ndarray, np.ndarray, float], ...]:
    """Features, opening and weight of the avatar's training sentences. Their timing is left as it is, since it is GRID's (`timing`)."""
    rows = []
    for speaker, split in voices().items():
        if split == "train":
            found = sentence_clips(speaker)
            openings = [mouth_opening(landmarks_from_motion(perform(clip).motion.reshape(-1, 204))) for clip in found]
            whole = np.concatenate(openings)
            for clip, opening in zip(found, openings, strict=True):
                rows.append((heard(clip.samples, clip.n_frames, features), (opening - whole.mean()) / whole.std(), AVATAR_WEIGHT))
    return tuple(rows)


FOLDS = 5
SECONDS = (3.0, 4.0, 6.0, 10.0)
LARGEST_SHIFT = 10
"""Frames by which the sound of a piece is moved at most."""

THRESHOLDS = ((0.0, 0.0), (4.0, 1.0), (4.5, 1.5), (5.0, 1.5), (5.0, 2.0), (5.5, 2.0), (6.0, 2.5))
"""Scores and margins that are tried besides the config's."""


def timing(clips: Sequence[GridClip], features: AudioFeatures) -> None:
    """Prints how late GRID's mouths are by a map of the avatar alone, and how often known shifts of the sound are found.

    The clips of a talker are put together, the mouth is moved by up to ten frames and a fraction, and the offset is estimated in pieces of
    3 to 10 s, one a second, with maps that were fitted without the talker. The control has another talker's sound.
    """
    settings = CorpusSettings.from_mapping(configs.load("corpus")).measure
    reach, talkers = settings.offset_reach, list(dict.fromkeys(clip.talker for clip in clips))
    tracks = {talker: _talker_tracks([clip for clip in clips if clip.talker == talker], features) for talker in talkers}
    drawn = fit(clips, features, [])
    lags = [estimate_offset(opening, drawn.predict(sound), reach).lag for opening, sound in tracks.values()]
    late = np.median(lags), np.average(lags, weights=[len(opening) for opening, _ in tracks.values()])
    print(f"GRID by the avatar's map: the mouth is late by {late[0]:+.2f} frames (median of talkers), {late[1]:+.2f} (mean of frames)")
    rows: list[Piece] = []
    rng = np.random.default_rng(0)
    for fold in range(FOLDS):
        left_out = talkers[fold::FOLDS]
        fitted = fit(clips, features, [clip for clip in clips if clip.talker not in left_out])
        predicted = {name: fitted.predict(tracks[name][1]) for name in left_out}
        for talker in left_out:
            whole = estimate_offset(tracks[talker][0], predicted[talker], reach)
            print(f"{talker}: correlation {pearson(tracks[talker][0], predicted[talker]):.3f}, late by {whole.lag:+.2f}", flush=True)
            rows += _pieces(rng, talker, tracks[talker][0], predicted, reach)
    for score, margin in (*THRESHOLDS, (settings.offset_min_score, settings.offset_min_margin)):
        print(f"score {score:g}, margin {margin:g}:")
        for seconds in SECONDS:
            own, other = ([row for row in rows if row.seconds == seconds and row.own is kind] for kind in (True, False))
            taken = np.array([row.error for row in own if row.score >= score and row.margin >= margin])
            shares = [
                *((taken <= limit).sum() / len(own) for limit in (0.5, 1.0)),
                *((taken > limit).sum() / len(own) for limit in (1.0, 3.0)),
            ]
            wrong = sum(row.score >= score and row.margin >= margin for row in other)
            print(
                f"  {seconds:g} s, {len(own)} pieces: within 0.5 and 1 frame {shares[0]:.1%} {shares[1]:.1%}, off by more than 1 and 3 "
                f"{shares[2]:.2%} {shares[3]:.2%}; another's sound believed {wrong} of {len(other)}"
            )


class Piece(NamedTuple):
    """An estimate: seconds of the piece, whether the sound was its own, error in frames, and the estimate's score and margin."""

    seconds: float
    own: bool
    error: float
    score: float
    margin: float


def _pieces(rng: np.random.Generator, talker: str, opening: np.ndarray, predicted: Mapping[str, np.ndarray], reach: int) -> Iterator[Piece]:
    """Estimates in the pieces of one talker; `predicted` is by talker."""
    others, frames = [name for name in predicted if name != talker], np.arange(len(opening))
    for seconds in SECONDS:
        size = round(seconds * FPS)
        for start in range(0, len(opening) - size + 1, FPS):
            late = float(rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT))
            piece = slice(start, start + size)
            mouth = np.interp(frames[piece] - late, frames, opening)
            found = estimate_offset(mouth, predicted[talker][piece], reach)
            yield Piece(seconds, True, abs(found.lag - late), found.score, found.margin)
            other = predicted[str(rng.choice(others))]
            if len(other) >= size:
                begin = int(rng.integers(len(other) - size + 1))
                found = estimate_offset(mouth, other[begin : begin + size], reach)
                yield Piece(seconds, False, 0.0, found.score, found.margin)


def _talker_tracks(clips: Sequence[GridClip], features: AudioFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Opening [T] and audio features [2T, C] of a talker's clips one after the other."""
    sounds = [heard(clip.samples, len(clip.motion), features) for clip in clips]
    return np.concatenate([clip.opening for clip in clips]), np.concatenate(sounds)


if __name__ == "__main__":
    main()
