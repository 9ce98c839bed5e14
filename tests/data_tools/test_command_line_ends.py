"""How a command ends: signals clean up as Ctrl-C does, printing never fails, a reader of stdout may leave."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = r"""
import sys, time
from pathlib import Path
from types import SimpleNamespace
from data_tools.command_line import run_command
from data_tools.errors import InputError
from data_tools.io import atomic_path

def work(args):
    with atomic_path(Path(sys.argv[1]) / "out") as part:
        part.write_text("half")
        print("ready", flush=True)
        time.sleep(30)

def show(args):
    print("/home/\u5f20\u4e09/\udcff.mp4")
    raise InputError("There is no /home/\u5f20\u4e09/\udcff.mp4: look.")

def talk(args):
    for _ in range(100000):
        print("many lines")

module = SimpleNamespace(__doc__="Test.", add_arguments=lambda parser: None, run=globals()[sys.argv[2]])
sys.exit(run_command(lambda: module, "geneface test", []))
"""


def start(folder, what, **environment):
    command = [sys.executable, "-c", PROGRAM, str(folder), what]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, **pipes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_half_made(tmp_path, number, code):
    process = start(tmp_path, "work")
    assert process.stdout.readline() == b"ready\n" and list(tmp_path.iterdir())
    process.send_signal(number)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == code and b"geneface test: stopped" in messages and b"Traceback" not in messages
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_path_is_printed_on_every_console(tmp_path, encoding):
    process = start(tmp_path, "show", PYTHONIOENCODING=f"{encoding}:strict", PYTHONUTF8="0")
    out, messages = process.communicate(timeout=20)
    assert process.returncode == 2 and b"Traceback" not in messages
    name = r"\u5f20\u4e09" if encoding != "utf-8" else "张三"
    assert f"/home/{name}/\\udcff.mp4" in out.decode() and f"There is no /home/{name}" in messages.decode()


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    process = start(tmp_path, "talk")
    process.stdout.readline()
    process.stdout.close()
    messages = process.stderr.read()
    assert process.wait(timeout=20) == 141 and messages == b""
