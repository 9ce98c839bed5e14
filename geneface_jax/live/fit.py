"""Making a person's live network: the corpora that it learns from, and training it from the shipped one.

A live network learns from the offline networks: what they say of the corpora's speech, mixed with the true motion where a person's own
speech is heard. The corpora keep the offline networks' audio features, from which the teacher's motion is made; features of live speech
need the sound, and come from the file `FEATURES` beside the corpora, and from the recording in the dataset for the person.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from data_tools.audio.sound import SAMPLES_PER_FRAME, load_audio
from data_tools.errors import InputError
from data_tools.io import atomic_folder, read_npz
from geneface_jax.data.corpus import Corpus, SubjectMotion
from geneface_jax.data.subject import Subject, record_dataset
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import checkpoints, configs
from geneface_jax.live.features import NAME, live_features, recording_features
from geneface_jax.live.speech import STAGE
from geneface_jax.training.loop import train
from geneface_jax.typing import Float, Float32

CONFIG = "audio2motion_live"

FEATURES = "live.npz"
"""File in the folder of a corpus: live features [2T, C] by clip. The shipped corpora have it."""

TAUGHT = 0.5
"""Share of the offline networks' motion in what is learnt where the truth is known."""

STEPS, RATE = 600, 5e-4
"""Updates of a person's network and their learning rate: half of a new network's, and less than half as many updates."""

OWN_TIMES = 4
"""How often a person's own speech counts, against once for the speech of the corpora."""

_CORPUS, _AUDIO = "corpus", "audio.wav"


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A clip to learn from: live features [2T, C] and the motion [T, 204] to predict."""

    name: str
    speaker: str
    split: str
    features: Float[np.ndarray, "A C"]
    motion: Float[np.ndarray, "T 204"]


def shipped_live() -> Path:
    """The shipped folder of the live network of the corpora. Raises InputError if the installation has no checkpoints."""
    return configs.shipped("checkpoints") / STAGE


def corpus_lessons(corpus: Corpus, features: Mapping[str, np.ndarray], teacher: AudioToMotion, lead: int) -> Iterable[Lesson]:
    """The clips of a corpus that have live features: a mean of the truth and of what the corpus model `teacher` says, by `TAUGHT`.

    Args:
      corpus: with the teacher's audio features.
      features: live ones by clip.
      lead: frames by which the teacher's faces are earlier than the corpus'.
    """
    for clip in corpus.clips:
        if clip.name in features and clip.n_frames > lead:
            said, truth = _said(teacher, clip.audio_features, clip.f0)[: clip.n_frames - lead], clip.motion[lead:]
            said = said - teacher.motion_mean + corpus.speaker_means[clip.speaker]
            yield Lesson(clip.name, clip.speaker, clip.split, features[clip.name][: 2 * len(truth)], _mean(said, truth))


def person_lessons(
    corpora: Sequence[Corpus], features: Mapping[str, np.ndarray], teacher: AudioToMotion, own: SubjectMotion, samples: np.ndarray
) -> Iterable[Lesson]:
    """What a person's offline networks `teacher` say of the corpora, and the person's own speech `OWN_TIMES`.

    Args:
      corpora: with the teacher's audio features.
      features: live ones by clip.
      own: the person's speech. samples: of its recording, from the first training frame on.
    """
    for corpus in corpora:
        for clip in corpus.clips:
            if clip.split == "train" and (heard := features.get(clip.name)) is not None:
                said = _said(teacher, clip.audio_features, clip.f0)
                yield Lesson(clip.name, own.name, "train", heard[: 2 * len(said)], said)
    frames = own.train.n_frames
    whole = recording_features(samples, len(samples) // SAMPLES_PER_FRAME)
    for clip, heard in ((own.train, whole[: 2 * frames]), (own.val, whole[-2 * own.val.n_frames :])):
        motion = _mean(_said(teacher, clip.audio_features, clip.f0), clip.motion)
        for number in range(OWN_TIMES if clip is own.train else 1):
            yield Lesson(f"own_{clip.split}_{number}", own.name, clip.split, heard, motion)


def _said(teacher: AudioToMotion, audio_features: np.ndarray, f0: np.ndarray) -> Float32[np.ndarray, "T 204"]:
    return teacher.predict(audio_features, f0, temperature=0.0)


def _mean(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return TAUGHT * said + (1.0 - TAUGHT) * truth


def write_lessons(out: Path, lessons: Iterable[Lesson], face_model: str = "mediapipe") -> Path:
    """Writes lessons as a corpus folder (docs/file-formats.md); an existing one is replaced. f0, which isn't used, is 0."""
    arrays, rows = {}, []
    for lesson in lessons:
        rows.append({"name": lesson.name, "speaker": lesson.speaker, "n_frames": len(lesson.motion), "split": lesson.split})
        arrays[f"{lesson.name}/audio_features"] = lesson.features.astype(np.float16)
        arrays[f"{lesson.name}/f0"] = np.zeros(len(lesson.features), np.float16)
        arrays[f"{lesson.name}/motion"] = lesson.motion.astype(np.float16)
    meta = {"format": "geneface_jax.corpus", "format_version": 1, "face_model": face_model, "audio_model": NAME}
    meta |= {"audio_weights": live_features().weights, "clips": rows}
    with atomic_folder(out, replace=True) as temporary:
        np.savez(temporary / "clips.npz", **arrays)
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    return out


