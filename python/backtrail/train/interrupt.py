"""Ctrl-C, SIGTERM and SIGHUP as an exception at the moments when a run can take one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .errors import Interrupted, Terminated
from .history import History


class Signals:
    """Signals as a KeyboardInterrupt: raised at once or, inside `with held():`, at its end.

    Only the first one counts: a second finds the checkpoint being written. Only the main thread
    gets signals; in another one, and where Ctrl-C is ignored, nothing changes. SIGTERM (`kill`, a
    scheduler) and SIGHUP (a terminal that closes) are taken over where they would end the process:
    a handler of the program's own, and `nohup`, stay in force.
    """

    def __init__(self) -> None:
        self.holding = self.raised = False
        self.pending = 0  # the signal that came first
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                previous = signal.getsignal(number)
                if previous is signal.SIG_DFL or (
                    number == signal.SIGINT and previous not in (None, signal.SIG_IGN)
                ):
                    self.previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self.previous.items():
            signal.signal(number, previous)

    def stopped(
        self, step: int, checkpoint: str | None, history: History
    ) -> Interrupted | Terminated:
        """Return what tells the caller of `fit` how the run was stopped."""
        if self.pending in (0, signal.SIGINT):
            return Interrupted(step, checkpoint, history)
        return Terminated(step, checkpoint, history, self.pending)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.pending = self.pending or number
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
