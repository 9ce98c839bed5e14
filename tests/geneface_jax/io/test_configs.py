"""Configs: found by name, changed with checked types, refused with the nearest key, the same after a round trip."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from data_tools.errors import InputError
from geneface_jax.io import configs

FILE = """
from ml_collections import ConfigDict
def get_config(variant="demo"):
    if variant not in ("demo", "reference"):
        raise ValueError(f"variants are demo and reference, not {variant!r}")
    small = variant == "demo"
    return ConfigDict({"stage": "toy", "seed": 1, "train": {"steps": 10 if small else 1000, "live": False},
                       "optimizer": {"lr": 1e-3, "name": "adam"}, "box": (1.0, 2.0), "clip": ConfigDict(), "note": None})
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.py"
    path.write_text(FILE)
    return path


def test_variants(file):
    assert configs.load(str(file)).train.steps == 10
    assert configs.load(f"{file}:reference").train.steps == 1000
    with pytest.raises(InputError, match="variants are demo and reference, not 'big'"):
        configs.load(f"{file}:big")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("--config.train.steps=25", "train.steps", 25),
        ("train.live=true", "train.live", True),
        ("--config.optimizer.lr=1", "optimizer.lr", 1.0),
        ("--config.optimizer.name=a=b", "optimizer.name", "a=b"),
        ("--config.box=(3, 4, 5)", "box", (3.0, 4.0, 5.0)),
        ("--config.note=12", "note", 12),
        ("--config.note=some words", "note", "some words"),
    ],
)
def test_overrides_keep_the_type(file, override, key, value):
    found = configs.load(str(file), [override])
    for name in key.split("."):
        found = found[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--config.train.stepz=3", r"no config key 'train.stepz': did you mean --config.train.steps"),
        ("--config.optimiser.lr=3", r"did you mean --config.optimizer.lr"),
        ("--config.train=3", r"config.train is a group of keys: set one of them, for example --config.train."),
        ("--config.train.steps=2.5", r"train.steps=2.5 is not of the key's type int"),
        ("--config.train.live=maybe", r"not of the key's type bool"),
        ("--config.box=(1, 'x')", r"not of the key's type float"),
        ("--config.train.steps", r"write --config.key=value"),
    ],
)
def test_bad_overrides_are_refused(file, override, sentence):
    with pytest.raises(InputError, match=sentence):
        configs.load(str(file), [override])


def test_override_leaves_the_original_alone(file):
    config = configs.load(str(file))
    assert configs.override(config, ["train.steps=3"]).train.steps == 3 and config.train.steps == 10


def test_round_trip(file, tmp_path):
    config = configs.load(str(file))
    configs.save(config, tmp_path)
    assert configs.load_saved(tmp_path) == config
    assert isinstance(configs.load_saved(tmp_path).box, tuple)


def test_differences_name_the_keys(file):
    config = configs.load(str(file))
    assert configs.differences(config, config) == []
    other = configs.override(config, ["train.steps=3"])
    other.extra = 1
    assert configs.differences(config, other) == ["train.steps: 10 -> 3", "extra: absent -> 1"]


def test_missing_files_are_told(tmp_path):
    with pytest.raises(InputError, match="no config file"):
        configs.load("no_such_config:demo")
    with pytest.raises(InputError, match="did you mean head"):
        configs.load("configs/haed.py:demo")
    with pytest.raises(InputError, match="doesn't exist"):
        configs.load_saved(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="isn't a JSON file"):
        configs.load_saved(tmp_path)


def test_the_repositorys_configs_load_by_name():
    for path in configs.shipped("configs").glob("*.py"):
        if path.name == "base.py":
            continue
        # The corpus config is prepare-corpus's, not a stage's: it has no variants.
        for variant in ("demo", "reference") if path.stem != "corpus" else ():
            config = configs.load(f"{path.relative_to(configs.clone())}:{variant}")
            assert isinstance(config, ConfigDict)
            assert {"steps", "log_every", "eval_every", "save_every", "keep"} <= set(config.train)
            assert configs.from_json(configs.to_json(config)) == config


