"""From a video to a person: `prepare` makes the dataset; `fit` does everything in one resumable call.

`fit` is prepare -> postnet and its checkpoint selection -> head -> torso -> bake -> live -> model card.
With `start_from` every stage is initialized with another person's parameters and running statistics: all appearance codes are set to the
other person's mean code, the occupancy grid is carved from the new person's masks, and optimizer states start at zero (see `io.restore`).
"""

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data_tools.audio.sound import AudioFeatures
from data_tools.command_line import DEFAULT_FEATURES
from data_tools.errors import InputError
from data_tools.io import hold, require_output, write_json
from data_tools.records import Field, check_fields, read_record
from geneface_jax.data.subject import FeatureTypes, feature_types_of, require_same_features
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.opening import opening_predictor
from geneface_jax.io import checkpoints, configs, restore
from geneface_jax.io.compilation_cache import keep_programs
from geneface_jax.io.person_folder import STAGES, find_person, person_argument, write_card

logger = logging.getLogger(__name__)

RECORD_FILE = "fit.json"


def prepare(
    video: str | os.PathLike,
    person: str | os.PathLike,
    *,
    features: AudioFeatures | str = DEFAULT_FEATURES,
    name: str | None = None,
    **options: Any,
) -> Path:
    """Makes the dataset of a person, `PERSON/dataset`, from a talking video (`geneface prepare`).

    Args:
      video: the talking video.
      person: the person's folder.
      features: audio features or their name, one of `AUDIO_MODELS`.
      name: name of the person; the folder's name when None.
      options: the other arguments of `data_tools.prepare.prepare`, such as `size`, `trim`, `consent`.

    Returns:
      the dataset's folder.

    Raises:
      InputError: the video or an argument can't be used; an existing dataset is not touched.
    """
    from data_tools.prepare import prepare as make_dataset

    person = Path(person)
    options = {"predictor": opening_predictor(needed=options.get("fix_offset") == "auto"), **options}
    return make_dataset(video, person / "dataset", features=by_name(features), name=name or person.resolve().name, **options)


def fit(
    video: str | os.PathLike,
    subject: str | os.PathLike,
    *,
    size: int = 256,
    name: str | None = None,
    features: AudioFeatures | str | None = None,
    variant: str = "demo",
    corpus: str | os.PathLike | None = None,
    corpus_models: str | os.PathLike | None = None,
    extra_corpus: str | os.PathLike | None = None,
    steps: Mapping[str, int] | None = None,
    start_from: str | os.PathLike | None = None,
    restore_mode: str = restore.STRICT,
    live: bool = True,
    **prepare_options: Any,
) -> Path:
    """Makes `SUBJECT/{dataset,postnet,head,torso}`, its cull (`geneface bake`), `SUBJECT/live` and `SUBJECT/card.md`.

    Complete parts are skipped, and an interrupted one is resumed.

    Args:
      video: the talking video.
      subject: the folder to make; returned.
      size: height and width in pixels.
      name: name of the person; the folder's name when None.
      features: audio features or their name, one of `AUDIO_MODELS`; those of the corpus models when None.
      variant: of every config, "demo" or "reference".
      corpus: corpus folder for the postnet; the shipped one when None.
      corpus_models: folder with `syncnet/` and `audio2motion/`; the shipped ones when None.
      extra_corpus: a second corpus, mixed in; when None, the shipped one of real voices if `corpus` is None too, else none.
      steps: updates by stage, where they differ from the config's.
      start_from: another person (a subject folder, full or released, or the name of a shipped one) whose networks initialize each stage.
      restore_mode: "strict" refuses networks of other sizes than the config's, "lenient" initializes mismatched tensors at random.
      live: whether the network of live speech is made too (`geneface_jax.live.fit`).
      prepare_options: `trim`, `consent`, `audio_offset` and the other arguments of `data_tools.prepare.prepare`.

    Raises:
      InputError: bad video, missing corpus or corpus models, another run works in the folder, networks in it that were trained on another
        video, with other options of `prepare` or with another `start_from` (nothing in it is changed then), or a `start_from` that does
        not fit.
    """
    keep_programs()
    subject, features = Path(subject), by_name(features or _heard_by(corpus_models))
    start_from = None if start_from is None else find_person(start_from)
    kind = FeatureTypes(audio_model=features.name, face_model=prepare_options.get("face_model", "mediapipe"))
    sources = {"corpus": corpus, "corpus_models": corpus_models, "extra_corpus": extra_corpus}
    plans = plan(subject, variant=variant, steps=steps or {}, kind=kind, **sources)
    require_output(subject, folder=True)
    with hold(subject, "geneface fit"):
        origins = _origins(start_from, plans)
        _require_same_origin(subject, start_from)
        _log(f"1 of {len(STAGES) + 1}: prepare {video}")
        started = time.perf_counter()
        dataset = prepare(video, subject, size=size, features=features, name=name, **prepare_options)
        record = _open_record(subject, dataset, start_from)
        _add_minutes(subject, record, "prepare", started)
        return _train(subject, variant, plans, origins, record, start_from, restore_mode, live)


