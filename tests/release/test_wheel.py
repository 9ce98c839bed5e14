"""The installed wheel does what the clone does: no file of the clone is near, and nothing is written where it is installed."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import soundfile

import geneface_jax
from data_tools.avatar.clip import render_clip
from tests.synthetic_subject import write_subject
from tests.tiny_stages import FIELD, OVERRIDES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHIPPED = "geneface_jax/shipped/"
OFFLINE = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
NOT_SHIPPED = {
    "checkpoints/somebody/dataset/meta.json": "{}",
    "checkpoints/demo/evaluation/head.mp4": "",
    "configs/__pycache__/head.cpython-311.pyc": "",
    "build/lib/geneface_jax/removed_last_year.py": "",
}
"""Files that a clone in use has, and that are nobody else's business."""


def tracked(*folders: str) -> list[str]:
    """The files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def build(source: Path, folder: Path) -> Path:
    """The wheel that pip builds of a folder or a source distribution, without the network."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-index",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        folder,
        source.resolve(),
    ]
    subprocess.run(command, env=OFFLINE, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, int]:
    """Name -> checksum of every file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the clone, in use."""
    folder = tmp_path_factory.mktemp("clone")
    for name in [name for name in tracked() if not name.startswith(("tests/", "docs/", "scripts/"))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name, text in NOT_SHIPPED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"))


class Installation:
    """A virtual environment outside of the clone that has the wheel, and the packages of this environment but not its clone.

    A .pth file names this environment's packages; their own .pth files, the finder of an editable install among them, are not read.
    """

    def __init__(self, wheel: Path, folder: Path):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.bin = folder / "venv" / "bin"
        command = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
        subprocess.run([*command, wheel], env=OFFLINE, check=True)
        (self.packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
        (self.packages / "others.pth").write_text("\n".join(sorted(others)), encoding="utf-8")
        self.home, self.cwd = folder / "home", folder / "here"
        self.home.mkdir()
        self.cwd.mkdir()
        # What a user may have in the current folder.
        (self.cwd / "geneface_jax").mkdir()
        (self.cwd / "random.py").write_text("raise SystemExit('imported from the current folder')")

    def run(self, program: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
        """Runs a program of the environment in its folder, without a variable of ours but JAX's; `code` is the exit code it must have."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "NUMBA_")) or name in ("PATH", "MPLBACKEND")}
        environment = kept | {"HOME": str(self.home), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        command = [self.bin / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def files(self) -> set[Path]:
        return {path for path in self.packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installation:
    """The installed wheel; afterwards there is no file in it that was not there before."""
    made = Installation(wheel, tmp_path_factory.mktemp("installed"))
    before = made.files()
    yield made
    assert made.files() == before


def test_every_file_of_the_packages_is_in_the_wheel_and_no_other(wheel):
    expected = {name.removeprefix("kernels/") for name in tracked("geneface_jax", "data_tools", "kernels")}
    expected |= {SHIPPED + name for name in tracked("configs", "checkpoints")}
    found = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert found == expected
    assert {name.split("/")[0] for name in found} == {"geneface_jax", "geneface_kernels", "data_tools"}


def test_the_licenses_and_the_cards_of_the_weights_go_along(wheel):
    names = set(contents(wheel))
    licenses = {"LICENSE", *(name for name in tracked("data_tools") if name.endswith("/NOTICE"))}
    assert licenses <= {name.partition(".dist-info/licenses/")[2] for name in names} and len(licenses) > 1
    assert {f"{SHIPPED}checkpoints/README.md", f"{SHIPPED}checkpoints/demo/card.md"} <= names


def test_a_wheel_of_the_source_distribution_is_the_same(source, wheel, tmp_path):
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (distribution,) = tmp_path.glob("*.tar.gz")
    again = contents(build(distribution, tmp_path))
    assert again.keys() == contents(wheel).keys()
    assert {name for name, checksum in contents(wheel).items() if again[name] != checksum} <= {
        name for name in again if name.endswith(".dist-info/RECORD")
    }


def test_only_our_packages_are_importable_and_from_the_wheel(installed):
    code = """
import importlib.metadata, importlib.util, sys
print(*(importlib.util.find_spec(name).origin for name in ("geneface_jax", "geneface_kernels", "data_tools")), sep="\\n")
print([name for name in ("configs", "checkpoints", "shipped", "tests", "kernels", "setup") if importlib.util.find_spec(name)])
print(importlib.metadata.version("geneface_jax"))
"""
    *origins, others, version = installed.run("python", "-P", "-c", code).stdout.splitlines()
    assert [Path(origin).parents[1] for origin in origins] == [installed.packages] * 3
    assert others == "[]" and version == geneface_jax.__version__


def test_the_shipped_person_speaks(installed):
    samples, rate = soundfile.read(ROOT / "data_tools" / "avatar" / "speech" / "demo_heldout.wav")
    soundfile.write(installed.cwd / "speech.wav", samples[: rate // 2], rate)
    installed.run("geneface", "infer", "--subject", "demo", "--audio", "speech.wav", "--size", "64", "--out", "talk.mp4")
    assert (installed.cwd / "talk.mp4").stat().st_size > 1000
    sentence = installed.run("geneface", "infer", "--subject", "demmo", "--audio", "speech.wav", "--out", "no.mp4", code=2).stderr
    assert "did you mean the shipped person demo?" in sentence and len(sentence.splitlines()) == 1


def test_a_config_is_known_by_name_and_one_of_ones_own_imports_the_shipped_ones(installed):
    write_subject(installed.cwd / "dataset", frames=12)
    (installed.cwd / "my_own.py").write_text("import head\n\n\ndef get_config(variant):\n    return head.get_config(variant)\n")
    small = [f"--config.{text}" for text in (*FIELD, "train.eval_every=0", "data.subject=dataset", "train.steps=2")]
    installed.run("geneface", "train", "--config", "head:demo", "--workdir", "w", *small)
    assert "2" in {path.name for path in (installed.cwd / "w" / "checkpoints").iterdir()}
    # The same config under its other names: none is a change that a resumed run refuses.
    for name in ("configs/head.py:demo", "my_own.py:demo"):
        done = installed.run("geneface", "train", "--config", name, "--workdir", "w", *small)
        assert "is already at step 2 of 2" in done.stdout + done.stderr
    assert "did you mean head?" in installed.run("geneface", "train", "--config", "haed", "--workdir", "w", code=2).stderr


FIT = """
import sys
from geneface_jax import pipeline
from geneface_jax.cli.main import main
from geneface_jax.io import configs

tiny, made = {tiny!r}, pipeline.plan
pipeline.plan = lambda *args, **kwargs: {{name: configs.override(config, tiny[name]) for name, config in made(*args, **kwargs).items()}}
sys.exit(main(sys.argv[1:]))
"""
"""`geneface fit` with networks that compile in seconds."""


def test_a_person_is_fitted_on_the_shipped_corpus(installed, mediapipe):
    clip = render_clip(installed.cwd / "clip", size=128, seconds=3.2)
    tiny = {stage: [*OVERRIDES[stage], "train.eval_every=0", "train.steps=1"] for stage in ("postnet", "head", "torso")}
    tiny["postnet"] += ["finetune_audio2motion.steps=0"]
    arguments = ["fit", clip / "video.mp4", "--out", "people/me", "--size", "64", "--consent", "a drawn avatar", "--workers", "1"]
    installed.run("python", "-P", "-c", FIT.format(tiny=tiny), *arguments)
    assert {"dataset", "postnet", "head", "torso", "card.md"} <= {path.name for path in (installed.cwd / "people" / "me").iterdir()}


SERVED = """
from geneface_jax.studio.render_queue import PersonList

people = PersonList.open(None)
print(people.folder, people.names(), PersonList.open("demo").names())
"""


def test_the_shipped_people_are_served_with_those_below_the_current_folder(installed):
    folder, names = installed.run("python", "-P", "-c", SERVED).stdout.strip().split(" ", 1)
    assert folder == "people" and (installed.cwd / folder).is_dir() and names in ("['demo'] ['demo']", "['demo', 'me'] ['demo']")


def test_doctor_says_that_it_is_a_wheel(installed):
    table = installed.run("geneface", "doctor").stdout
    text = "".join(line.replace("│", "").replace(" ", "") for line in table.splitlines())
    assert f"{geneface_jax.__version__},fromawheel" in text and "MISSING" not in table and "pip install -e" not in table


def test_a_wheel_without_its_data_says_so(installed):
    folder, away = installed.packages / SHIPPED, installed.packages / "away"
    folder.rename(away)
    try:
        for command in (
            ["infer", "--subject", "demo", "--audio", "a.wav", "--out", "a.mp4"],
            ["train", "--config", "head", "--workdir", "x"],
        ):
            (sentence,) = installed.run("geneface", *command, code=2).stderr.splitlines()
            assert "This installation has no " in sentence and "reinstall geneface_jax" in sentence
        assert "reinstall" in installed.run("geneface", "doctor", code=1).stdout
    finally:
        away.rename(folder)
