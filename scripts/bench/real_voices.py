"""Measures how well lips follow real voices: the corpus VAE without adaptation, the linear map, and optionally `geneface fit`.

    python scripts/bench/real_voices.py FOLDER_OF_CLIPS [--fit] [--models checkpoints/avatar] [--json FILE]

Every video below the folder is a clip (sound, one face, at least 2.5 s). A clip in a subfolder belongs to the person of the subfolder's
name; a clip in the folder itself to a person of its own, or to the person that `--person REGEX` finds in its name. All means are over
persons (a person's clips are averaged first), with 95 % intervals by bootstrap over persons. Tracked clips are kept in `--work`.

`zero_shot`: the VAE of `--models` at temperature 0; correlations are Pearson's, of the mouth's opening (inner-lip gap over mouth width).
  lag0_raw: with the sound as it is in the file.
  lag0: the same after the file's offset of sound and picture is taken out. The offset comes from the SyncNet of `--models`: the shift of
    the sound, within 8 frames, with the best average score. The prediction that is scored has no part in it.
  best_lag: the best correlation within 3 frames of the raw sound, and its lag; positive: the prediction is late.
  sync_auc: how well the SyncNet tells the true mouth and its sound from the same with the sound moved by 5 to 25 frames, 1 s at a time.
  other_sound: the control, the raw sound of other persons' clips (of other parts of the clip if there is no other person).
  deviation: of the predicted opening over the true one's. shut, shut_truth: share of frames with an opening below 0.03. lmd_ratio: landmark
    distance of the mouth over that of a mouth that does not move. closure: of p, b and m, where phones lie beside the clip, or are
    recognized in English speech (--align).
`linear`: the same for the linear map from Whisper features (`geneface_jax.inference.opening`), the floor.
`fit` (with --fit): the speech part of `geneface fit` (PostNet with fine-tuning of the VAE), for `--seeds` seeds, on part of a clip, scored
  on the rest: the last quarter of clips of 15 s or more; shorter ones in three contiguous folds, every frame predicted once, by networks
  that did not see it. `zero_shot` there: the VAE without adaptation on the same frames.
"""

import argparse
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_tools.audio.sound import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, AudioFeatures, cached, load_audio, load_track, save_wav
from data_tools.corpus.measure import UnusableError, measure_clip
from data_tools.corpus.selection import CorpusSettings
from data_tools.errors import InputError
from data_tools.ffmpeg import VIDEO_SUFFIXES, probe
from data_tools.io import atomic_path, file_sha256, read_json, read_npz, write_json
from data_tools.landmarks68 import mean_face
from geneface_jax.data.corpus import Clip
from geneface_jax.data.motion import mouth_opening, pearson
from geneface_jax.data.speech_batches import normalize_clip
from geneface_jax.data.subject import FORMAT, FORMAT_VERSION, feature_types_of
from geneface_jax.evaluation.evaluate import motion_report
from geneface_jax.evaluation.lips import Phone, closure, phones_beside, shut_share
from geneface_jax.evaluation.metrics import best_lag
from geneface_jax.evaluation.report import to_json
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.inference.opening import OpeningMap
from geneface_jax.io import checkpoints, configs
from geneface_jax.pipeline import plan
from geneface_jax.training.loop import train
from geneface_jax.training.select_postnet import select
from geneface_jax.training.speech_losses import SyncExpert, sync_offset, windows_auc

MIN_SECONDS = 2.5
MAX_LAG = 3
"""Frames to each side for the best lag; the best of seven lags of unrelated tracks reaches 0.07."""

CONTROLS = 5
"""Other persons' clips in the control of a clip."""

BOOTSTRAPS = 2000
HELD_OUT, SHORT, FOLDS = 0.25, 15.0, 3

# -------- Clips


@dataclasses.dataclass(frozen=True)
class Recording:
    """A tracked clip: motion [T, 68, 3] and samples [n] at 16 kHz; phones where they are known."""

    name: str
    person: str
    motion: np.ndarray
    samples: np.ndarray
    phones: Sequence[Phone] | None

    @functools.cached_property
    def opening(self) -> np.ndarray:
        """[T], of the true mouth."""
        return opening_of(self.motion)

    def shifted(self, frames: float) -> np.ndarray:
        """The samples, delayed by a number of video frames (negative: earlier), padded with silence."""
        return delayed(self.samples, round(frames * SAMPLES_PER_FRAME))


