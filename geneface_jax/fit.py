"""One resumable road from a video to a person: prepare -> postnet (and which of its checkpoints) -> head -> torso -> model card.

With `start_from` every stage begins with another person's networks: parameters and running statistics. Appearance codes are re-made, all
of them the other person's mean code; the occupancy grid is carved anew from the new person's masks; optimisers begin at zero (`io.restore`
has the rules).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_tools.audio.features import MEL_F0, AudioFeatures
from data_tools.errors import InputError
from data_tools.io import read_json, write_json
from geneface_jax.data.compatibility import FeatureTypes, feature_types_of, require_same_features
from geneface_jax.io import checkpoints, configs, restore
from geneface_jax.io.person_folder import STAGES, write_card

RECORD_FILE = "fit.json"


def fit(
    video: str | os.PathLike,
    subject: str | os.PathLike,
    *,
    size: int = 256,
    name: str | None = None,
    audio: AudioFeatures = MEL_F0,
    variant: str = "demo",
    corpus: str | os.PathLike | None = None,
    corpus_models: str | os.PathLike | None = None,
    steps: Mapping[str, int] | None = None,
    start_from: str | os.PathLike | None = None,
    restore_mode: str = restore.STRICT,
    **prepare_options: Any,
) -> Path:
    """Makes `SUBJECT/{dataset,postnet,head,torso}` and `SUBJECT/card.md`. What is whole is skipped, what was interrupted goes on.

    Args:
      video: the talking video.
      subject: the folder to make.
      size: height and width in pixels.
      name: name of the person; the folder's without it.
      audio: audio features; those of the corpus and its models.
      variant: of every config, "demo" or "reference".
      corpus: corpus folder for the postnet; the shipped one when None.
      corpus_models: folder with `syncnet/` and `audio2motion/`; the shipped ones when None.
      steps: updates by stage, where they should differ from the config's.
      start_from: subject folder of another person (full or released) whose networks each stage begins with.
      restore_mode: "strict" refuses networks of other sizes than the config's, "lenient" begins the tensors that differ anew.
      prepare_options: `trim`, `consent`, `audio_offset` and the other arguments of `data_tools.prepare.prepare`.

    Returns:
      the subject folder.

    Raises:
      InputError: bad video, missing corpus or corpus models, networks in the folder that were trained on another dataset or began with
        another person's, or a `start_from` that does not fit.
    """
    subject = Path(subject)
    kind = FeatureTypes(audio_model=audio.name, face_model=prepare_options.get("face_model", "mediapipe"))
    plans = plan(subject, variant=variant, corpus=corpus, corpus_models=corpus_models, steps=steps or {}, kind=kind)
    origins = _origins(start_from, plans)

    _say(f"1 of {len(STAGES) + 1}: prepare {video}")
    from data_tools.prepare import prepare

    started = time.perf_counter()
    dataset = prepare(video, subject / "dataset", size=size, audio=audio, name=name or subject.resolve().name, **prepare_options)
    record = _open_record(subject, dataset, start_from)
    _add_minutes(subject, record, "prepare", started)

    from geneface_jax.training.loop import train

    for number, (stage, config) in enumerate(plans.items(), start=2):
        _say(f"{number} of {len(STAGES) + 1}: {stage}, {config.train.steps} steps of configs/{stage}.py:{variant}")
        started = time.perf_counter()
        try:
            train(config, subject / stage, init=origins.get(stage), codes="mean", restore_mode=restore_mode)
        finally:
            _add_minutes(subject, record, stage, started)
        if stage == "postnet":
            _choose_postnet(subject / stage)

    card = write_card(subject, record["minutes"], _card_notes(start_from, origins))
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
    kind: FeatureTypes | None = None,
) -> dict[str, ConfigDict]:
    """The resolved config of every stage; checks that what they read exists before anything slow starts.

    Args:
      subject, variant, corpus, corpus_models, steps: as `fit`.
      kind: of the dataset to make; the default one when None.

    Raises:
      InputError: the corpus or a corpus model is missing, or the corpus is of another kind.
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
    require_same_features(
        "the dataset to make", kind or FeatureTypes(), f"the corpus {corpus}", feature_types_of(read_json(corpus / "meta.json"))
    )
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


