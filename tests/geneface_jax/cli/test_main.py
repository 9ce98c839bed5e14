"""The command line: fast help, one sentence for wrong input, exit codes."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from data_tools import command_line
from data_tools.errors import InputError
from geneface_jax.cli import main as cli
from geneface_jax.io import configs


@pytest.fixture
def verb(monkeypatch):
    """Puts a verb of the test's own in place of `doctor`; returns a function that says what it does."""

    def install(run, **defaults):
        def add_arguments(parser):
            parser.add_argument("--steps", type=int, default=1)
            parser.set_defaults(**defaults)

        module = SimpleNamespace(__doc__="Tests.", add_arguments=add_arguments, run=run)
        monkeypatch.setitem(sys.modules, "geneface_jax.cli.doctor", module)

    return install


def raises(error):
    def run(args):
        raise error

    return run


def test_every_verb_has_its_file():
    for name in cli.VERBS:
        module = cli.verb_module(name)
        assert module.__doc__ and callable(module.add_arguments) and callable(module.run)


def test_help_names_every_verb_and_imports_nothing_heavy():
    script = (
        "import sys; from geneface_jax.cli.main import main; main(['--help']); print(sorted({'jax', 'numpy', 'rich'} & set(sys.modules)))"
    )
    root = configs.clone()
    out = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {name} " in out for name in cli.VERBS)
    assert all(f"\n{title}:\n" in out for title in cli.GROUPS)
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_of_a_verb(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: geneface {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("infer", ["input and output", "mouth", "eyes", "motion of the whole face", "head pose and camera", "picture", "speed and memory"]),
        ("fit", ["input and output", "pictures and face", "sound", "machine", "training", "warm start"]),
        ("train", ["input and output", "initialization", "devices and hosts (docs/scaling.md)"]),
        ("evaluate", ["a trained person", "a video", "both"]),
    ],
)
def test_options_stand_below_titles(name, titles):
    parser = command_line.command_parser(cli.verb_module(name), f"geneface {name}")
    text = parser.format_help()
    places = [text.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    assert [action.dest for action in parser._optionals._group_actions] == ["help"], "the others have a title of their own"


def test_an_unknown_verb_names_the_nearest(capsys):
    assert cli.main(["evalute"]) == 2
    assert "did you mean `geneface evaluate`?" in capsys.readouterr().err


def test_an_unknown_argument_names_the_nearest(verb, capsys):
    verb(lambda args: 0)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["doctor", "--step", "3"])
    assert stopped.value.code == 2
    assert "did you mean --steps?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("a.mp4 has no sound: record it again."), 2, "geneface doctor: a.mp4 has no sound: record it again.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "geneface doctor: The disk of out/x is full: free some space"),
        (OSError(errno.EROFS, "Read-only file system", "out/x"), 2, "out/x can't be written to (Read-only file system): name"),
        (OSError(errno.EACCES, "Permission denied", "out/x"), 2, "out/x can't be written to or read (Permission denied): change its"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "out/x"), 2, "out/x is too long a name for this file system: give a shorter"),
        (OSError(errno.EIO, "Input/output error"), 2, "The output can't be written to or read (Input/output error): check the disk"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_exit_codes(verb, capsys, error, code, sentence):
    verb(raises(error))
    assert cli.main(["doctor"]) == code
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.out == ""


def test_a_bug_is_not_dressed_up_as_wrong_input(verb):
    verb(raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])
    verb(raises(OSError(errno.EINVAL, "Invalid argument")))
    with pytest.raises(OSError):
        cli.main(["doctor"])
    verb(raises(BrokenPipeError(errno.EPIPE, "of another program")))
    with pytest.raises(BrokenPipeError):
        cli.main(["doctor"])


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [([], ["a note", "a warning"], ["a detail"]), (["-v"], ["a detail", "a note"], []), (["-q"], ["a warning"], ["a note"])],
)
def test_verbosity_of_the_log_and_of_bars(verb, capsys, options, shown, hidden):
    def run(args):
        logger = logging.getLogger("geneface_jax.some.module")
        logger.debug("a detail")
        logger.info("a note")
        logger.warning("a warning")
        list(command_line.bar(range(3), desc="a bar"))
        return 0

    verb(run)
    assert cli.main(["doctor", *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and all(f"{text}\n" in captured.err for text in shown)
    assert not any(text in captured.err for text in hidden)
    assert ("a bar" in captured.err) == ("-q" not in options)


def test_overrides_go_only_to_verbs_that_take_them(verb):
    seen = []
    verb(lambda args: seen.append(args.overrides) or 0, overrides=[])
    assert cli.main(["doctor", "--config.a.b=3", "--steps", "2"]) == 0
    assert seen == [["--config.a.b=3"]]
    verb(lambda args: 0)
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--config.a.b=3"])


def test_train_refuses_an_unknown_key(capsys, tmp_path):
    assert cli.main(["train", "--config", "head:demo", "--workdir", str(tmp_path), "--config.optimizer.learning=1"]) == 2
    assert "did you mean --config.optimizer." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
