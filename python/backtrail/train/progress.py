"""What one sees of a run while it goes: a bar, or a line now and then."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from .history import History, described, short

SECONDS_APART = {"terminal": 0.1, "notebook": 0.5, "lines": 60.0}


class Progress:
    """A bar with loss and speed, in a terminal or notebook; else a line each tenth of the run.

    It is to be updated after the first step, and when `next_time` or `next_step` has come. Where
    the stream is closed, full or a pipe that no one reads, the run goes on without.
    """

    def __init__(self, total: int | None, history: History, show: bool) -> None:
        self.total, self.history = total, history  # steps, if known
        self.shown = len(history.losses)
        self.tokens, self.seconds = history.tokens, history.seconds  # before this session
        self.kind, self.stream = where()
        self.kind = self.kind if show else "nothing"
        self.next_time = math.inf if self.kind == "nothing" else -math.inf
        self.next_step: float = math.inf
        self.bar: Any = None

    def __enter__(self) -> Progress:
        with self._tried():
            self._open()
        return self

    def _open(self) -> None:
        if self.kind in ("terminal", "notebook"):
            try:
                from tqdm import tqdm
            except ImportError:
                self.kind = "lines"
            else:
                self.bar = tqdm(
                    total=self.total,
                    initial=self.shown,
                    unit="step",
                    file=self.stream,
                    dynamic_ncols=self.kind == "terminal",
                    ncols=100 if self.kind == "notebook" else None,
                    mininterval=0,  # `update` below sees to how often
                )
        self._set_next_step()

    def __exit__(self, *_: object) -> None:
        with self._tried():
            if self.bar is not None:
                self._draw()
                self.bar.close()

    @contextmanager
    def _tried(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.kind, self.bar = "nothing", None
            self.next_time = self.next_step = math.inf

    def update(self) -> None:
        """Show where the run is."""
        if self.kind != "nothing":
            with self._tried():
                self._update()

    def _update(self) -> None:
        self.next_time = time.perf_counter() + SECONDS_APART[self.kind]
        if self.bar is not None:
            self._draw()
            return
        step = len(self.history.losses)
        of = "" if self.total is None else f"/{self.total:,}"
        print(f"step {step:,}{of}  {self._figures()}", file=self.stream, flush=True)
        self._set_next_step()

    def _set_next_step(self) -> None:
        if self.kind == "lines" and self.total is not None:
            tenth = max(1, self.total // 10)
            step = len(self.history.losses)
            self.next_step = min(step - step % tenth + tenth, max(self.total, step + 1))

    def _draw(self) -> None:
        step = len(self.history.losses)
        self.bar.set_postfix_str(self._figures(), refresh=False)
        self.bar.update(step - self.shown)
        self.shown = step

    def _figures(self) -> str:
        parts = []
        if self.history.losses:
            parts.append(f"loss {short(self.history.mean_loss())}")
        if self.history.evaluations:
            parts.append(described(self.history.evaluations[-1][1]))
        tokens = self.history.tokens - self.tokens
        seconds = self.history.seconds - self.seconds
        if tokens and seconds > 0:
            parts.append(f"{tokens / seconds:,.0f} tokens/s")
        return ", ".join(parts)


def where() -> tuple[str, IO[str]]:
    """Return what can be shown, and the stream for it.

    A notebook understands a carriage return, and shows stderr as if something had gone wrong.
    """
    if type(sys.stdout).__module__.partition(".")[0] == "ipykernel":
        return "notebook", sys.stdout
    if sys.stderr is None:  # closed by the shell
        return "nothing", io.StringIO()
    return "terminal" if sys.stderr.isatty() else "lines", sys.stderr
