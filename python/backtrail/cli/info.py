"""`backtrail info`: version, machine, threads and build."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

import backtrail as bt
from backtrail import _core

from .arguments import Commands, Parser
from .text import entry

ISA = {
    "v2": "SSE4.2 (x86-64-v2)",
    "v3": "AVX2 and FMA (x86-64-v3)",
    "v4": "AVX-512 (x86-64-v4)",
    "base": "the compiler's default",
}


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "info",
        help="show version, machine, threads and build",
        description="Show what to say about this machine when reporting a problem or a speed.",
    )
    parser.set_defaults(run=run, parser=parser)


def machine() -> str:
    """Return version, instruction set and threads in a few words."""
    threads = bt.get_num_threads()
    isa = ISA.get(_core.build_info()["isa"], "").split(" (")[0]
    return f"Backtrail {bt.__version__}, {isa}, {threads} thread{'' if threads == 1 else 's'}"


def processor() -> str:
    """Return the name of the processor, as far as the system knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load() -> str:
    """Return how much work waits for the processor: a speed measured beside it is none."""
    try:
        averages = os.getloadavg()
    except OSError:
        return ""
    return ", ".join(f"{x:.2f}" for x in averages) + " (processes at work, of 1, 5, 15 minutes)"


def numpy_version() -> str:
    """Return NumPy's version without importing it."""
    try:
        return importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def run(args: argparse.Namespace) -> int:
    build = _core.build_info()
    others = [isa for isa in build["available"].split() if isa != build["isa"]]
    lines = {
        "version": bt.__version__,
        "processor": processor(),
        "instructions": ISA.get(build["isa"], build["isa"]),
        "also built in": ", ".join(ISA.get(isa, isa) for isa in others),
        "threads": f"{bt.get_num_threads()} of {os.cpu_count()} cores",
        "load": load(),
        "compiler": f"GCC {build['compiler']}, OpenMP {build['openmp']}",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy": numpy_version(),
        "installed in": os.path.dirname(bt.__file__),
    }
    for name, value in lines.items():
        if value:
            print(entry(name, value, indent=14))
    return 0
