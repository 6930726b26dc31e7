"""`backtrail info`: version, instruction set, threads and build."""

from __future__ import annotations

import argparse
import os
import platform

import backtrail as bt
from backtrail import _core

from .arguments import Commands, Parser

ISA = {
    "v2": "SSE4.2 (x86-64-v2)",
    "v3": "AVX2 and FMA (x86-64-v3)",
    "v4": "AVX-512 (x86-64-v4)",
    "base": "the compiler's default",
}


def add_parser(commands: Commands[Parser]) -> None:
    parser = commands.add_parser(
        "info",
        help="show version, instruction set, threads and build",
        description="Show what to say about this machine when reporting a problem or a speed.",
    )
    parser.set_defaults(run=run)


def machine() -> str:
    """Return version, instruction set and threads in a few words."""
    threads = bt.get_num_threads()
    isa = ISA.get(_core.build_info()["isa"], "").split(" (")[0]
    return f"Backtrail {bt.__version__}, {isa}, {threads} thread{'' if threads == 1 else 's'}"


def run(args: argparse.Namespace) -> int:
    build = _core.build_info()
    others = [isa for isa in build["available"].split() if isa != build["isa"]]
    lines = {
        "version": bt.__version__,
        "instructions": ISA.get(build["isa"], build["isa"]),
        "also built in": ", ".join(ISA.get(isa, isa) for isa in others),
        "threads": f"{bt.get_num_threads()} of {os.cpu_count()} cores",
        "compiler": f"GCC {build['compiler']}, OpenMP {build['openmp']}",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "installed in": os.path.dirname(bt.__file__),
    }
    for name, value in lines.items():
        if value:
            print(f"{name:13s} {value}")
    return 0
