"""The one exception that means "the input is wrong", shared by every command.

A command that meets `InputError` prints its sentence and exits with code 2; nothing already made is lost. Any other exception is a bug.
"""

from __future__ import annotations


class InputError(Exception):
    """Bad input, told in one sentence: what is wrong, where, and the way out."""
