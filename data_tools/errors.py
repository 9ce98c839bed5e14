"""The one exception that means "the input is wrong", shared by every command, and consoles that show every sentence."""

import sys


class InputError(Exception):
    """Wrong input, described in one sentence: what is wrong, where, and the way out.

    A command that meets it prints the sentence and exits with code 2; files that are already finished stay. Any other exception is a bug.
    """


def make_printable() -> None:
    """Lets stdout and stderr show characters that their encoding lacks as `\\uXXXX`: printing a path never fails (cp1252, ASCII)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None in a program without a console; another object in tests and notebooks
            stream.reconfigure(errors="backslashreplace")