def _train(
    subject: Path,
    variant: str,
    plans: Mapping[str, ConfigDict],
    origins: Mapping[str, Path],
    record: dict,
    start_from: Path | None,
    restore_mode: str,
    live: bool,
) -> Path:
    """The stages and the card of `fit`, in a folder that it holds."""
    from geneface_jax.training.loop import train

    for number, (stage, config) in enumerate(plans.items(), start=2):
        _log(f"{number} of {len(STAGES) + 1}: {stage}, {config.train.steps} steps of configs/{stage}.py:{variant}")
        started = time.perf_counter()
        try:
            train(config, subject / stage, init=origins.get(stage), appearance_codes="mean", restore_mode=restore_mode)
        finally:
            _add_minutes(subject, record, stage, started)
        if stage == "postnet":
            _choose_postnet(subject / stage)
    started = time.perf_counter()
    if _bake(subject):
        _add_minutes(subject, record, "bake", started)
    started = time.perf_counter()
    if live and _fit_live(subject, plans["postnet"]):
        _add_minutes(subject, record, "live", started)

    card = write_card(subject, record["minutes"], _card_notes(start_from, origins))
    minutes = ", ".join(f"{part} {value:.1f}" for part, value in record["minutes"].items())
    _log(f"done; minutes: {minutes}; model card: {card}")
    return subject


def _heard_by(corpus_models: str | os.PathLike | None) -> str:
    """The audio features of a folder's audio2motion VAE; the default ones where there is none, which `plan` refuses."""
    workdir = configs.resolve(corpus_models) / "audio2motion" if corpus_models else None
    if workdir is None or not checkpoints.steps(workdir):
        return DEFAULT_FEATURES
    return feature_types_of(checkpoints.load(workdir).config.data).audio_model


def by_name(features: AudioFeatures | str) -> AudioFeatures:
    """Audio features, or those of that name. Raises as `audio_features`."""
    return audio_features(features) if isinstance(features, str) else features


