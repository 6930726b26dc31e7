"""The picture of a run: its loss, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path


def save_loss_curve(losses: Sequence[float], out: Path, title: str, vocab_size: int) -> str:
    """Draw the losses as a PNG beside the checkpoint `out`; return its path or how to get one."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'none without matplotlib: pip install "backtrail[plot]" brings it'
    path = out.with_suffix(".png")
    if path == out:
        path = out.with_name(out.name + ".png")

    figure = Figure(figsize=(7.5, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    every = 1 + len(losses) // 5000  # more points than pixels would only take time
    steps = range(1, len(losses) + 1)
    axes.scatter(
        steps[::every],
        losses[::every],
        s=6,
        color="#4c78a8",
        alpha=0.35,
        linewidths=0,
        label="loss",
    )
    axes.plot(steps, smooth(smooth(losses)), color="#1f3b5c", linewidth=2, label="moving average")
    axes.axhline(math.log(vocab_size), color="#b0552b", linewidth=1, linestyle="--")
    axes.annotate(
        f"guessing blindly: ln {vocab_size} = {math.log(vocab_size):.2f}",
        (1, math.log(vocab_size)),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color="#b0552b",
        fontsize=9,
    )
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (nats per character)")
    axes.set_xlim(0, len(losses) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.legend(
        frameon=False, loc="lower right", bbox_to_anchor=(1.01, 0.99), ncols=2, markerscale=2
    )
    try:
        figure.savefig(path)
    except OSError as error:
        return f"not written: {error}"
    return str(path)


def smooth(values: Sequence[float]) -> list[float]:
    """Return moving averages over a twentieth of the values, over fewer near the two ends."""
    reach = len(values) // 40
    sums = list(accumulate(values, initial=0.0))
    windows = [(max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in windows]