def opening_of(motion: np.ndarray) -> np.ndarray:
    """Motion of T frames -> [T] inner-lip gap over mouth width."""
    return mouth_opening(motion.reshape(-1, 68, 3) / 10.0 + mean_face())


def delayed(samples: np.ndarray, by: int) -> np.ndarray:
    """[n] samples moved by a number of samples, padded with silence, cut to n."""
    moved = np.zeros_like(samples)
    moved[max(by, 0) : len(samples) + min(by, 0)] = samples[max(-by, 0) : len(samples) - max(by, 0)]
    return moved


def find_videos(folder: Path, names: Sequence[str] | None, pattern: str | None) -> Iterator[tuple[Path, str, str]]:
    """(video, name, person) of every clip below a folder; `names` selects some by their stems."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and (not names or path.stem in names):
            name = path.relative_to(folder).with_suffix("").as_posix()
            found = re.search(pattern, path.stem) if pattern else None
            person = found[found.re.groups and 1] if found else "" if path.parent == folder else path.parent.relative_to(folder).as_posix()
            yield path, name, person or name


def read_recording(path: Path, name: str, person: str, work: Path, align: bool = False) -> Recording | None:
    """Tracks a clip, or reads what an earlier run tracked; None if it can't be used, and says why. `align`: recognizes phones."""
    folder, digest = work / name, file_sha256(path)
    arrays = folder / "motion.npz"
    if not arrays.is_file() or str(read_npz(arrays).get("sha256")) != digest:
        settings = CorpusSettings.from_mapping(configs.load("corpus")).measure
        try:
            found, _ = measure_clip(path, probe(path), None, dataclasses.replace(settings, offset_max_corrected=0))
        except (UnusableError, InputError) as error:
            print(f"{name} is left out: {error}", flush=True)
            return None
        save_wav(folder / "audio.wav", load_track(path)[0])
        with atomic_path(arrays, ".npz") as temporary:
            np.savez(temporary, motion=found["motion"], sha256=np.array(digest))
    motion, samples = read_npz(arrays)["motion"].reshape(-1, 68, 3), load_audio(folder / "audio.wav")
    if len(motion) < MIN_SECONDS * FPS:
        print(f"{name} is left out: it lasts {len(motion) / FPS:.1f} s, and {MIN_SECONDS:g} s are needed.", flush=True)
        return None
    padded = np.pad(samples, (0, max(len(motion) * SAMPLES_PER_FRAME - len(samples), 0)))
    phones = phones_beside(path) or (recognized_phones(samples) if align else None)
    return Recording(name, person, motion, padded[: len(motion) * SAMPLES_PER_FRAME], phones)


def recognized_phones(samples: np.ndarray) -> list[Phone]:
    """Phones of [n] samples of English speech at 16 kHz by pocketsphinx: its words are often wrong, the times of their phones rarely.

    Raises:
      InputError: the package is missing.
    """
    try:
        import pocketsphinx
    except ImportError as error:
        raise InputError("Phones of real recordings need the package pocketsphinx: run `pip install 'geneface_jax[align]'`.") from error
    decoder = pocketsphinx.Decoder(loglevel="FATAL")
    data = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()

    def decode() -> None:
        decoder.start_utt()
        decoder.process_raw(data, full_utt=True)
        decoder.end_utt()

    decode()
    if decoder.hyp() is None:
        return []
    decoder.set_alignment()
    decode()
    # In units of 10 ms. The alignment can be walked once.
    return [
        Phone(phone.start / 100, (phone.start + phone.duration) / 100, phone.name.lower())
        for word in decoder.get_alignment()
        for phone in word
    ]


# -------- Figures of one prediction