def plan(
    subject: Path,
    *,
    variant: str,
    corpus: str | os.PathLike | None,
    corpus_models: str | os.PathLike | None,
    steps: Mapping[str, int],
    extra_corpus: str | os.PathLike | None = None,
    kind: FeatureTypes | None = None,
) -> dict[str, ConfigDict]:
    """The resolved config of every stage; checks that their inputs exist before anything slow starts.

    Args:
      subject, variant, corpus, corpus_models, steps, extra_corpus: as `fit`.
      kind: feature types of the dataset to make; the default ones when None.

    Raises:
      InputError: the corpus or a corpus model is missing, or the corpus has other feature types.
    """
    shipped = configs.shipped("checkpoints")
    if corpus is None and extra_corpus is None and (shipped / "grid" / "meta.json").is_file():
        extra_corpus = shipped / "grid"
    corpora = {"--corpus": configs.resolve(corpus) if corpus else shipped / "avatar" / "corpus"}
    if extra_corpus:
        corpora["--extra-corpus"] = configs.resolve(extra_corpus)
    models = configs.resolve(corpus_models) if corpus_models else shipped / "avatar"
    for option, folder in corpora.items():
        if not (folder / "meta.json").is_file():
            raise InputError(f"{folder} is no corpus (it has no meta.json): give one with {option}, or leave it out for the shipped one.")
    for model in ("syncnet", "audio2motion"):
        if not checkpoints.steps(models / model):
            raise InputError(
                f"{models / model} holds no checkpoint: give trained models with --corpus-models, or leave it out for the shipped ones."
            )
    kind = kind or FeatureTypes(audio_model=DEFAULT_FEATURES)
    for folder in corpora.values():
        require_same_features("the dataset to make", kind, f"the corpus {folder}", feature_types_of(read_record(folder / "meta.json", {})))
    sources = {
        "data.subject": subject / "dataset",
        "data.corpus": corpora["--corpus"],
        "data.extra_corpus": corpora.get("--extra-corpus", ""),
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
    """Stage -> work folder that initializes it; checks them before anything slow starts.

    A PostNet that was trained with another VAE is left out: its motion has another scale.

    Raises:
      InputError: the other person has no networks.
    """
    if start_from is None:
        return {}
    folder = Path(start_from)
    origins = {stage: folder / stage for stage in plans if checkpoints.steps(folder / stage)}
    if not origins:
        raise InputError(
            f"--from {folder} holds no trained {', '.join(plans)}: give the subject folder of a person that `geneface fit` made."
        )
    if "postnet" in origins:
        theirs, ours = (
            checkpoints.load(workdir).state["constants"]["motion_std"]
            for workdir in (origins["postnet"], plans["postnet"].data.audio2motion)
        )
        if not np.allclose(theirs, ours, rtol=1e-3):
            _log(f"the postnet in {folder} belongs to another audio2motion VAE (give its corpus models with --corpus-models to use it)")
            del origins["postnet"]
    for stage in plans:
        _log(f"{stage} starts from {origins[stage]}" if stage in origins else f"{stage} starts at random: {folder} has none that fits")
    return origins


def _choose_postnet(workdir: Path) -> None:
    """Selects the checkpoint for inference (`geneface select-postnet`); the newest one is used if the run can't be evaluated."""
    from geneface_jax.training.select_postnet import select

    try:
        selection = select(workdir)
    except InputError as error:
        _log(f"the newest postnet checkpoint is used: {error}")
        return
    with hold(workdir, "geneface fit"):
        checkpoints.write_selected_step(workdir, selection.step, selection.record())
    _log(f"postnet: step {selection.step} is used; the run is {selection.verdict}; `geneface select-postnet {workdir}` shows why")
    for finding in selection.findings:
        _log(finding)


def _bake(subject: Path) -> bool:
    """Bakes the person (`geneface bake`) if that has not been done for these networks; returns whether it was.

    The person is whole without it: if it can't be done, that is only logged.
    """
    from geneface_jax.inference import culling

    try:
        if culling.is_baked(subject):
            return False
        _log("bake: what of the person never shows, and need not be rendered")
        baked = culling.bake(subject, progress=True)
    except InputError as error:
        _log(f"the person was not baked and is rendered more slowly: {error}")
        return False
    for finding in baked.findings:
        _log(finding)
    return True


def _fit_live(subject: Path, postnet: ConfigDict) -> bool:
    """Makes the person's network of live speech; returns whether it was trained. A person without it is whole: then that is only logged."""
    from geneface_jax.live.fit import fit_live

    try:
        return fit_live(subject, postnet)
    except InputError as error:
        _log(f"the person has no network for live speech: {error}")
        return False


def _open_record(subject: Path, dataset: Path, start_from: str | os.PathLike | None) -> dict:
    """The record of the run: minutes so far, the dataset and `start_from`; refuses another dataset after training has begun."""
    fingerprint = hashlib.sha256((dataset / "arrays.npz").read_bytes()).hexdigest()
    origin = None if start_from is None else person_argument(Path(start_from).resolve())
    fresh: dict[str, Any] = {"dataset": fingerprint, "from": origin, "minutes": {}}
    path = subject / RECORD_FILE
    record = _read_record(path) if path.is_file() else fresh
    trained = [stage for stage in STAGES if checkpoints.steps(subject / stage)]
    if trained and record["dataset"] != fingerprint:
        raise InputError(
            f"{dataset} has changed since {', '.join(trained)} in {subject} began training on it: "
            "use another --out, or delete those folders to train them again."
        )
    return record if trained else fresh | {"minutes": record["minutes"] if record["dataset"] == fingerprint else {}}


def _require_same_origin(subject: Path, start_from: Path | None) -> None:
    """Raises InputError if networks in the folder began with another person than `start_from`; looks before anything is changed."""
    path = subject / RECORD_FILE
    trained = [stage for stage in STAGES if checkpoints.steps(subject / stage)]
    if not trained or not path.is_file():
        return
    record = _read_record(path)
    if record.get("from") != (None if start_from is None else person_argument(start_from.resolve())):
        earlier = f"with --from {record['from']}" if record.get("from") else "without --from"
        raise InputError(f"{', '.join(trained)} in {subject} began {earlier}: give the same again, or use another --out.")


def _read_record(path: Path) -> dict[str, Any]:
    fields = {"dataset": Field(str), "from": Field(str, optional=True), "minutes": Field(dict)}
    record = read_record(path, fields, "delete it, and --from and the dataset are not compared with those of the earlier run")
    check_fields(record["minutes"], path, dict.fromkeys(record["minutes"], Field(float, low=0)))
    return record


def _card_notes(start_from: str | os.PathLike | None, origins: Mapping[str, Path]) -> list[str]:
    if start_from is None:
        return []
    return [f"{', '.join(origins)} began with the networks of another person (`{Path(start_from).resolve().name}`), not at random."]


def _add_minutes(subject: Path, record: dict, part: str, started: float) -> None:
    record["minutes"][part] = record["minutes"].get(part, 0.0) + (time.perf_counter() - started) / 60
    write_json(subject / RECORD_FILE, record, checksum=True)


def _log(text: str) -> None:
    logger.info("fit: %s", text)
