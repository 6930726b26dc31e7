"""The roofline: each kernel's speed over its arithmetic intensity, under the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, degrees, log10
from pathlib import Path
from typing import Any

from kernel_rows import Row

COLOURS = {
    "matmul": "#1f5fa8",
    "layer": "#3d9bd1",
    "elementwise": "#d1495b",
    "rows": "#e08e1b",
    "attention": "#6a4c93",
    "conv": "#2a7f62",
    "recurrent": "#7a8b2c",
    "optimizer": "#555555",
}


def draw(path: Path, rows: Sequence[Row], results: dict[str, Any], limits: Any, title: str) -> None:
    """Draw ours as discs with a number, PyTorch's as rings at the same intensity."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.name in results and row.flops and row.bytes]
    shown = [row for row in shown if row.peak == "flops"]
    if not shown:
        return
    figure, (axes, side) = plt.subplots(
        1, 2, figsize=(14, 8), width_ratios=(2.6, 1), layout="constrained"
    )
    points = [(row.flops / row.bytes, row) for row in shown]
    low, high = min(x for x, _ in points) / 2, max(x for x, _ in points) * 3
    speeds = [row.flops / results[row.name]["seconds"]["backtrail"] / 1e9 for row in shown]
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        ylim=(min(speeds) / 4, 2 * max(*speeds, limits["flops"] / 1e9 if limits else 0)),
        xlabel="arithmetic intensity, FLOP / byte that must move",
        ylabel="GFLOP/s",
        title=f"Backtrail (discs) and PyTorch (rings) under the roofline: {title}",
    )
    axes.grid(which="major", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    if limits is not None:
        _roofs(axes, limits, low, high)
    taken: list[tuple[float, float]] = []
    for number, ((x, row), y) in enumerate(zip(points, speeds, strict=True), 1):
        seconds, colour = results[row.name]["seconds"], COLOURS.get(row.group, "black")
        while any(abs(log10(x / a)) < 0.035 and abs(log10(y / b)) < 0.05 for a, b in taken):
            x *= 1.09  # beside one that lies there
        taken.append((x, y))
        if "torch" in seconds:
            peer = row.flops / seconds["torch"] / 1e9
            axes.plot([x, x], [peer, y], color=colour, lw=0.8, alpha=0.5, zorder=2)
            axes.plot(x, peer, "o", mfc="white", mec=colour, ms=6, zorder=3)
        axes.plot(x, y, "o", color=colour, ms=13, zorder=4)
        axes.annotate(
            str(number), (x, y), color="white", fontsize=7, ha="center", va="center", zorder=5
        )
    side.axis("off")
    for number, (_, row) in enumerate(points, 1):
        y = 1 - (number - 0.5) / max(len(points), 25)
        colour, result = COLOURS.get(row.group, "black"), results[row.name]
        side.plot(0.03, y, "o", color=colour, ms=12, transform=side.transAxes, clip_on=False)
        side.annotate(
            str(number),
            (0.03, y),
            xycoords="axes fraction",
            color="white",
            fontsize=7,
            ha="center",
            va="center",
        )
        share = ""
        if result["limit"]:
            share = f"{result['limit'] / result['seconds']['backtrail']:.0%}"
        side.text(0.08, y, row.name, fontsize=8.5, va="center", transform=side.transAxes)
        side.text(1.0, y, share, fontsize=8.5, va="center", ha="right", transform=side.transAxes)
    side.text(1.0, 1.01, "of its limit", fontsize=8.5, ha="right", transform=side.transAxes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _roofs(axes: Any, limits: Any, low: float, high: float) -> None:
    """The flat roof of arithmetic, and a slope for memory and for the caches."""
    peak = limits["flops"] / 1e9
    sizes, first = sorted(limits["bytes"]), high
    for size, text, style in (
        (sizes[-1], "memory", "-"),
        (min(sizes, key=lambda s: abs(s - (1 << 20))), "1 MB, in the caches", "--"),
    ):
        rate = limits["bytes"][size]["triad"] / 1e9
        ridge = peak / rate
        axes.plot([low, ridge], [low * rate, peak], style, color="0.3", lw=1.4, zorder=1)
        axes.annotate(
            f"{text}: {rate:.0f} GB/s",
            (low, low * rate),
            fontsize=9,
            color="0.3",
            rotation=_slope(axes, low, rate, peak),
            rotation_mode="anchor",
            xytext=(10, 20),
            textcoords="offset points",
        )
        first = min(first, ridge)
    axes.plot([min(first, high), high], [peak, peak], color="0.3", lw=1.4, zorder=1)
    axes.annotate(
        f"multiply-adds: {peak:.0f} GFLOP/s",
        (high, peak),
        ha="right",
        fontsize=9,
        color="0.3",
        xytext=(-4, 5),
        textcoords="offset points",
    )


def _slope(axes: Any, x: float, rate: float, peak: float) -> float:
    """The angle on the page, in degrees, of the line y = rate * x."""
    axes.figure.canvas.draw()  # lays it out
    (x0, y0), (x1, y1) = axes.transData.transform([(x, x * rate), (peak / rate, peak)])
    return degrees(atan2(y1 - y0, x1 - x0))
