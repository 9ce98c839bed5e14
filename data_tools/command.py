"""What the data tools' command lines share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from data_tools.errors import InputError


def run_step(main: Callable[[], None]) -> None:
    """Runs a command line; bad input becomes one sentence and exit code 2, Ctrl-C exit code 130."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # MediaPipe and TensorFlow Lite otherwise greet on stderr
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
