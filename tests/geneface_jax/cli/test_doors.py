"""The two doors of a data tool, `geneface VERB` and `python -m data_tools.TOOL`: one parser, the same sentences and exit codes."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from data_tools.avatar import __main__ as avatar
from data_tools.avatar import clip
from data_tools.avatar.speakers import sentence_clips
from data_tools.command_line import AUDIO_MODELS, command_parser, run_command
from data_tools.errors import InputError
from data_tools.io import read_json
from data_tools.masks import PARTS
from geneface_jax.cli import main as cli
from geneface_jax.data.corpus import Corpus
from geneface_jax.data.subject import FeatureTypes, feature_types_of, require_same_features
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.io import configs

WITH_FEATURES = {"prepare": "data_tools.prepare", "avatar": "data_tools.avatar"}
TOOLS = {verb: module.removesuffix(".__main__") for verb, module in {**cli.ELSEWHERE, **WITH_FEATURES}.items()}
"""Verb -> what stands after `python -m`."""

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


def _same(found: re.Match) -> str:
    return "FEATURES" if found[0] in AUDIO_MODELS else "PROGRAM"


@pytest.fixture
def doors(monkeypatch, capsys):
    """A function that goes through both doors of a verb; gives (exit code, stdout, stderr) of each, alike but for names."""

    def go(verb, *words):
        found = []
        module = TOOLS[verb]
        for program in (f"geneface {verb}", f"python -m {module}"):
            monkeypatch.setattr(sys, "argv", [module, *words])
            try:
                code = cli.main([verb, *words]) if program.startswith("geneface") else None
                if code is None:
                    runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as stopped:
                code = stopped.code
            captured = capsys.readouterr()
            plain = (re.sub(f"{re.escape(program)}|mel_f0|whisper", _same, text) for text in (captured.out, captured.err))
            found.append((code, *plain))
        return found

    monkeypatch.setenv("COLUMNS", "10000")  # no line of --help is broken, so that the programs' lengths do not matter
    return go


@pytest.mark.parametrize("verb", TOOLS)
def test_both_doors_have_the_same_help(doors, verb):
    verb_door, module_door = doors(verb, "--help")
    assert verb_door == module_door
    assert verb_door[0] == 0 and "usage: PROGRAM" in verb_door[1] and "--quiet" in verb_door[1]


@pytest.mark.parametrize(
    ("verb", "words", "sentence"),
    [
        ("light", ["ABSENT", "OUT"], "ABSENT is not a dataset"),
        ("report", ["ABSENT"], "ABSENT"),
        ("audio", ["ABSENT"], "ABSENT"),
        ("crop", ["ABSENT", "OUT.mp4", "--size", "63"], "--size 63"),
        ("prepare", ["ABSENT", "--out", "OUT"], "ABSENT"),
        ("prepare", ["ABSENT", "--out", "OUT", "--hubert", "DIR"], "write --features hubert"),
        ("prepare", ["ABSENT", "--out", "OUT", "--audio", "hubert"], "--features hubert"),
        ("avatar", ["video", "--out", "OUT", "--part", "all"], "choose one of train"),
    ],
)
def test_both_doors_say_the_same_sentence_with_exit_code_2(doors, tmp_path, monkeypatch, verb, words, sentence):
    monkeypatch.chdir(tmp_path)
    verb_door, module_door = doors(verb, *words)
    assert verb_door == module_door
    code, out, err = verb_door
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("PROGRAM: ") and sentence in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "words", "nearest"),
    [
        ("crop", ["a.mp4", "b.mp4", "--folow"], "--follow"),
        ("audio", ["a.wav", "--out-feature", "b.npz"], "--out-features"),
        ("prepare", ["a.mp4", "--out", "b", "--featurs=hubert"], "--features"),
        ("avatar", ["corpus", "--out", "a", "--sentence", "3"], "--sentences"),
    ],
)
def test_both_doors_name_the_nearest_option(doors, verb, words, nearest):
    verb_door, module_door = doors(verb, *words)
    assert verb_door == module_door and verb_door[0] == 2 and f"did you mean {nearest}?" in verb_door[2]


def test_hubert_is_a_matter_of_the_verb(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["prepare", "a.mp4", "--out", str(tmp_path), "--features", "hubert"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("data_tools.prepare", run_name="__main__", alter_sys=True)
    assert stopped.value.code == 2 and "run `geneface prepare` with the same arguments" in capsys.readouterr().err
    words = ["corpus", "--out", str(tmp_path / "corpus"), "--features", "whisper"]
    assert run_command(lambda: avatar, "python -m data_tools.avatar", words) == 2
    assert "run `geneface avatar corpus` with the same arguments" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_avatar_speaks_whisper_through_the_verb(monkeypatch, tmp_path):
    monkeypatch.setattr(clip, "voices", lambda: {"anna": "train", "ines": "val"})
    assert cli.main(["avatar", "corpus", "--out", str(tmp_path / "corpus"), "--sentences", "1", "--features", "whisper"]) == 0
    corpus = Corpus.load(tmp_path / "corpus")
    features = audio_features("whisper")
    assert read_json(tmp_path / "corpus" / "meta.json")["audio_weights"] == features.weights
    with pytest.raises(InputError, match="whisper audio features, but .* mel_f0 audio features: use two"):
        require_same_features("the corpus", feature_types_of(corpus.meta), "the VAE", FeatureTypes())
    sentence = sentence_clips("anna")[0]
    np.testing.assert_allclose(
        corpus.clips[0].audio_features.astype(np.float32), features.compute(sentence.samples, sentence.n_frames)[0], atol=4e-3
    )


@pytest.mark.parametrize("verb", ["prepare", "prepare-corpus", "fit"])
@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--audio", "mel_f0"], "write --features mel_f0."),
        (["--audio=hubert"], "write --features hubert."),
        (["--audio", "speech.wav"], "write --features mel_f0|hubert|whisper."),
    ],
)
def test_the_former_spelling_of_features_is_explained(capsys, verb, words, advice):
    assert cli.main([verb, "video", "--out", "somewhere", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "--audio names a sound file" in message and message.endswith(f"{advice}\n")
    parser = command_parser(cli.verb_module(verb), f"geneface {verb}")
    assert "--features" in parser.format_help() and "--audio " not in parser.format_help()


def test_verbosity_is_taken_before_and_after_a_sub_command():
    parser = command_parser(avatar, "geneface avatar")
    assert parser.parse_args(["-q", "corpus", "--out", "a"]).quiet and parser.parse_args(["corpus", "--out", "a", "-q"]).quiet
    assert not hasattr(parser.parse_args(["corpus", "--out", "a"]), "quiet")


def test_a_stopped_training_has_the_exit_code_of_its_signal(capsys):
    class Stopped(KeyboardInterrupt):
        exit_code = 143

    def run(args):
        raise Stopped

    module = SimpleNamespace(__doc__="Tests.", add_arguments=lambda parser: None, run=run)
    assert run_command(lambda: module, "geneface train", []) == 143
    assert capsys.readouterr().err == "\ngeneface train: stopped\n"


def test_the_help_of_segmentation_names_the_parts():
    assert f"{', '.join(f'{number} {part}' for number, part in list(enumerate(PARTS))[:-1])} and 4 {PARTS[4]}" in cli.verb_module(
        "segmentation"
    ).__doc__.replace("\n", " ")


IMPORTED = """
import sys
from geneface_jax.cli.main import main
for verb in sys.argv[1:]:
    try:
        main([verb, "--help"])
    except SystemExit:
        pass
    print("loaded", verb, *sorted({"jax", "cv2", "mediapipe", "librosa", "gradio", "torch"} & set(sys.modules)), file=sys.stderr)