def fit_live(person: str | os.PathLike[str], postnet: ConfigDict, *, steps: int = STEPS) -> bool:
    """Makes or continues `PERSON/live`, the person's live network, from the shipped one; two minutes on two idle CPU cores.

    Args:
      person: the folder, with its complete dataset and a trained postnet/.
      postnet: the config of the latter, which names its corpora.
      steps: updates.

    Returns:
      whether there was anything to do; an interrupted training is continued.

    Raises:
      InputError: there is no shipped live network, no corpus with live features, no postnet, a dataset without its recording or with other
        features than Whisper's, or a network that was trained on another dataset.
    """
    person = Path(person)
    if max(checkpoints.steps(person / STAGE), default=-1) >= steps:
        return False
    subject, start = Subject.load(person), shipped_live()
    if subject.audio_model != "whisper":
        raise InputError(
            f"{person} has {subject.audio_model} features, and live networks learn from those of whisper: make the person again with "
            "`geneface fit --features whisper`."
        )
    recording = person / "dataset" / _AUDIO
    if not recording.is_file():
        raise InputError(f"{person}/dataset has no {_AUDIO}, from which a live network learns: use the dataset that `geneface fit` made.")
    folders = [Path(folder) for folder in (postnet.data.corpus, postnet.data.get("extra_corpus")) if folder]
    features = {name: value for folder in folders if (folder / FEATURES).is_file() for name, value in read_npz(folder / FEATURES).items()}
    if not features:
        raise InputError(f"No corpus has a {FEATURES}, from which a live network learns: leave out --corpus to use the shipped ones.")
    own, teacher = SubjectMotion.load(person), AudioToMotion.load(person / "postnet")
    samples = _fitted(load_audio(recording), subject.n_frames)
    lessons = person_lessons([Corpus.load(folder) for folder in folders], features, teacher, own, samples)
    corpus = write_lessons(person / STAGE / _CORPUS, lessons, subject.face_model)
    train(_config(corpus, start, own.fingerprint, steps), person / STAGE, init=start)
    shutil.rmtree(corpus)
    return True


def _config(corpus: Path, start: Path, fingerprint: str, steps: int) -> ConfigDict:
    """The training of a person's network, of the size of the one it starts from."""
    begun = checkpoints.load(start)
    scale = float(begun.state["constants"]["motion_std"][0])
    sources = [f"data.corpus={corpus}", f"data.scale={scale!r}", f"train.steps={steps}", f"optimizer.lr={RATE}"]
    config = configs.load(f"{CONFIG}:{begun.config.variant}", sources)
    config.model.update(begun.config.model.to_dict())
    record_dataset(config, fingerprint)
    return config


def _fitted(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """The samples of so many video frames."""
    length = n_frames * SAMPLES_PER_FRAME
    return np.pad(samples, (0, max(length - len(samples), 0)))[:length]
