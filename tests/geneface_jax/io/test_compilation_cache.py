"""Compiled programs are kept by default: in a folder of this machine's own, bounded, mended, and never at the price of a run."""

import os
import subprocess
import sys
import zlib

import pytest

from geneface_jax import pipeline
from geneface_jax.cli import doctor
from geneface_jax.cli import main as cli
from geneface_jax.evaluation import evaluate
from geneface_jax.inference import person
from geneface_jax.io import compilation_cache
from geneface_jax.io.compilation_cache import FOLDER, SWITCH, THRESHOLD, keep_programs, machine_key

COMPILE = """
import logging, os, sys, warnings
logging.basicConfig(format="%(message)s")
warnings.simplefilter("always")
if "early" in sys.argv:
    import jax
from geneface_jax.io.compilation_cache import keep_programs
kept = keep_programs()
assert "early" in sys.argv or "jax" not in sys.modules, "jax is not imported for it"
import jax, jax.monitoring
counted = []
jax.monitoring.register_event_listener(lambda name, **_: counted.append(name))
print(float(jax.jit(lambda x: x * 3.0 + 1.0)(2.0)), counted.count("/jax/compilation_cache/cache_hits"), kept)
"""


def compiled(home, *words, **environment):
    """What a process says that compiles a small program: its result, the programs it found, the folder; and its messages."""
    inherited = {name: value for name, value in os.environ.items() if name not in (FOLDER, THRESHOLD, SWITCH)}
    command = [sys.executable, "-c", COMPILE, *words]
    done = subprocess.run(
        command, env={**inherited, "XDG_CACHE_HOME": str(home), **environment}, capture_output=True, text=True, check=True
    )
    result, hits, folder = done.stdout.split()
    assert result == "7.0"
    return int(hits), folder, done.stderr


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of this machine, in an empty home, for calls in a process in which jax is not imported yet."""
    for name in (FOLDER, THRESHOLD, SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    keep_programs.cache_clear()
    yield tmp_path / "geneface_jax" / "xla" / machine_key()
    for name in (FOLDER, THRESHOLD):
        os.environ.pop(name, None)  # before monkeypatch brings back what was there
    keep_programs.cache_clear()


def program(path, used=0.0, content=b"program"):
    """A file as jax writes it, last used some seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(content))
    when = path.stat().st_mtime - used
    os.utime(path, (when, when))
    return path


def test_the_next_process_finds_a_program_and_a_damaged_one_is_made_again(tmp_path):
    hits, folder, _ = compiled(tmp_path)
    kept = [path for path in (tmp_path / "geneface_jax" / "xla").glob("*/*-cache")]
    assert hits == 0 and kept and str(kept[0].parent) == folder and kept[0].parent.stat().st_mode & 0o777 == 0o700
    hits, folder, said = compiled(tmp_path, "early")
    assert hits >= 1 and str(kept[0].parent) == folder and said == "", "also where jax was imported first"
    for path in kept:
        path.write_bytes(path.read_bytes()[:-20])
    hits, _, said = compiled(tmp_path)
    assert hits == 0 and said == "", "cut off: deleted before jax warns of it"
    os.utime(tmp_path / "geneface_jax" / "xla" / machine_key() / "checked", (2e9, 2e9))
    for path in kept:
        path.write_bytes(b"\x78\x9c no program")
    hits, _, said = compiled(tmp_path)
    assert hits == 0 and "Error reading persistent compilation cache" in said, "damaged later on: jax warns and compiles"


@pytest.mark.parametrize(("name", "value"), [(FOLDER, "mine"), (SWITCH, "false"), (FOLDER, "")])
def test_what_the_user_chose_is_respected(tmp_path, name, value):
    value = str(tmp_path / value) if value == "mine" else value
    hits, folder, said = compiled(tmp_path / "home", **{name: value})
    assert (hits, said) == (0, "") and folder == (value if value and name == FOLDER else "None")
    assert not (tmp_path / "home").exists()


