"""The picture of a run of the command line: its history, and what guessing would do."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from backtrail.train import History


def picture_of(out: Path) -> Path:
    """Return where the picture goes of a model in `out`."""
    path = out.with_suffix(".png")
    return out.with_name(out.name + ".png") if path == out else path


def save_loss_curve(history: History, out: Path, title: str, vocab_size: int) -> str:
    """Draw the run as a PNG beside the checkpoint `out`; return its path or how to get one."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'none without matplotlib: pip install "backtrail[plot]" brings it'
    figure = Figure(figsize=(7.5, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = history.plot(figure.add_subplot())
    guessing = math.log(vocab_size)
    axes.axhline(guessing, color="#b0552b", linewidth=1, linestyle="--")
    axes.annotate(
        f"guessing blindly: ln {vocab_size} = {guessing:.2f}",
        (1, guessing),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color="#b0552b",
        fontsize=9,
    )
    # Above the legend; and "$" in a file's name is no formula.
    axes.set_title(title, loc="left", fontsize=11, pad=24, parse_math=False)
    axes.set_ylabel("loss (nats per character)")
    path = picture_of(out)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name in letters that the font does not have
            figure.savefig(path)
    except OSError as error:
        return f"not written: {error}"
    return str(path)
