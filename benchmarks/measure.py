"""Timing side by side: candidates take turns, each in a process of its own.

In turns, so that a machine's drift meets all of them; in processes, so that the waiting threads of
one library do not spin on the cores that another is measured on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[], object]
REST = 0.04  # seconds before a turn, in which the threads of the one before it fall asleep
# NumPy's would spin for 0.1 s and more, on a core that another library is measured on.
SOON_ASLEEP = {"OPENBLAS_THREAD_TIMEOUT": "20"}


class Candidate:
    """A process that runs `serve`; it sleeps until it is its turn."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **SOON_ASLEEP},
        )

    def ask(self, **request: Any) -> Any:
        """Send a request and return the answer; None when the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def peak_memory() -> int | None:
    """The most bytes that this process has had in memory; None where the system does not say."""
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def serve(
    make: Callable[[str], Run | None], about: Callable[[Run], dict[str, Any]] | None = None
) -> None:
    """Answer requests on standard input: make a row's function, time a burst of calls of it.

    A request for facts is answered with the seconds of its first call, the peak of the process's
    memory, and what `about` knows of the function.
    """
    run: Run | None = None
    first = 0.0
    for line in sys.stdin:
        request = json.loads(line)
        if "row" in request:
            run = None  # its memory is free before the next one's is needed
            run = make(request["row"])
            if run is not None:
                start = time.perf_counter()
                run()
                first = time.perf_counter() - start
                for _ in range(2):  # warm
                    run()
            print(json.dumps({"there": run is not None}), flush=True)
        elif "facts" in request:
            facts = {"first call": first, "memory": peak_memory()}
            print(json.dumps({**facts, **(about(run) if about and run else {})}), flush=True)
        else:
            assert run is not None
            run()  # the threads are awake, each on its core
            start, calls = time.perf_counter(), 0
            while calls == 0 or time.perf_counter() - start < request["burst"]:
                run()
                calls += 1
            print(json.dumps((time.perf_counter() - start) / calls), flush=True)


def interleaved(
    candidates: Mapping[str, Candidate],
    row: str,
    seconds: float = 2.0,
    burst: float = 0.05,
    best: bool = False,
) -> dict[str, float]:
    """Return the median time of one call of a row for each candidate that has it, in seconds.

    A turn is a burst of calls of `burst` seconds, at least one; turns go round until `seconds` have
    passed for each candidate, five times at the least. With `best` the shortest turn counts, which
    other work on the machine disturbs least.
    """
    answers = {name: c.ask(row=row) for name, c in candidates.items()}
    there = {name: c for name, c in candidates.items() if (answers[name] or {}).get("there")}
    times: dict[str, list[float]] = {name: [] for name in there}
    end = time.perf_counter() + seconds * len(there)
    while time.perf_counter() < end or any(len(t) < 5 for t in times.values()):
        for name, candidate in there.items():
            time.sleep(REST)
            times[name].append(candidate.ask(burst=burst))
    return {name: min(t) if best else sorted(t)[len(t) // 2] for name, t in times.items()}


def show(seconds: float) -> str:
    """Format a time with a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds / 1e-9:,.0f} ns"


def known(
    parser: argparse.ArgumentParser, names: Sequence[str], all_names: Collection[str]
) -> None:
    """End the program with a message for the first name that there is no workload of."""
    for name in names:
        if name not in all_names:
            parser.error(f"unknown workload {name!r}; there are: {', '.join(all_names)}")


def finish(candidates: Mapping[str, Candidate], results: Any, path: Path | None) -> None:
    """End the processes, and keep the results in a file when one was asked for."""
    for candidate in candidates.values():
        candidate.close()
    if path is not None:
        path.write_text(json.dumps(results, indent=2))
