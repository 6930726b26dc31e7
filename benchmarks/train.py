"""Whole training steps side by side: captured, eager, and PyTorch.

    python benchmarks/train.py [workload ...] [--all] [--torch-compile] [--seconds 2] [--json FILE]

A step is forward, backward and optimizer (workloads.py). Backtrail captured is `bt.compile` of it;
with --torch-compile the same is done with PyTorch, whose first call takes seconds to minutes.
Prints medians of turns, each library and mode in a process of its own; how many times faster the
captured step is; and what a first call, which runs the step and makes the plan, takes on top of an
eager step. GPT-2 takes gigabytes in each process: it is measured when named, or with --all.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Candidate, Run, finish, interleaved, known, serve, show
from workloads import WORKLOADS

FIRST_CALL = ", first call"


def maker(column: str) -> Callable[[str], Run]:
    """Return the function that makes a row's candidate: "captured", "eager", "torch", ..."""
    module: Any = importlib.import_module("torch" if column.startswith("torch") else "backtrail")

    def make(row: str) -> Run:
        module.manual_seed(0)
        step = WORKLOADS[row.removesuffix(FIRST_CALL)](module)
        if column in ("eager", "torch"):
            return step
        step()  # the optimizer makes its state
        if row.endswith(FIRST_CALL):
            return lambda: module.compile(step)()
        return module.compile(step)

    return make


def measure(candidates: dict[str, Candidate], name: str, seconds: float) -> dict[str, float]:
    """Return the median seconds of a step in each column, and of a capture on top of one."""
    medians = interleaved(candidates, name, seconds)
    ours = {c: candidates[c] for c in ("captured", "eager")}
    first = interleaved(ours, name + FIRST_CALL, seconds / 2)
    return {**medians, "first call": max(0.0, first["captured"] - first["eager"])}


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps: captured, eager, PyTorch.")
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--all", action="store_true", help="all of them, gpt2 too")
    parser.add_argument("--torch-compile", action="store_true", help="measure torch.compile too")
    parser.add_argument("--no-torch", action="store_true", help="measure Backtrail alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate's time in a row")
    parser.add_argument("--json", type=Path, help="keep the medians, in seconds, in this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(maker(args.serve))
    known(parser, args.workloads, WORKLOADS)
    names = args.workloads or [name for name in WORKLOADS if name != "gpt2"]

    columns = ["captured", "eager", "torch", *(["torch.compile"] if args.torch_compile else [])]
    if args.no_torch or importlib.util.find_spec("torch") is None:
        if not args.no_torch:
            print("PyTorch is not installed: its columns are left out")
        columns = columns[:2]
    candidates = {c: Candidate([__file__, "--serve", c]) for c in columns}
    cells = "".join(f"{c:>14s}" for c in [*columns, "first call"])
    print(f"{'':14s}{cells}   captured is faster than")
    results = {}
    for name in list(WORKLOADS) if args.all else names:
        row = results[name] = measure(candidates, name, args.seconds)
        cells = "".join(f"{show(row[c]):>14s}" for c in columns) + f"{show(row['first call']):>14s}"
        ratios = ", ".join(f"{c} {row[c] / row['captured']:,.1f} x" for c in columns[1:])
        print(f"{name:14s}{cells}   {ratios}", flush=True)
    finish(candidates, results, args.json)
    return None


if __name__ == "__main__":
    main()
