"""What one sees of a run while it goes: a bar, or a line now and then."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from .history import History


class Progress:
    """A bar with loss and speed or, where there is no terminal, a line now and then."""

    def __init__(self, steps: int, history: History, show: bool) -> None:
        self.steps, self.history, self.show = steps, history, show
        self.shown = len(history.losses)
        self.tokens, self.seconds = history.tokens, history.seconds  # before this session
        self.at = -math.inf
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if self.show and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return self
            self.bar = tqdm(
                total=self.steps,
                initial=self.shown,
                unit="step",
                dynamic_ncols=True,
                mininterval=0,  # `update` below sees to how often
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self._draw()
            self.bar.close()

    def update(self) -> None:
        if not self.show:
            return
        step, now = len(self.history.losses), time.monotonic()
        if self.bar is not None:
            if now - self.at > 0.1:
                self.at = now
                self._draw()
        elif step % max(1, self.steps // 10) == 0 or step == self.steps or now - self.at > 60:
            self.at = now
            print(f"step {step:,}/{self.steps:,}  {self._figures()}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        step = len(self.history.losses)
        self.bar.set_postfix_str(self._figures(), refresh=False)
        self.bar.update(step - self.shown)
        self.shown = step

    def _figures(self) -> str:
        text = f"loss {self.history.mean_loss():.4f}"
        tokens = self.history.tokens - self.tokens
        if tokens:
            text += f", {tokens / (self.history.seconds - self.seconds):,.0f} tokens/s"
        return text