def figures(opening: np.ndarray, recording: Recording, raw: np.ndarray, controls: Sequence[np.ndarray]) -> dict[str, float]:
    """Correlations of a predicted opening after the offset, of one from the raw sound, and of those from other sound."""
    truth = recording.opening
    best, lag = best_lag(raw, truth, max_lag=MAX_LAG)
    others = [pearson(*both) for both in (shortest(control, truth) for control in controls)]
    found = {"lag0_raw": pearson(raw, truth), "lag0": pearson(opening, truth), "best_lag_correlation": best, "best_lag": lag}
    found["best_lag_after_offset"] = best_lag(opening, truth, max_lag=MAX_LAG)[1]
    return found | {"other_sound": float(np.mean(others)) if others else float("nan")}


def shape_figures(motion: np.ndarray, recording: Recording, frames: slice = slice(None)) -> dict[str, float]:
    """How far and how often a predicted mouth opens and shuts, against the true one's frames."""
    report = motion_report(motion.reshape(-1, 68, 3), recording.motion[frames], mean_face())
    opening, truth = opening_of(motion), recording.opening[frames]
    found = {"deviation": report["mouth_amplitude"], "lmd_ratio": report["ratio_to_no_motion"]}
    found |= {"shut": shut_share(opening), "shut_truth": shut_share(truth)}
    if recording.phones:
        start = (frames.start or 0) / FPS
        phones = [Phone(phone.start - start, phone.end - start, phone.name) for phone in recording.phones]
        predicted, true = closure(opening, phones), closure(truth, phones)
        found |= {"closure": predicted.share, "closure_truth": true.share, "closure_phones": true.phones}
    return found


