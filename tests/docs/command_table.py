"""What `test_commands_run.py` does with every command line of the pages: what it appends to make it small, or why it is not run.

The last of two equal options counts, so what is appended can also put a result elsewhere. Rows run in this order, in one folder in which
the files have the names that the pages use.
"""

from __future__ import annotations

from tests.tiny_stages import OVERRIDES, known_to

_TWO_STEPS = ("train.steps=2", "train.log_every=1", "train.eval_every=0", "train.save_every=0")


def _tiny(stage: str) -> tuple[str, ...]:
    """Two updates of a stage at the size of tests/tiny_stages.py."""
    return tuple(f"--config.{text}" for text in (*known_to(f"{stage}:demo", OVERRIDES[stage]), *_TWO_STEPS))


_ON_ME = "--config.data.subject=people/me/dataset"
_ON_CORPUS = "--config.data.corpus=CORPUS --config.data.syncnet=MODELS/syncnet"
_TINY_SYNCNET = ("--config.data.syncnet=tiny/syncnet",)
PREPARE = 'geneface prepare my_video.mp4 --out people/me --size 256 --consent "me, today"'
"""The line after which the untrained networks of `people/me` are put in place."""

RUN: dict[str, tuple[str, ...]] = {
    "geneface doctor": (),
    PREPARE: ("--size", "64"),
    "geneface prepare-corpus VIDEOS --out CORPUS": ("--out", "CORPUS_OF_VIDEOS"),
    "geneface train --config syncnet:demo --workdir MODELS/syncnet --config.data.corpus=CORPUS": (
        *_tiny("syncnet"),
        *("--workdir", "MODELS/trained_syncnet"),
    ),
    f"geneface train --config audio2motion:demo --workdir MODELS/audio2motion {_ON_CORPUS}": (
        *_tiny("audio2motion"),
        *_TINY_SYNCNET,
    ),
    f"geneface train --config postnet:demo --workdir people/me/postnet {_ON_ME} {_ON_CORPUS} "
    "--config.data.audio2motion=MODELS/audio2motion": (
        *_tiny("postnet"),
        *_TINY_SYNCNET,
        *("--config.data.audio2motion=tiny/audio2motion", "--workdir", "people/me/postnet_trained"),
    ),
    f"geneface train --config head:demo --workdir people/me/head {_ON_ME}": _tiny("head"),
    f"geneface train --config configs/head.py:demo --workdir people/me/head_lr {_ON_ME} --config.optimizer.lr=1e-3": _tiny("head"),
    f"geneface train --config head:demo --workdir people/me/head_lips {_ON_ME} --config.lips.weight=0.01 --init people/me/head": (
        *_tiny("head"),
    ),
    f"geneface train --config head:demo --workdir people/me/head {_ON_ME} --init people/another/head --init-codes mean": (
        *_tiny("head"),
        *("--workdir", "people/me/head_warm", "--init", "people/me/head"),
    ),
    f"geneface train --config torso:demo --workdir people/me/torso {_ON_ME}": _tiny("torso"),
    "geneface bake people/me": (),
    "geneface select-postnet people/me/postnet": (),
    "geneface infer --subject people/me --audio speech.wav --out talk.mp4": (),
    "geneface infer --subject people/me --audio speech.wav --out talk.mp4 --debug talk_debug": (),
    "geneface infer --subject SUBJECT --audio SPEECH.wav --out VIDEO.mp4 --mouth-amp 0.5 --blink-mode period": ("--out", "SAID.mp4"),
    "geneface landmarks --subject people/me --audio people/me/dataset/audio.wav --out landmarks.mp4": ("--size", "64"),
    "geneface evaluate --subject people/me --baselines": (),
    "geneface evaluate --subject people/me --protocol head": (),
    "geneface evaluate --subject people/me --protocol audio": (),
    "geneface crop interview.mp4 face.mp4": ("--size", "64"),
    "geneface crop interview.mp4 face.mp4 --follow --size 256": ("--size", "64"),
    "geneface crop interview.mp4 face.webm --alpha": ("--size", "64"),
    "geneface compose --face talk.mp4 --into interview.mp4 --crop people/me --out whole.mp4": (),
    "geneface train --config head_sr:demo --workdir SUBJECT/head_sr --config.data.subject=SUBJECT/dataset --init SUBJECT/head "
    "--init-rule head-into-head_sr": (*_tiny("head_sr"), "--config.super_resolution.size=32"),
    "geneface train --config configs/nerf_head.py:demo --workdir SUBJECT/nerf_head --config.data.subject=SUBJECT/dataset": (
        *_tiny("nerf_head"),
    ),
    "geneface train --config configs/nerf_torso.py:demo --workdir SUBJECT/nerf_torso --config.data.subject=SUBJECT/dataset "
    "--config.data.head=SUBJECT/nerf_head": _tiny("nerf_torso"),
    "geneface export --subject SUBJECT --out EXPORTED --platforms cpu,cuda --end-threshold 0.01": (),
}
"""Command line -> what is appended."""

