"""The picture of a run: loss and evaluations, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from .history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTS, LINE = "#4c78a8", "#1f3b5c"
METRICS = ("#d1495b", "#2a9d8f", "#8e6bb0", "#e09f3e", "#6c757d")
MOST_DOTS = 5000  # more points than pixels would only take time


def draw(history: History, axes: Axes | None = None) -> Axes:
    """Draw on the axes given, or on new ones of pyplot; return them.

    What `evaluate` returned is drawn beside the loss where it is called so or has no name, and
    with a scale of its own on the right where it is something else, such as an accuracy.
    """
    if axes is None:
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError(
                'plot: matplotlib is missing; pip install "backtrail[plot]" brings it'
            ) from None
        axes = pyplot.subplots(figsize=(7.5, 4.4), layout="constrained")[1]
    losses = history.losses
    steps = range(1, len(losses) + 1)
    every = 1 + len(losses) // MOST_DOTS
    axes.scatter(
        steps[::every], losses[::every], s=6, color=DOTS, alpha=0.35, linewidths=0, label="loss"
    )
    if len(losses) > 2:
        average = smooth(smooth(losses))
        axes.plot(steps, average, color=LINE, linewidth=2, label="moving average")
    lines: dict[str, list[tuple[int, float]]] = {}
    for step, value in history.evaluations:
        for name, x in value.items() if isinstance(value, dict) else [("evaluation", value)]:
            lines.setdefault(name, []).append((step, x))
    right = None
    for (name, points), color in zip(lines.items(), METRICS * len(lines), strict=False):
        if name == "evaluation" or "loss" in name:
            on = axes
        else:
            right = on = right or axes.twinx()
        at, values = zip(*points, strict=True)
        on.plot(at, values, "o-", markersize=3.5, linewidth=1.5, color=color, label=name)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.set_xlim(0, len(losses) + 1)
    axes.spines["top"].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    if right is None:
        axes.spines["right"].set_visible(False)
    else:
        right.spines["top"].set_visible(False)
        others = right.get_legend_handles_labels()
        right.set_ylabel(", ".join(others[1]))
        handles, labels = handles + others[0], labels + others[1]
    axes.legend(
        handles,
        labels,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1.01, 0.99),
        ncols=len(labels),
        markerscale=1.5,
    )
    return axes


def smooth(values: Sequence[float]) -> list[float]:
    """Return moving averages over a twentieth of the values, over fewer near the two ends."""
    reach = len(values) // 40
    sums = list(accumulate(values, initial=0.0))
    windows = [(max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in windows]
