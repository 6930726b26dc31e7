"""Ctrl-C as an exception at the moments when a run can take one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class CtrlC:
    """Ctrl-C as a KeyboardInterrupt: raised at once or, inside `with held():`, at its end.

    Only the first one counts: a second finds the checkpoint being written. Only the main thread
    gets signals; in another one, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self.holding = self.pending = self.raised = False
        self.previous: Any = None

    def __enter__(self) -> CtrlC:
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if previous not in (None, signal.SIG_IGN):
                self.previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _on_signal(self, *_: object) -> None:
        self.pending = True
        if not self.holding:
            self._raise()

    def _raise(self) -> None:
        if not self.raised:
            self.raised = True
            raise KeyboardInterrupt

    def release(self) -> None:
        """End what `holding = True` began."""
        self.holding = False
        if self.pending:
            self._raise()

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        self.release()
