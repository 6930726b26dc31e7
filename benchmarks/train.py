"""Whole training steps side by side: captured, eager, PyTorch, torch.compile, and JAX.

    python benchmarks/train.py [workload ...] [--all] [--torch-compile] [--threads N] [--json FILE]

A step is forward, backward and optimizer (workloads.py; for JAX, one jitted program of all three,
workloads_jax.py). Backtrail captured is `bt.compile` of it; with --torch-compile, `torch.compile`
of it is measured too, whose first call takes seconds to minutes. GPT-2 takes gigabytes in each
process: it is measured when named, or with --all.

Each library and mode runs in a new process for each workload, and they take turns. Printed are

- the median time of a step, and how many times longer it is than the captured one;
- the share of the machine's most multiply-adds a second, as limits.cpp measures it: the operations
  are those that the captured plan counts (of products, and one an element for all else), also for
  the other columns. No step reaches it all: not every operation is a multiply-add;
- what the first call of a compiled step takes on top of a later one (captured: on top of an eager
  one, which it is), with no caches of earlier runs, the optimizer's state already there;
- the most memory that the process had, Python, the library and its compilers' own included (but not
  the processes that torch.compile starts to compile), and the captured one's in proportion.

The processes may run on as many CPUs as there are threads, which is what JAX goes by; Backtrail and
PyTorch are told the number too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from limits import measured_limits
from measure import Candidate, Run, finish, interleaved, known, serve, show
from workloads import WORKLOADS

COMPILED = ("captured", "torch.compile", "jax")


def maker(column: str) -> Callable[[str], Run]:
    """Return the function that makes a workload's step: "captured", "eager", "torch", ..."""
    if column == "jax":
        in_jax = importlib.import_module("workloads_jax").WORKLOADS
        return lambda name: in_jax[name]()
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    warnings.filterwarnings("ignore", ".*force_disable_caches")
    module: Any = importlib.import_module("torch" if column.startswith("torch") else "backtrail")
    module.set_num_threads(len(os.sched_getaffinity(0)))

    def make(name: str) -> Run:
        module.manual_seed(0)
        step = WORKLOADS[name](module)
        if column not in COMPILED:
            return step
        step()  # the optimizer makes its state
        return module.compile(step)

    return make


def operations(run: Any) -> dict[str, Any]:
    """The operations of a step, where it is a captured one."""
    return {"flops": run.plan.flops} if hasattr(run, "plan") else {}


def measure(columns: list[str], name: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Return for each column that could be measured the seconds of a step, and the other facts."""
    candidates = {}
    for c in columns:
        candidates[c] = Candidate([__file__, "--serve", c])
        candidates[c].ask(facts=True)  # when its library is loaded, the next one may begin
    medians = interleaved(candidates, name, seconds)
    facts = {c: {"seconds": medians[c], **candidates[c].ask(facts=True)} for c in medians}
    for candidate in candidates.values():
        candidate.close()
    for c in facts:
        first = facts[c].pop("first call") - medians["eager" if c == "captured" else c]
        if c in COMPILED:
            facts[c]["first call"] = max(0.0, first)
    return facts


def table(facts: Mapping[str, Mapping[str, Any]], peak: float | None) -> dict[str, dict[str, str]]:
    """Return the lines of a workload: for each its label, and a cell for each column."""
    ours, lines = facts["captured"], {}
    lines["step"] = {c: show(f["seconds"]) for c, f in facts.items()}
    ratios = {c: f["seconds"] / ours["seconds"] for c, f in facts.items() if c != "captured"}
    lines["captured is faster"] = {c: f"{ratio:,.1f} x" for c, ratio in ratios.items()}
    if peak is not None:
        shares = {c: ours["flops"] / f["seconds"] / peak for c, f in facts.items()}
        lines["of peak FLOP/s"] = {c: f"{share * 100:.2g}%" for c, share in shares.items()}
    lines["first call"] = {c: show(f["first call"]) for c, f in facts.items() if "first call" in f}
    memory = {c: f["memory"] for c, f in facts.items() if f["memory"] is not None}
    if "captured" in memory:
        needs = {c: ours["memory"] / m for c, m in memory.items() if c != "captured"}
        lines["peak memory"] = {c: f"{m / 1e6:,.0f} MB" for c, m in memory.items()}
        lines["captured needs of it"] = {c: f"{share:.0%}" for c, share in needs.items()}
    return lines


def columns_of(args: argparse.Namespace) -> list[str]:
    """The columns that are asked for and can be measured; says which of them cannot."""
    columns = ["captured", "eager"]
    for library, unwanted in (("torch", args.no_torch), ("jax", args.no_jax)):
        if not unwanted and importlib.util.find_spec(library) is None:
            print(f"{library} is not installed: it is left out")
        elif not unwanted:
            columns.append(library)
    if args.torch_compile and "torch" in columns:
        if shutil.which(os.environ.get("CXX", "g++").split()[0]) is None:
            print("no C++ compiler: torch.compile is left out")
        else:
            columns.insert(columns.index("torch") + 1, "torch.compile")
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps: captured, eager, PyTorch, JAX.")
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--all", action="store_true", help="all of them, gpt2 too")
    parser.add_argument("--torch-compile", action="store_true", help="measure torch.compile too")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--no-jax", action="store_true", help="leave JAX out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0, help="a candidate's time in a row")
    parser.add_argument("--json", type=Path, help="keep the figures, in seconds and bytes, here")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(maker(args.serve), operations)
    known(parser, args.workloads, WORKLOADS)
    cpus = sorted(os.sched_getaffinity(0))
    if not 1 <= args.threads <= len(cpus):
        parser.error(f"--threads {args.threads}: this process may use 1 to {len(cpus)} CPUs")
    os.sched_setaffinity(0, cpus[: args.threads])  # the processes started here inherit it
    names = args.workloads or [name for name in WORKLOADS if name != "gpt2"]

    from backtrail._core import build_info

    columns, isa, load = columns_of(args), build_info()["isa"], os.getloadavg()[0]
    limits = measured_limits(args.threads, isa, 0.5)
    peak = None if limits is None else limits["flops"]
    print(f"{args.threads} thread{'s' * (args.threads > 1)}, instruction set {isa}", end="")
    print(f", peak {peak / 1e9:.0f} GFLOP/s" if peak is not None else "", end="\n\n")
    if load > 0.5:
        print(f"load average {load:.1f}: other work slows those most whose threads wait in step\n")
    print(f"{'':36s}" + "".join(f"{c:>15s}" for c in columns))
    rows = {}
    for name in list(WORKLOADS) if args.all else names:
        rows[name] = measure(columns, name, args.seconds)
        lines = table(rows[name], peak)
        for head, (label, cells) in zip([name, *[""] * len(lines)], lines.items(), strict=False):
            text = "".join(f"{cells.get(c, ''):>15s}" for c in columns)
            print(f"{head:14s}{label:22s}{text.rstrip()}", flush=True)
    finish({}, {"threads": args.threads, "isa": isa, "limits": limits, "rows": rows}, args.json)
    return None


if __name__ == "__main__":
    main()
