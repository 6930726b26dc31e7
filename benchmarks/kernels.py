"""Kernels, side by side and against the machine: speed, ratio, and the share of what is possible.

    python benchmarks/kernels.py [part of a row's name ...] [--threads 1] [--json F] [--plot F]
    python benchmarks/kernels.py --sweep [part of a row's name ...]

Measures Backtrail, PyTorch where it is installed, and NumPy in turns, each in a process of its own,
and the machine's limits (benchmarks/limits.cpp: multiply-adds in registers, and bytes by size of
the working set) in the same run. A kernel's limit is the time that its arithmetic or its traffic
must take, whichever is longer; `of limit` is that time over ours. The shortest turn of each counts.
Rates of the caches hold for data that lies in them, so the share of a small kernel is an estimate.

`--sweep` runs many sizes and lists those where PyTorch is faster, worst first. BACKTRAIL_ISA
chooses our instruction set, and the limit's with it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernel_rows import KERNELS, Row
from limits import measured_limits
from measure import Candidate, Run, finish, interleaved, serve, show
from sweep_rows import SWEEP

LIBRARIES = ("backtrail", "torch", "numpy")
# Working sets whose bandwidth is measured: in the caches of first to last level, and in memory.
WORKING_SETS = tuple(1 << n for n in (15, 17, 19, 20, 21, 22, 23, 24, 25, 26, 28))


def maker(library: str, threads: int) -> Any:
    """Return the function that makes a row's call for a library."""
    rows = {row.name: row for row in (*KERNELS, *SWEEP)}
    module = importlib.import_module(library)
    if library != "numpy":
        module.set_num_threads(threads)
        module.manual_seed(0)

    def make(name: str) -> Run | None:
        row = rows[name]
        build = row.numpy if library == "numpy" else row.make
        if build is None:
            return None
        with contextlib.suppress(AttributeError):  # a library that does not have it
            run = build(module)
            run()
            return run
        return None

    return make


def bandwidth(limits: dict[str, Any], row: Row) -> float:
    """The bytes a second of a working set of the row's size, between the sizes measured."""
    sizes = sorted(limits["bytes"])
    rates = [limits["bytes"][size][row.traffic] for size in sizes]
    above = next((i for i, size in enumerate(sizes) if size >= row.bytes), None)
    if above is None or above == 0:
        return float(rates[-1 if above is None else 0])
    low, high = sizes[above - 1], sizes[above]
    part = (row.bytes - low) / (high - low)
    return float(rates[above - 1] * (1 - part) + rates[above] * part)


def limit_time(limits: dict[str, Any] | None, row: Row) -> float | None:
    """The least time of a row, in seconds; None where it is not known."""
    if limits is None or row.peak not in limits or not (row.flops and row.bytes):
        return None
    return max(row.flops / float(limits[row.peak]), row.bytes / bandwidth(limits, row))


def chosen(rows: Sequence[Row], parts: Sequence[str]) -> list[Row]:
    return [row for row in rows if not parts or any(part in row.name for part in parts)]


def rate(row: Row, seconds: float) -> str:
    """The figure that a row is judged by: arithmetic where that decides, else bytes."""
    if row.group not in ("elementwise", "rows", "optimizer"):
        return f"{row.flops / seconds / 1e9:.4g} GFLOP/s"
    return f"{row.bytes / seconds / 1e9:.4g} GB/s"


def table(
    rows: Sequence[Row],
    candidates: dict[str, Candidate],
    limits: dict[str, Any] | None,
    seconds: float,
) -> dict[str, Any]:
    """Measure and print the rows that we have; return their figures."""
    peers = [name for name in candidates if name != "backtrail"]
    heads = [*candidates, *(f"/{name}" for name in peers), "rate", "of limit"]
    print(f"{'':36s}" + "".join(f"{head:>{width(head)}s}" for head in heads))
    results: dict[str, Any] = {}
    for row in rows:
        times = interleaved(candidates, row.name, seconds, burst=0.02, best=True)
        if "backtrail" not in times:
            continue
        ours, least = times["backtrail"], limit_time(limits, row)
        cells = [show(times[name]) if name in times else "" for name in candidates]
        cells += [f"{times[p] / ours:.2f}" if p in times else "" for p in peers]
        cells += [rate(row, ours), f"{least / ours:.0%}" if least else ""]
        line = "".join(f"{cell:>{width(head)}s}" for cell, head in zip(cells, heads, strict=True))
        print(f"{row.name:36s}{line}", flush=True)
        results[row.name] = {"seconds": times, "limit": least}
    return results


