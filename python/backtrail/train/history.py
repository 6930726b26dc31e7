"""What a run has done: losses, evaluations, time."""

from __future__ import annotations

import math


class History:
    """What a run has done so far, including what it did before it was resumed."""

    def __init__(self) -> None:
        self.losses: list[float] = []  # one a step
        self.evaluations: list[tuple[int, float]] = []  # (step, value)
        self.seconds = 0.0  # in training steps; evaluation and checkpoints are left out
        self.tokens = 0

    def mean_loss(self, last: int = 100) -> float:
        """Return the mean of the last losses, NaN if there are none."""
        losses = self.losses[-last:]
        return sum(losses) / len(losses) if losses else math.nan