def test_shipped_paths_mean_the_same_in_every_folder_and_what_is_there_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = configs.clone()
    assert (
        configs.resolve("checkpoints/avatar/corpus")
        == configs.shipped("checkpoints") / "avatar" / "corpus"
        == root / "checkpoints/avatar/corpus"
    )
    for path in ("checkpoints/nobody", "corpus", root / "checkpoints/nobody"):
        assert configs.resolve(path) == Path(path)
    assert configs.load("configs/head.py:demo") == configs.load("head:demo")
    (tmp_path / "checkpoints" / "avatar" / "corpus").mkdir(parents=True)
    assert configs.resolve("checkpoints/avatar/corpus") == Path("checkpoints/avatar/corpus")


def test_an_installed_wheel_has_its_own_folders_says_what_it_lacks_and_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "clone", lambda: None)
    monkeypatch.setattr(configs, "INSTALLED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text(FILE)
    for use in (lambda: configs.shipped("checkpoints"), lambda: configs.resolve("checkpoints/avatar"), lambda: configs.load("head:demo")):
        with pytest.raises(InputError, match=r"^This installation has no \w+/ .*: reinstall geneface_jax from a complete wheel\.$"):
            use()
    (tmp_path / "shipped" / "configs").mkdir(parents=True)
    assert configs.load("toy.py:demo").stage == "toy"
    (tmp_path / "shipped" / "configs" / "toy2.py").write_text(FILE)
    assert configs.load("toy2:demo") == configs.load("configs/toy2.py:demo") == configs.load("toy.py:demo")
    configs.require_not_installed(tmp_path / "elsewhere", "no")
    with pytest.raises(InputError, match="belongs to the installation .*: write elsewhere"):
        configs.require_not_installed(tmp_path / "shipped" / "checkpoints" / "demo", "write elsewhere")


MINE = """
import sizes
from base import grid, new_config
def get_config(variant="demo"):
    config = new_config("head", variant, {"steps": sizes.STEPS})
    config.grid = grid(levels=3)
    return config
"""


def test_a_config_file_imports_its_neighbors_and_those_of_the_repository(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "sizes.py").write_text("STEPS = 7\n")
    config = configs.load(str(tmp_path / "mine.py"))
    assert (config.stage, config.train.steps, config.grid.levels, config.grid.dims) == ("head", 7, 3, 3)
    assert not {"sizes", "base", "mine"} & set(sys.modules)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("sizes")


def test_a_neighbor_goes_before_an_installed_module_and_is_run_once(tmp_path):
    (tmp_path / "json.py").write_text("runs = []\nruns.append(1)\n")
    (tmp_path / "other.py").write_text("import json\n")
    (tmp_path / "mine.py").write_text(
        "import other\nimport json\nfrom ml_collections import ConfigDict\n\n\n"
        "def get_config(variant='demo'):\n    return ConfigDict({'runs': len(json.runs)})\n"
    )
    assert configs.load(str(tmp_path / "mine.py")).runs == 1
    assert importlib.import_module("json").dumps({}) == "{}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "from sizes import STEPS\n",
            r"mine.py imports sizes, which is neither a file beside it nor installed: add it or remove",
        ),
        ("from base import no_such_thing\n", r"mine.py can't be loaded, .*no_such_thing.*: correct the import."),
        ("def get_config(:\n", r"mine.py isn't a Python config file .*: name a file that defines get_config"),
    ],
)
def test_what_a_config_file_imports_in_vain_is_said_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=sentence):
        configs.load(str(tmp_path / "mine.py"))


@pytest.mark.parametrize("content", ["[]", "5", '{"a.b": 1}', '{"train": {"x.y": 1}}', "{", "[" * 3000])
def test_a_damaged_saved_config_is_one_sentence(tmp_path, content):
    path = configs.save(configs.from_json({"stage": "toy", "rates": [1, 2]}), tmp_path)
    assert configs.load_saved(tmp_path).rates == (1, 2)
    path.write_text(path.read_text().replace("toy", "tov"))
    with pytest.raises(InputError, match="checksum differs"):
        configs.load_saved(tmp_path)
    path.write_text(content)
    with pytest.raises(InputError, match="config.json"):
        configs.load_saved(tmp_path)