def width(head: str) -> int:
    return 16 if head == "rate" else 9 if head.startswith("/") else 11


def sweep(rows: Sequence[Row], candidates: dict[str, Candidate], seconds: float) -> dict[str, Any]:
    """Measure the rows of a sweep; print those where PyTorch is faster, worst first."""
    results: dict[str, Any] = {}
    for i, row in enumerate(rows):
        times = interleaved(candidates, row.name, seconds, burst=0.005, best=True)
        if len(times) == 2:
            results[row.name] = {"seconds": times}
        if sys.stderr.isatty():
            print(f"\r{i + 1} of {len(rows)}", end="", file=sys.stderr, flush=True)
    pairs = {name: r["seconds"] for name, r in results.items()}
    slower = [name for name, t in pairs.items() if t["backtrail"] > t["torch"]]
    slower.sort(key=lambda name: pairs[name]["torch"] / pairs[name]["backtrail"])
    print(f"\nslower than PyTorch in {len(slower)} of {len(pairs)} rows")
    for name in slower:
        t = pairs[name]
        print(
            f"{name:44s}{show(t['backtrail']):>12s}{show(t['torch']):>12s}"
            f"{t['torch'] / t['backtrail']:8.2f}"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Kernels against PyTorch, NumPy and the machine.")
    parser.add_argument("parts", nargs="*", help="measure the rows whose name has one of these")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, help="a candidate's time in a row")
    parser.add_argument("--sweep", action="store_true", help="many sizes; list where we are slower")
    parser.add_argument("--json", type=Path, help="keep the times, in seconds, in this file")
    parser.add_argument("--plot", type=Path, help="draw the roofline (needs matplotlib)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    if args.serve:
        return serve(maker(args.serve, args.threads))

    libraries = [name for name in LIBRARIES if importlib.util.find_spec(name) is not None]
    if "torch" not in libraries:
        print("PyTorch is not installed: its column is left out")
    if args.sweep:
        if "torch" not in libraries:
            parser.error("--sweep compares with PyTorch, which is not installed")
        libraries = ["backtrail", "torch"]
    rows = chosen(SWEEP if args.sweep else KERNELS, args.parts)
    if not rows:
        parser.error(f"no row has any of {args.parts} in its name")

    from backtrail._core import build_info

    isa = build_info()["isa"]
    limits = None if args.sweep else measured_limits(args.threads, isa, 0.2, WORKING_SETS)
    print(f"{args.threads} thread{'s' * (args.threads > 1)}, instruction set {isa}")
    if limits is not None:
        memory = max(limits["bytes"][WORKING_SETS[-1]].values())
        print(f"limits: {limits['flops'] / 1e9:.0f} GFLOP/s, memory {memory / 1e9:.0f} GB/s\n")
    serving = ["--threads", str(args.threads), "--serve"]
    candidates = {name: Candidate([__file__, *serving, name]) for name in libraries}
    if args.sweep:
        results = sweep(rows, candidates, args.seconds or 0.05)
    else:
        results = table(rows, candidates, limits, args.seconds or 1.0)
    found = {"threads": args.threads, "isa": isa, "limits": limits, "rows": results}
    finish(candidates, found, args.json)
    if args.plot:
        from roofline import draw

        threads = f"{args.threads} thread{'s' * (args.threads > 1)}"
        draw(args.plot, rows, results, limits, f"{threads}, {isa}")
    return None


if __name__ == "__main__":
    main()
