"""Bad input, told in one sentence; see `data_tools.errors`."""

from data_tools.errors import InputError

__all__ = ["InputError"]
