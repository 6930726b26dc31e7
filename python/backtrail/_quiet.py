"""Ctrl-C while the command line is being loaded: the end, without a traceback.

Loading takes a moment, and nothing of the command line is there yet to catch a KeyboardInterrupt.
Importing this module is enough; `end` makes Ctrl-C a KeyboardInterrupt again.
"""

from __future__ import annotations

import os
import sys
from _signal import (  # type: ignore[import-not-found]
    SIGINT,
    default_int_handler,
    getsignal,
    signal,
)

INTERRUPTED = 130  # the exit status of what Ctrl-C has ended


def is_command() -> bool:
    """Return whether this process is the `backtrail` command, or `python -m backtrail`."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":  # the package of a module that is to be run is imported before it
        return "backtrail" in sys.orig_argv or "backtrail.cli" in sys.orig_argv
    return os.path.basename(name) == "backtrail"


def end() -> None:
    """Leave Ctrl-C to those who can now catch it."""
    if getsignal(SIGINT) is _leave:
        signal(SIGINT, default_int_handler)


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


if is_command() and getsignal(SIGINT) is default_int_handler:
    try:  # noqa: SIM105 (before anything more is imported)
        signal(SIGINT, _leave)
    except ValueError:  # not the main thread
        pass
