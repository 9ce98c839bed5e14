"""Progress bars update often on a terminal and rarely in a log file."""

import io
import sys

import pytest

from data_tools import command_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drawn(stream, monkeypatch, show=True):
    """Times that a bar of a thousand fast frames was drawn."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(command_line, "TERMINAL_SECONDS", 0.0)
    with command_line.frames_bar(show)(total=1000, desc="looking", miniters=1) as bar:
        for _ in range(1000):
            bar.update()
    return stream.getvalue().count("\r")


def test_a_log_file_gets_few_lines(monkeypatch):
    assert drawn(Terminal(), monkeypatch) > 100
    assert 1 <= drawn(io.StringIO(), monkeypatch) <= 3


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_bar_may_be_left_out(stream, monkeypatch):
    assert drawn(stream(), monkeypatch, show=False) == 0