"""


def test_no_help_of_a_verb_waits_for_jax():
    # The modules of these two are libraries of pictures that also have a command line.
    last = ("compose", "crop")
    verbs = [*(verb for verb in cli.VERBS if verb not in last), *last]
    done = subprocess.run([sys.executable, "-c", IMPORTED, *verbs], cwd=configs.clone(), capture_output=True, text=True, check=True)
    loaded = {words[1]: words[2:] for words in map(str.split, done.stderr.splitlines()) if words[:1] == ["loaded"]}
    assert list(loaded) == verbs
    assert all(not modules for verb, modules in loaded.items() if verb not in last), loaded
    assert set(loaded["crop"]) <= {"cv2", "librosa"}


def test_only_command_lines_print_and_exit():
    """`run` of a tool, the functions that it alone calls, and programs; everything else logs, and raises InputError."""
    allowed = {
        "data_tools/command_line.py": {"run_program", "run_command"},
        "geneface_jax/evaluation/report.py": {"show", "show_person"},  # what `geneface evaluate` prints
        "geneface_jax/studio/server.py": {"serve"},  # the handler of SIGTERM
        "geneface_jax/system_libraries.py": {"<module>"},
    }
    root = configs.clone()
    found = {}
    for package in ("geneface_jax", "data_tools", "kernels/geneface_kernels"):
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name.startswith("geneface_jax/cli/") or path.name == "__main__.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for top in tree.body:
                where = top.name if isinstance(top, ast.FunctionDef | ast.ClassDef) else "<module>"
                if where != "run" and any(map(_prints_or_exits, ast.walk(top))):
                    found.setdefault(name, set()).add(where)
    assert {name: functions - allowed.get(name, set()) for name, functions in found.items() if functions - allowed.get(name, set())} == {}
    assert allowed.keys() <= found.keys()


def _prints_or_exits(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise) and node.exc is not None:
        return "SystemExit" in ast.unparse(node.exc)
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit", "quit")
