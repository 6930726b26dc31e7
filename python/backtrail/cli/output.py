"""Output that may lead nowhere: a stream that is closed, a reader that has left, a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any


class Lasting:
    """A stream that swallows what cannot be written, for work that is to go on without a reader."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.error: OSError | None = None  # the first; after it nothing is written

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                return self.stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.error = error
        discard(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Let prints inside go nowhere once they cannot be written, and say so at the end.

    A reader that has left, as in `backtrail train | head -1`, wants nothing said.
    """
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
        out.flush()
    finally:
        sys.stdout, sys.stderr = before
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        raise OSError(out.error.errno, out.error.strerror, "standard output")


def stand_in() -> None:
    """Open what a shell closed (`2>&-`), so that no file takes the stream's place."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def discard(stream: IO[str]) -> None:
    """Let what a stream still holds go nowhere: it would fail once more when Python ends."""
    with contextlib.suppress(OSError, ValueError):  # a stream of Python's, with no file beneath
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
