"""What a run has done: losses, evaluations, epochs, time; and its picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = float | dict[str, float]  # of an evaluation


class History:
    """What a run has done so far, including what it did before it was resumed."""

    def __init__(self) -> None:
        self.losses: list[float] = []  # one a step
        self.evaluations: list[tuple[int, Value]] = []  # (step, what `evaluate` returned)
        self.epochs: list[int] = []  # the step at which each pass over the batches ended
        self.seconds = 0.0  # in training steps; evaluation and checkpoints are left out
        self.tokens = 0
        self.stopped = ""  # why a callback ended the run before its time

    def mean_loss(self, last: int = 100) -> float:
        """Return the mean of the last losses, NaN if there are none."""
        losses = self.losses[-last:]
        return sum(losses) / len(losses) if losses else math.nan

    def metric(self, name: str | None = None) -> list[tuple[int, float]]:
        """Return (step, value) of each evaluation; `name` chooses where there are several."""
        return [(step, number(value, name)) for step, value in self.evaluations]

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw loss and evaluations over the steps, with matplotlib; return the axes drawn on.

        Raises ImportError where matplotlib is missing: pip install "backtrail[plot]" brings it.
        """
        from .plot import draw

        return draw(self, axes)

    def __repr__(self) -> str:
        parts = [many(len(self.losses), "step")]
        if self.epochs:
            parts.append(many(len(self.epochs), "epoch"))
        if self.losses:
            last = min(100, len(self.losses))
            mean = f", the mean of the last {last}" if last > 1 else ""
            parts.append(f"loss {short(self.mean_loss())}{mean}")
        if self.evaluations:
            parts.append(described(self.evaluations[-1][1]))
        parts.append(f"{self.seconds:.3g} s")
        if self.stopped:
            parts.append(f"stopped: {self.stopped}")
        return f"<History: {'; '.join(parts)}>"


def many(count: int, what: str) -> str:
    """Return "1 step", "1,000 steps"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def short(value: float) -> str:
    """Return four significant digits."""
    return f"{value:#.4g}" if abs(value) < 9999.5 else f"{value:,.4g}"


def described(value: Value) -> str:
    """Return an evaluation in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {short(x)}" for name, x in value.items())
    return f"evaluation {short(value)}"


def numbers(value: Any) -> Value:
    """Return what `evaluate` returned as a float, or as a dict of floats."""
    try:
        if isinstance(value, dict) and value:
            return {str(name): float(x) for name, x in value.items()}
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"fit: evaluate must return a number or a dict of numbers, not {value!r:.60}"
        ) from error


def number(value: Value, name: str | None) -> float:
    """Return the one of an evaluation's numbers that is meant.

    Without a name: the only one there is, or that called "loss".
    """
    if isinstance(value, float):
        return value
    if name is None:
        name = next(iter(value)) if len(value) == 1 else "loss"
    if name not in value:
        raise ValueError(
            f"evaluate returns {', '.join(map(repr, value))} and no {name!r}: choose with monitor="
        )
    return value[name]