def test_a_home_that_can_not_be_written_costs_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for words in ((), ("early",)):
        hits, folder, said = compiled(tmp_path / "file", *words)
        assert (hits, folder) == (0, "None") and len(said.splitlines()) == 1
        assert said.startswith("Compiled programs are not kept for the next run (Not a directory)")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users in the sense of POSIX")
def test_a_folder_that_others_can_write_is_not_trusted(here, caplog):
    here.mkdir(parents=True)
    here.chmod(0o777)
    assert keep_programs() is None and FOLDER not in os.environ
    assert "other users can write" in caplog.text
    here.chmod(0o700)
    keep_programs.cache_clear()
    assert keep_programs() == here and os.environ[FOLDER] == str(here)


def test_another_processor_or_other_flags_have_a_folder_of_their_own(here, monkeypatch):
    first = machine_key()
    assert first == machine_key()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    flagged = machine_key()
    monkeypatch.setattr(compilation_cache, "_processor", lambda: ["flags : sse avx2"])
    assert len({first, flagged, machine_key()}) == 3


def test_the_processor_is_its_model_and_its_instructions_but_not_its_clock(monkeypatch):
    text = "processor: {0}\nmodel name: A\ncpu MHz: {1}\nflags: sse {2}\n\n"
    said = [text.format(0, 1000, "avx") + text.format(1, 2000, "avx"), text.format(0, 3000, "avx"), text.format(0, 3000, "avx2")]
    found = []
    for content in said:
        monkeypatch.setattr(compilation_cache.Path, "read_text", lambda *_, content=content, **__: content)
        found.append(compilation_cache._processor())
    monkeypatch.undo()
    if sys.platform.startswith("linux"):
        assert found[0] == found[1] != found[2]


def test_the_longest_unused_programs_are_deleted_whatever_their_machine(here, monkeypatch):
    monkeypatch.setattr(compilation_cache, "MAX_BYTES", 200)
    noise = [os.urandom(80) for _ in range(4)]
    oldest = program(here.parent / "other" / "a-cache", 300, noise[0])
    old, new = program(here / "b-cache", 200, noise[1]), program(here.parent / "other" / "c-cache", 100, noise[2])
    os.utime(old, (new.stat().st_mtime + 50, old.stat().st_mtime))  # read since
    assert keep_programs() == here
    assert (oldest.exists(), old.exists(), new.exists()) == (False, True, True)
    keep_programs.cache_clear()
    monkeypatch.setattr(compilation_cache, "MAX_FILES", 2)  # one more is the stamp
    os.environ.pop(FOLDER)
    keep_programs()
    assert (old.exists(), new.exists()) == (True, False)


def test_all_ways_in_ask_for_it(tmp_path, monkeypatch):
    class Asked(Exception):
        pass

    def ask():
        raise Asked

    for module in (compilation_cache, person, evaluate, pipeline):
        monkeypatch.setattr(module, "keep_programs", ask)
    ways = {
        "a verb": lambda: cli.main(["infer", "--subject", "nobody", "--audio", "a.wav", "--out", "a.mp4"]),
        "Person.load": lambda: person.Person.load("demo"),
        "evaluate": lambda: evaluate.evaluate("demo"),
        "evaluate_speech": lambda: evaluate.evaluate_speech("demo"),
        "fit": lambda: pipeline.fit("a.mp4", tmp_path / "person"),
    }
    for way in ways.values():
        with pytest.raises(Asked):
            way()
    with pytest.raises(SystemExit):
        cli.main(["infer", "--help"])
    assert cli.main(["crop", str(tmp_path / "none.mp4"), str(tmp_path / "a.mp4")]) == 2, "which compiles nothing"


def test_doctor_shows_folder_and_size(here, monkeypatch):
    program(here / "a-cache", content=os.urandom(2_000_000))
    (check,) = doctor._programs()
    assert check.ok and check.found.startswith(f"{here}, 2.0 MB")
    keep_programs.cache_clear()
    monkeypatch.setenv(SWITCH, "0")
    (check,) = doctor._programs()
    assert not check.ok and not check.needed and FOLDER in check.remedy
