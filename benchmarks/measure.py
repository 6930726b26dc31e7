"""Timing side by side: candidates take turns, so that a machine's drift meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Run = Callable[[], object]


def calls_per_turn(run: Run, turn_seconds: float) -> int:
    """Return how many calls of `run` fill a turn, after warming it up."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    run()
    once = max(time.perf_counter() - start, 1e-7)
    return max(1, int(turn_seconds / once))


def interleaved(
    candidates: Mapping[str, Run], seconds: float = 2.0, turn_seconds: float = 0.02
) -> dict[str, float]:
    """Return the median time of one call of each candidate, in seconds.

    A turn is a burst of calls of `turn_seconds` (at least one); candidates take turns until
    `seconds` have passed for each, with five turns at the least.
    """
    counts = {name: calls_per_turn(run, turn_seconds) for name, run in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds * len(candidates)
    while time.perf_counter() < end or any(len(t) < 5 for t in times.values()):
        for name, run in candidates.items():
            n = counts[name]
            start = time.perf_counter()
            for _ in range(n):
                run()
            times[name].append((time.perf_counter() - start) / n)
    return {name: sorted(t)[len(t) // 2] for name, t in times.items()}


def show(seconds: float) -> str:
    """Format a time with a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds / 1e-9:,.0f} ns"