_INSTALLS = "installs packages"
_SHELL = "a line of the shell, not of ours"
_TRAINED = "minutes of compiling: tests/end_to_end/test_every_config.py trains every config in both variants by the same command"
_FIT = "minutes of compiling: tests/geneface_jax/test_pipeline.py runs the command's parts with stand-ins for the networks"
_CLUSTER = "needs other hosts: tests/geneface_jax/training/test_devices_hosts.py runs two processes"
_TORCH = "needs PyTorch and the originals' files: tests/geneface_jax/convert makes and reads such files"
_SERVES = "serves until Ctrl-C: tests/geneface_jax/studio and tests/end_to_end/test_studio_browser.py start it"
_OTHER = "another package, which serves until Ctrl-C"

_REFERENCE = "geneface train --config head:reference --workdir SUBJECT/head --config.data.subject=SUBJECT/dataset"
_MAY = "data/binary/videos/May"

NOT_RUN: dict[str, str] = {
    "./scripts/demo.sh": "minutes: the release is tried with it in a fresh clone",
    "./scripts/test.sh": "runs these tests",
    "python scripts/demo.py": "as ./scripts/demo.sh",
    "source .venv/bin/activate": _SHELL,
    "python3 -m venv .venv": _SHELL,
    "apt-get update": _INSTALLS,
    "apt-get install -y libegl1 libgles2 libgl1 libglib2.0-0": _INSTALLS,
    "pip install -e .": _INSTALLS,
    "pip install -e .[ui]": _INSTALLS,
    "pip install -e .[cuda]": _INSTALLS,
    "pip install tensorboard": _INSTALLS,
    "python scripts/fetch_lpips.py": "fetches a package",
    "tensorboard --logdir people/me": _OTHER,
    "tensorboard --logdir SUBJECT/head/profile": _OTHER,
    "geneface app --subject people/me": _SERVES,
    "geneface app --subject DIR --port 7860 --host 127.0.0.1": _SERVES,
    "geneface app --allow-host talk.example.org --root-path /geneface": _SERVES,
    "curl --data-binary @speech.wav http://127.0.0.1:7860/api/stream?person=demo&mouth_amp=0.5 > video.mp4": _SERVES,
    'geneface fit my_video.mp4 --out people/me --consent "me, today"': _FIT,
    "geneface fit VIDEO.mp4 --out people/me --from people/another": _FIT,
    "geneface fit my_video.mp4 --out people/me --size 512 --variant reference --corpus CORPUS --corpus-models MODELS "
    '--consent "me, today"': _FIT,
    "geneface train --config syncnet:reference --workdir MODELS/syncnet --config.data.corpus=CORPUS": _TRAINED,
    f"geneface train --config audio2motion:reference --workdir MODELS/audio2motion {_ON_CORPUS}": _TRAINED,
    "geneface infer --subject SUBJECT --audio SPEECH.wav --out VIDEO.mp4 --n-samples-per-ray 32 --n-samples-per-ray-fine 64": (
        "needs the vanilla networks: tests/geneface_jax/inference/test_nerf_renderer.py renders with them"
    ),
    "geneface infer --live --subject SUBJECT --audio SPEECH.wav --out VIDEO.mp4": (
        "needs a live network: tests/geneface_jax/live/test_perform.py makes a video with stand-ins"
    ),
    f"{_REFERENCE} --profile 20": _TRAINED,
    f"{_REFERENCE} --coordinator node0:3456 --processes 4 --process 0": _CLUSTER,
    f"GENEFACE_COORDINATOR=node0:3456 GENEFACE_PROCESSES=4 GENEFACE_PROCESS=2 {_REFERENCE}": _CLUSTER,
    "geneface train --config head:reference --workdir $WORK/me/head --config.data.subject=$WORK/me/dataset --config.data.groups=32 "
    "--config.data.rays=2048 --coordinator auto": _CLUSTER,
    "code=$?": _SHELL,
    "[ $code = 143 ]": _SHELL,
    "scontrol requeue $SLURM_JOB_ID": _CLUSTER,
    "exit $code": _SHELL,
    "geneface sweep configs/ablations/head_grid.py --out runs/head_grid --devices 0,1,2,3 "
    "--config.data.subject=SUBJECT/dataset": "four GPUs: tests/geneface_jax/training/test_sweep.py runs a sweep",
    "python scripts/bench/loop.py --subject SUBJECT/dataset --json loop.json": "minutes, and alone on the machine",
    "geneface import-torch checkpoints/lrs3 CORPUS": _TORCH,
    f"geneface import-torch checkpoints/May SUBJECT --dataset {_MAY}/trainval_dataset.npy": _TORCH,
    "geneface import-torch checkpoints/audio2motion_vae CORPUS/audio2motion": _TORCH,
    f"geneface import-torch checkpoints/motion2video_nerf SUBJECT --dataset {_MAY} --audio2motion CORPUS/audio2motion": _TORCH,
}
"""Command line -> why it is parsed (test_commands.py) and not run."""