def _origins(start_from: str | os.PathLike | None, plans: Mapping[str, ConfigDict]) -> dict[str, Path]:
    """Stage -> work folder it begins with; checks what would only be noticed after hours otherwise.

    Raises:
      InputError: the other person has no networks, or its PostNet was trained on another VAE's motion scale.
    """
    if start_from is None:
        return {}
    folder = Path(start_from)
    origins = {stage: folder / stage for stage in plans if checkpoints.steps(folder / stage)}
    if not origins:
        raise InputError(
            f"--from {folder} holds no trained {', '.join(plans)}: name the subject folder of a person that `geneface fit` made."
        )
    if "postnet" in origins:
        theirs, ours = (
            checkpoints.load(workdir).state["constants"]["motion_std"]
            for workdir in (origins["postnet"], plans["postnet"].data.audio2motion)
        )
        if not np.allclose(theirs, ours, rtol=1e-3):
            raise InputError(
                f"the postnet of --from {folder} was trained with another audio2motion VAE than {plans['postnet'].data.audio2motion} "
                "(their motion scales differ): name its corpus models with --corpus-models."
            )
    for stage in plans:
        _say(f"{stage} begins with {origins[stage]}" if stage in origins else f"{folder} has no {stage}: it begins at random")
    return origins


def _choose_postnet(workdir: Path) -> None:
    """Writes which checkpoint inference uses (`geneface select-postnet`); a run that can't be judged keeps its newest."""
    from geneface_jax.training.select_postnet import select

    try:
        selection = select(workdir)
    except InputError as error:
        _say(f"the newest postnet checkpoint is used: {error}")
        return
    checkpoints.write_selected_step(workdir, selection.step, selection.record())
    _say(f"postnet: step {selection.step} is used; the run is {selection.verdict}; `geneface select-postnet {workdir}` shows why")
    for finding in selection.findings:
        _say(finding)


def _open_record(subject: Path, dataset: Path, start_from: str | os.PathLike | None) -> dict:
    """Minutes so far, and what they belong to: the dataset, and the person the networks began with. Neither may change under them."""
    fingerprint = hashlib.sha256((dataset / "arrays.npz").read_bytes()).hexdigest()
    origin = None if start_from is None else str(Path(start_from).resolve())
    fresh: dict[str, Any] = {"dataset": fingerprint, "from": origin, "minutes": {}}
    path = subject / RECORD_FILE
    record = read_json(path) if path.is_file() else fresh
    trained = [stage for stage in STAGES if checkpoints.steps(subject / stage)]
    if trained and record["dataset"] != fingerprint:
        raise InputError(
            f"{dataset} has changed since {', '.join(trained)} in {subject} began training on it: "
            "use another --out, or delete those folders to train them again."
        )
    if trained and record.get("from") != origin:
        began = f"with --from {record['from']}" if record.get("from") else "without --from"
        raise InputError(f"{', '.join(trained)} in {subject} began {began}: give the same again, or use another --out.")
    return record if trained else fresh | {"minutes": record["minutes"] if record["dataset"] == fingerprint else {}}


def _card_notes(start_from: str | os.PathLike | None, origins: Mapping[str, Path]) -> list[str]:
    if start_from is None:
        return []
    return [f"{', '.join(origins)} began with the networks of another person (`{Path(start_from).resolve().name}`), not at random."]


def _add_minutes(subject: Path, record: dict, part: str, started: float) -> None:
    record["minutes"][part] = record["minutes"].get(part, 0.0) + (time.perf_counter() - started) / 60
    write_json(subject / RECORD_FILE, record)


def _say(text: str) -> None:
    print(f"fit: {text}", flush=True)
