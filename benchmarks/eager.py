"""Eager speed, side by side: overheads of an operation, and training steps.

    python benchmarks/eager.py [workload ...] [--seconds 2] [--json FILE]

Measures Backtrail, PyTorch where it is installed, and for the GPT of `backtrail train` plain Python
(benchmarks/pure_python.py), in turns; prints medians and how many times faster Backtrail is.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
from pathlib import Path
from typing import Any

import pure_python
from measure import Candidate, Run, finish, interleaved, known, serve, show
from workloads import WORKLOADS

OVERHEADS = (
    "x + y, 10 floats, recorded",
    "x + y, 1,000 floats, recorded",
    "(x * y).sum().backward(), 1,000",
)


def overhead(torch: Any, row: str) -> Run:
    """Make an operation whose cost is nearly all overhead."""
    n = 10 if "10 floats" in row else 1000
    x, y = (torch.randn(n, requires_grad=True) for _ in range(2))
    if "backward" in row:
        return lambda: (x * y).sum().backward()
    return lambda: x + y


def plain_python_step() -> Run:
    """Make a training step of the same GPT, on a document of 8 tokens, in plain Python."""
    rng = random.Random(0)
    model = pure_python.GPT(27, 16, 16, 4, 1).draw(rng)
    optimizer = pure_python.Adam(model.parameters())
    tokens = [rng.randrange(27) for _ in range(9)]
    return lambda: pure_python.train_step(model, optimizer, tokens, 0.01)


def maker(library: str) -> Any:
    """Return the function that makes a row's candidate of a library."""
    if library == "python":
        return lambda row: plain_python_step() if row == "microgpt" else None
    module = importlib.import_module(library)
    module.manual_seed(0)
    return lambda row: overhead(module, row) if row in OVERHEADS else WORKLOADS[row](module)


def main() -> None:
    parser = argparse.ArgumentParser(description="Eager speed against PyTorch and plain Python.")
    parser.add_argument("workloads", nargs="*", default=["micrograd", "microgpt", "mlp"])
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate's time in a row")
    parser.add_argument("--json", type=Path, help="keep the medians, in seconds, in this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(maker(args.serve))
    known(parser, args.workloads, WORKLOADS)

    columns = ["backtrail", "torch", "python"]
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its column is left out")
        columns.remove("torch")
    candidates = {c: Candidate([__file__, "--serve", c]) for c in columns}
    print(f"{'':34s}" + "".join(f"{c:>14s}" for c in columns) + "   times faster")
    results = {}
    for row in (*OVERHEADS, *args.workloads):
        medians = results[row] = interleaved(candidates, row, args.seconds)
        ours = medians["backtrail"]
        cells = "".join(f"{show(medians[c]) if c in medians else '':>14s}" for c in columns)
        ratios = ", ".join(f"{medians[c] / ours:,.1f} ({c})" for c in columns[1:] if c in medians)
        print(f"{row:34s}{cells}   {ratios}", flush=True)
    finish(candidates, results, args.json)
    return None


if __name__ == "__main__":
    main()
