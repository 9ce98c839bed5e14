"""One resumable road from a video to a person: prepare -> postnet -> head -> torso -> model card."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from data_tools.audio.features import MEL_F0, AudioFeatures
from geneface_jax.data.data_kind import DataKind, kind_of, require_same
from geneface_jax.errors import InputError
from geneface_jax.io import checkpoints, configs, files
from geneface_jax.model_card import STAGES, write_card

RECORD_FILE = "fit.json"


def fit(
    video: str | os.PathLike,
    subject: str | os.PathLike,
    *,
    size: int = 256,
    trim: str | None = None,
    consent: str | None = None,
    audio: AudioFeatures = MEL_F0,
    variant: str = "demo",
    corpus: str | os.PathLike | None = None,
    corpus_models: str | os.PathLike | None = None,
    steps: Mapping[str, int] | None = None,
) -> Path:
    """Makes `SUBJECT/{dataset,postnet,head,torso}` and `SUBJECT/card.md`. What is whole is skipped, what was interrupted goes on.

    Args:
      video: the talking video.
      subject: the folder to make.
      size: height and width in pixels.
      trim: "A-B" in seconds, or None for the whole video.
      consent: who agreed, and when.
      audio: audio features; those of the corpus and its models.
      variant: of every config, "demo" or "reference".
      corpus: corpus folder for the postnet; the shipped one when None.
      corpus_models: folder with `syncnet/` and `audio2motion/`; the shipped ones when None.
      steps: updates by stage, where they should differ from the config's.

    Returns:
      the subject folder.

    Raises:
      InputError: bad video, missing corpus or corpus models, or networks in the folder that were trained on another dataset.
    """
    subject = Path(subject)
    plans = plan(subject, variant=variant, corpus=corpus, corpus_models=corpus_models, steps=steps or {}, audio_model=audio.name)

    _say(f"1 of {len(STAGES) + 1}: prepare {video}")
    from data_tools.prepare import prepare

    started = time.perf_counter()
    dataset = prepare(video, subject / "dataset", size=size, trim=trim, audio=audio, name=subject.resolve().name, consent=consent)
    record = _open_record(subject, dataset)
    _add_minutes(subject, record, "prepare", started)

    from geneface_jax.training.loop import train

    for number, (stage, config) in enumerate(plans.items(), start=2):
        _say(f"{number} of {len(STAGES) + 1}: {stage}, {config.train.steps} steps of configs/{stage}.py:{variant}")
        started = time.perf_counter()
        try:
            train(config, subject / stage)
        finally:
            _add_minutes(subject, record, stage, started)

    card = write_card(subject, record["minutes"])
    minutes = ", ".join(f"{part} {value:.1f}" for part, value in record["minutes"].items())
    _say(f"done; minutes: {minutes}; model card: {card}")
    return subject


def plan(
    subject: Path,
    *,
    variant: str,
    corpus: str | os.PathLike | None,
    corpus_models: str | os.PathLike | None,
    steps: Mapping[str, int],
    audio_model: str = "mel_f0",
) -> dict[str, ConfigDict]:
    """The resolved config of every stage; checks that what they read exists before anything slow starts.

    Raises:
      InputError: the corpus or a corpus model is missing, or the corpus has other audio features.
    """
    shipped = configs.repository() / "checkpoints" / "avatar"
    corpus = Path(corpus) if corpus else shipped / "corpus"
    models = Path(corpus_models) if corpus_models else shipped
    if not (corpus / "meta.json").is_file():
        raise InputError(
            f"{corpus} is no corpus (it has no meta.json): name one with --corpus, or make the avatar's with ./scripts/demo.sh --train."
        )
    for model in ("syncnet", "audio2motion"):
        if not checkpoints.steps(models / model):
            raise InputError(
                f"{models / model} holds no checkpoint: name trained ones with --corpus-models, or run ./scripts/demo.sh --train."
            )
    kind = DataKind(audio_model=audio_model)
    require_same("the dataset to make", kind, f"the corpus {corpus}", kind_of(files.read_json(corpus / "meta.json")))
    sources = {
        "data.subject": subject / "dataset",
        "data.corpus": corpus,
        "data.syncnet": models / "syncnet",
        "data.audio2motion": models / "audio2motion",
        "data.head": subject / "head",
    }
    plans = {}
    for stage in STAGES:
        config = configs.load(f"{stage}:{variant}")
        known = set(configs.keys(config))
        overrides = [f"{key}={path}" for key, path in sources.items() if key in known]
        if stage in steps:
            overrides.append(f"train.steps={steps[stage]}")
        plans[stage] = configs.override(config, overrides)
    return plans


def _open_record(subject: Path, dataset: Path) -> dict:
    """Minutes so far and the dataset they belong to; networks of another dataset are refused, not mixed in."""
    fingerprint = hashlib.sha256((dataset / "arrays.npz").read_bytes()).hexdigest()
    path = subject / RECORD_FILE
    record = files.read_json(path) if path.is_file() else {"dataset": fingerprint, "minutes": {}}
    if record["dataset"] != fingerprint:
        trained = [stage for stage in STAGES if checkpoints.steps(subject / stage)]
        if trained:
            raise InputError(
                f"{dataset} has changed since {', '.join(trained)} in {subject} began training on it: "
                "use another --out, or delete those folders to train them again."
            )
        record = {"dataset": fingerprint, "minutes": {}}
    return record


def _add_minutes(subject: Path, record: dict, part: str, started: float) -> None:
    record["minutes"][part] = record["minutes"].get(part, 0.0) + (time.perf_counter() - started) / 60
    files.write_json(subject / RECORD_FILE, record)


def _say(text: str) -> None:
    print(f"fit: {text}", flush=True)
