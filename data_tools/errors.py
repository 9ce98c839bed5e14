"""The one exception that means "the input is wrong", shared by every command."""


class InputError(Exception):
    """Wrong input, described in one sentence: what is wrong, where, and the way out.

    A command that meets it prints the sentence and exits with code 2; files that are already finished stay. Any other exception is a bug.
    """
