"""Eager speed, side by side: overheads of an operation, and training steps.

    python benchmarks/eager.py [workload ...] [--seconds 2] [--json FILE]

Measures Backtrail, PyTorch where it is installed, and for the GPT of `backtrail train` plain Python
(benchmarks/pure_python.py), in turns in one process; prints medians and ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrail
import pure_python
from measure import interleaved, show
from workloads import WORKLOADS

Run = Callable[[], object]


def overheads(torch: Any) -> dict[str, Run]:
    """Make the operations whose cost is nearly all overhead."""
    few = [torch.randn(10, requires_grad=True) for _ in range(2)]
    more = [torch.randn(1000, requires_grad=True) for _ in range(2)]
    return {
        "x + y, 10 floats, recorded": lambda: few[0] + few[1],
        "x + y, 1,000 floats, recorded": lambda: more[0] + more[1],
        "(x * y).sum().backward(), 1,000": lambda: (more[0] * more[1]).sum().backward(),
    }


def plain_python_step() -> Run:
    """Make a training step of the same GPT, on a document of 8 tokens, in plain Python."""
    rng = random.Random(0)
    model = pure_python.GPT(27, 16, 16, 4, 1).draw(rng)
    optimizer = pure_python.Adam(model.parameters())
    tokens = [rng.randrange(27) for _ in range(9)]
    return lambda: pure_python.train_step(model, optimizer, tokens, 0.01)


def rows(libraries: dict[str, Any], names: list[str]) -> dict[str, dict[str, Run]]:
    """Return the candidates of every row of the table."""
    made = {library: overheads(module) for library, module in libraries.items()}
    table = {row: {lib: made[lib][row] for lib in libraries} for row in made["backtrail"]}
    for name in names:
        table[name] = {lib: WORKLOADS[name](module) for lib, module in libraries.items()}
        if name == "microgpt":
            table[name]["python"] = plain_python_step()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Eager speed against PyTorch and plain Python.")
    parser.add_argument("workloads", nargs="*", default=["micrograd", "microgpt", "mlp"])
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate's time in a row")
    parser.add_argument("--json", type=Path, help="keep the medians, in seconds, in this file")
    args = parser.parse_args()
    for name in args.workloads:
        if name not in WORKLOADS:
            parser.error(f"unknown workload {name!r}; there are: {', '.join(WORKLOADS)}")

    libraries: dict[str, Any] = {"backtrail": backtrail}
    try:
        libraries["torch"] = importlib.import_module("torch")
    except ImportError:
        print("PyTorch is not installed: its column is left out", file=sys.stderr)
    for module in libraries.values():
        module.manual_seed(0)

    info = backtrail._core.build_info()
    print(f"backtrail {info['version']}, {info['isa']}, {backtrail.get_num_threads()} threads")
    columns = [*libraries, "python"]
    print(f"{'':34s}" + "".join(f"{c:>14s}" for c in columns) + "   times faster")
    results = {}
    for row, candidates in rows(libraries, args.workloads).items():
        medians = interleaved(candidates, args.seconds)
        results[row] = medians
        ours = medians["backtrail"]
        cells = "".join(f"{show(medians[c]) if c in medians else '':>14s}" for c in columns)
        ratios = ", ".join(f"{medians[c] / ours:,.1f} ({c})" for c in columns[1:] if c in medians)
        print(f"{row:34s}{cells}   {ratios}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