def shortest(control: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both cut to the shorter one's length."""
    length = min(len(control), len(truth))
    return control[:length], truth[:length]


def control_tracks(index: int, recordings: Sequence[Recording], predicted: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predictions from other sound: of up to `CONTROLS` clips of other persons, else of the clip's own sound, moved by 1 s and more."""
    mine = recordings[index]
    order = [(index + k) % len(recordings) for k in range(1, len(recordings))]
    others = [predicted[i] for i in order if recordings[i].person != mine.person][:CONTROLS]
    moves = np.linspace(FPS, len(mine.motion) - FPS, CONTROLS).astype(int)
    return others or [np.roll(predicted[index], move) for move in moves]


# -------- Without adaptation


def zero_shot(recordings: Sequence[Recording], vae: Path, syncnet: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """A row of figures a clip, and the offsets taken out (frames by which the mouth is late). The networks may hear different features."""
    speech, expert = AudioToMotion.load_corpus_model(vae), SyncExpert.load(syncnet)
    sound, judged = (cached(audio_features(network.kind.audio_model)) for network in (speech, expert))
    raw, offsets, motions, aucs = [], [], [], []
    for recording in recordings:
        n_frames = len(recording.motion)
        features, f0 = sound.compute(recording.samples, n_frames)
        raw.append(opening_of(speech.predict(features, f0, temperature=0.0)))
        heard = features if judged.recipe == sound.recipe else judged.compute(recording.samples, n_frames)[0]
        offsets.append(sync_offset(expert, heard, f0, recording.motion.reshape(n_frames, -1)))
        moved = recording.shifted(offsets[-1].lag)
        motions.append(speech.predict(*sound.compute(moved, n_frames), temperature=0.0))
        aucs.append(sync_auc(expert, recording, *judged.compute(moved, n_frames)))
    rows = []
    for index, (recording, offset, motion, auc) in enumerate(zip(recordings, offsets, motions, aucs, strict=True)):
        row = {f"offset_{name}": value for name, value in offset._asdict().items()} | {"sync_auc": auc}
        row |= figures(opening_of(motion), recording, raw[index], control_tracks(index, recordings, raw))
        rows.append(row | shape_figures(motion, recording))
    return rows, [offset.lag for offset in offsets]


def sync_auc(expert: SyncExpert, recording: Recording, features: np.ndarray, f0: np.ndarray) -> float:
    """AUC of the true mouth's one-second windows against the same sound, moved by 5 to 25 frames."""
    clip = Clip(recording.name, recording.person, "val", features, f0, recording.motion.reshape(len(recording.motion), -1))
    return windows_auc(expert, [normalize_clip(clip, expert.center_of(clip.motion), expert.std)])


def linear(recordings: Sequence[Recording], offsets: Sequence[float], opening: OpeningMap) -> list[dict[str, Any]]:
    """As `zero_shot`, for the linear map and the offsets that the SyncNet found."""
    sound = cached(audio_features(opening.audio_model))

    def predict(recording: Recording, offset: float) -> np.ndarray:
        return opening.predict(sound.compute(recording.shifted(offset), len(recording.motion))[0])

    raw = [predict(recording, 0.0) for recording in recordings]
    return [
        figures(predict(recording, offset), recording, raw[index], control_tracks(index, recordings, raw))
        for index, (recording, offset) in enumerate(zip(recordings, offsets, strict=True))
    ]


# -------- After `geneface fit`


def folds_of(n_frames: int) -> list[range]:
    """The held-out frames of each training: the last quarter of a clip, or three thirds of one under 15 s."""
    if n_frames >= SHORT * FPS:
        return [range(round(n_frames * (1.0 - HELD_OUT)), n_frames)]
    borders = [round(n_frames * i / FOLDS) for i in range(FOLDS + 1)]
    return [range(borders[i], borders[i + 1]) for i in range(FOLDS)]


def fitted(
    recording: Recording, models: Path, corpus: Path | None, work: Path, seeds: int, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Figures of the speech part of `geneface fit` on the frames that it did not see: means over the seeds, and each seed's correlation."""
    zero = AudioToMotion.load_corpus_model(models / "audio2motion")
    sound = cached(audio_features(zero.kind.audio_model))
    features, f0 = sound.compute(recording.samples, len(recording.motion))
    folds, started = folds_of(len(recording.motion)), time.perf_counter()
    frames = slice(folds[0].start, folds[-1].stop)
    predictions = []
    for seed in range(seeds):
        parts = []
        for number, held_out in enumerate(folds):
            folder = work / recording.name / f"seed{seed}_fold{number}"
            seen = np.setdiff1d(np.arange(len(recording.motion)), held_out)
            write_dataset(folder / "dataset", recording, seen, features, f0, sound)
            speech = adapted(folder, models, corpus, seed, overrides)
            audio = slice(2 * held_out.start, 2 * held_out.stop)
            parts.append(speech.predict(features[audio], f0[audio], temperature=0.0))
        predictions.append(np.concatenate(parts))
    truth = recording.opening[frames]
    each = [pearson(opening_of(motion), truth) for motion in predictions]
    shapes = [shape_figures(motion, recording, frames) for motion in predictions]
    still = np.concatenate([zero.predict(*(x[2 * f.start : 2 * f.stop] for x in (features, f0)), temperature=0.0) for f in folds])
    lags = [best_lag(opening_of(motion), truth, max_lag=MAX_LAG) for motion in predictions]
    return {
        "correlation": float(np.mean(each)),
        "by_seed": each,
        "zero_shot": pearson(opening_of(still), truth),
        "best_lag_correlation": float(np.mean([r for r, _ in lags])),
        "best_lag": float(np.median([lag for _, lag in lags])),
        **{name: float(np.mean([shape[name] for shape in shapes])) for name in shapes[0]},
        "frames": frames.stop - frames.start,
        "minutes": round((time.perf_counter() - started) / 60.0 / (seeds * len(folds)), 2),
    }


def adapted(folder: Path, models: Path, corpus: Path | None, seed: int, overrides: Sequence[str]) -> AudioToMotion:
    """The speech networks of `geneface fit` for the dataset in `folder`, trained or read."""
    kind = feature_types_of(read_json(folder / "dataset" / "meta.json"))
    config = plan(folder, variant="demo", corpus=corpus, corpus_models=models, steps={}, kind=kind)["postnet"]
    config = configs.override(config, [f"seed={config.seed + seed}", *overrides])
    work = folder / "postnet"
    if not checkpoints.steps(work) or checkpoints.steps(work)[-1] < config.train.steps:
        train(config, work)
    selection = select(work)
    checkpoints.write_selected_step(work, selection.step, selection.record())
    return AudioToMotion.load(work)


def write_dataset(out: Path, recording: Recording, seen: np.ndarray, features: np.ndarray, f0: np.ndarray, sound: AudioFeatures) -> None:
    """A light dataset of some frames of a recording: what the speech stages read, with a camera and pictures that stand for nothing.

    Frames left and right of a gap become neighbors: one seam in the training data of the middle fold.
    """
    count, size = len(seen), 64
    audio = np.stack([2 * seen, 2 * seen + 1], axis=1).reshape(-1)
    motion = recording.motion[seen].astype(np.float32)
    n_train = count * 10 // 11
    box = np.tile(np.array([0, 0, size, size], np.int32), (count, 1))
    arrays = {
        "audio_features": features[audio].astype(np.float32),
        "f0": f0[audio].astype(np.float32),
        "motion": motion,
        "motion_mean": motion[:n_train].mean(0),
        "motion_std": motion[:n_train].std(0),
        "mean_face": mean_face(),
        "landmarks_2d": np.zeros((count, 68, 2), np.float32),
        "cameras": np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        "eye_openness": np.full(count, 0.3, np.float32),
        "face_box": box,
        "lip_box": box,
        "interpolated": np.zeros(count, bool),
    }
    camera = {"fx": 4.0 * size, "fy": 4.0 * size, "cx": size / 2.0, "cy": size / 2.0}
    meta = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": recording.name, "fps": FPS, "size": size, "n_frames": count}
    meta |= {"n_train": n_train, "intrinsics": camera, "face_model": "mediapipe", "audio_model": sound.name}
    if sound.weights:
        meta["audio_weights"] = sound.weights
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "arrays.npz", ".npz") as temporary:
        np.savez(temporary, **arrays)
    Image.new("RGB", (size, size)).save(out / "background.png")
    write_json(out / "meta.json", meta)


# -------- Means over persons


def over_persons(values: Sequence[float], persons: Sequence[str], average: Callable[..., Any] = np.mean) -> tuple[float, list[float], int]:
    """Average over persons of their clips' means, its 95 % interval (bootstrap over persons), and the number of persons."""
    by_person: dict[str, list[float]] = {}
    for value, person in zip(values, persons, strict=True):
        if value is not None and np.isfinite(value):
            by_person.setdefault(person, []).append(float(value))
    means = np.array([np.mean(each) for each in by_person.values()])
    if not len(means):
        return float("nan"), [float("nan")] * 2, 0
    drawn = np.random.default_rng(0).integers(len(means), size=(BOOTSTRAPS, len(means)))
    interval = np.quantile(average(means[drawn], axis=1), [0.025, 0.975])
    return float(average(means)), [float(x) for x in interval], len(means)


SUMMARY = {
    "mean_lag0_raw": ("lag0_raw", np.mean),
    "mean_lag0": ("lag0", np.mean),
    "mean_best_lag": ("best_lag_correlation", np.mean),
    "median_best_lag": ("best_lag", np.median),
    "median_best_lag_after_offset": ("best_lag_after_offset", np.median),
    "other_sound": ("other_sound", np.mean),
    "sync_auc": ("sync_auc", np.mean),
    "mean_correlation": ("correlation", np.mean),
    "mean_zero_shot": ("zero_shot", np.mean),
    "deviation": ("deviation", np.mean),
    "lmd_ratio": ("lmd_ratio", np.mean),
    "shut": ("shut", np.mean),
    "shut_truth": ("shut_truth", np.mean),
    "closure": ("closure", np.mean),
    "closure_truth": ("closure_truth", np.mean),
}
"""Figure of a summary -> (figure of a row, average over persons)."""


def summary(rows: Sequence[dict[str, Any]], persons: Sequence[str]) -> dict[str, Any]:
    """The figures of `SUMMARY` that the rows have, with `interval_NAME`, and the number of persons."""
    found: dict[str, Any] = {}
    for name, (key, average) in SUMMARY.items():
        if any(key in row for row in rows):
            mean, interval, count = over_persons([row.get(key, float("nan")) for row in rows], persons, average)
            found |= {name: mean, f"interval_{name}": interval, "persons": max(count, found.get("persons", 0))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="folder of talking videos")
    parser.add_argument("--fit", action="store_true", help="also train the speech part of `geneface fit` on every clip (4 minutes each)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of every fit (default %(default)s)")
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="file names without suffix (default: every video)")
    parser.add_argument("--person", metavar="REGEX", help="finds the person in a file's name: its first group, or all that matches")
    parser.add_argument("--align", action="store_true", help="recognize phones where none lie beside a clip: English, .[align]")
    parser.add_argument("--models", type=Path, help="folder of audio2motion/ and syncnet/ (default: the shipped ones)")
    parser.add_argument("--vae", type=Path, help="work folder of another audio2motion (without --fit)")
    parser.add_argument("--syncnet", type=Path, help="work folder of another SyncNet, which finds the offsets (without --fit)")
    parser.add_argument("--corpus", type=Path, help="corpus for --fit (default: the shipped one)")
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE", help="of configs/postnet.py:demo, for --fit")
    parser.add_argument("--linear", type=Path, metavar="FILE", help="linear map (default: the shipped one)")
    parser.add_argument("--work", type=Path, default=Path("runs/voices/clips"), help="tracked clips and fits (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file of the figures")
    args = parser.parse_args()
    models = args.models or configs.shipped("checkpoints") / "avatar"
    if args.fit and (args.vae or args.syncnet):
        parser.error("--fit takes both networks from --models")
    found = [read_recording(*video, args.work, args.align) for video in find_videos(args.dir, args.clips, args.person)]
    recordings = [recording for recording in found if recording is not None]
    if not recordings:
        raise SystemExit(f"{args.dir} holds no clip that can be measured: give a folder of talking videos with sound.")
    persons = [recording.person for recording in recordings]
    rows, offsets = zero_shot(recordings, args.vae or models / "audio2motion", args.syncnet or models / "syncnet")
    report: dict[str, Any] = {
        "models": {name: str(getattr(args, name) or "shipped") for name in ("models", "vae", "syncnet")},
        "zero_shot": summary(rows, persons),
        "clips": [
            {"name": r.name, "person": r.person, "seconds": len(r.samples) / SAMPLE_RATE, "zero_shot": row}
            for r, row in zip(recordings, rows, strict=True)
        ],
    }
    try:
        floor = linear(recordings, offsets, OpeningMap.load(args.linear))
        report["linear"] = summary(floor, persons)
        for clip, row in zip(report["clips"], floor, strict=True):
            clip["linear"] = row
    except InputError as error:
        print(f"The linear map is left out: {error}")
    show(report, "zero_shot", args.json)
    if args.fit:
        for clip, recording in zip(report["clips"], recordings, strict=True):
            clip["fit"] = fitted(recording, models, args.corpus, args.work / "fits" / models.name, args.seeds, args.override)
            print(recording.name, {k: round(v, 3) for k, v in clip["fit"].items() if isinstance(v, float)}, flush=True)
            done = [clip for clip in report["clips"] if "fit" in clip]
            report["fit"] = summary([clip["fit"] for clip in done], [clip["person"] for clip in done])
            save(report, args.json)
        show(report, "fit", args.json)


def save(report: dict[str, Any], path: Path | None) -> None:
    """Writes the figures if a file is named."""
    if path is not None:
        write_json(path, to_json(report))


def show(report: dict[str, Any], part: str, path: Path | None) -> None:
    """Prints a row a clip and the means; writes the file."""
    columns = [name for name, _ in SUMMARY.values() if any(name in clip.get(part, {}) for clip in report["clips"])]
    columns = ["offset_lag", *columns] if part == "zero_shot" else columns
    print(f"{part:28}" + "".join(f"{name[:13]:>14}" for name in columns))
    for clip in report["clips"]:
        print(f"{clip['name'][:27]:28}" + "".join(f"{clip.get(part, {}).get(name, float('nan')):14.3f}" for name in columns))
    for name in (part, "linear") if part == "zero_shot" and "linear" in report else (part,):
        means = {key: round(value, 3) for key, value in report[name].items() if not key.startswith("interval_")}
        print(f"{name}: {means}", flush=True)
    save(report, path)


if __name__ == "__main__":
    main()
